"""`storestow migrate`: bring the ledger up to date while no worker runs, or say what that would do."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from pwd import getpwuid
from typing import Any

from pipeline.errors import Usage
from pipeline.ledger import FILE_NAME, Ledger
from pipeline.site.settings import Settings
from pipeline.site.site_ledger import connect
from pipeline.site.worker_state import sole_worker


def migrate(settings: Settings, *, dry_run: bool) -> dict[str, Any]:
    """Bring the ledger up to date unless `dry_run`, and return what that takes, in the shape of `migrate --json`.

    Raises Usage if the ledger belongs to another user, AnotherWorks if a worker runs, Configuration for one of a
    newer release, Transient if the disk has no room for the copy; nothing is changed then.
    """
    spool = settings.spool
    with closing(connect(settings)) as ledger:
        if not ledger.exists() or dry_run:
            return _plan(ledger)
        require_owner(spool.root / FILE_NAME)
        with sole_worker(spool):
            answer = _plan(ledger)
            if answer["version"] is not None:
                # Of a ledger on a server, the person who calls this has made the copy.
                ledger.create(has_copy=bool(settings.site.ledger))
    return {**answer, "done": bool(answer["steps"])}


def _plan(ledger: Ledger) -> dict[str, Any]:
    plan = ledger.upgrade_plan() if ledger.exists() else None
    if plan is None:
        return {"ledger": ledger.name, "version": None, "newest": None, "steps": [], "done": False}
    return {
        "ledger": ledger.name,
        "version": plan.version,
        "newest": plan.newest,
        "steps": [{"version": step.version, "name": step.name, "rows": step.rows} for step in plan.steps],
        "copy": plan.copy and str(plan.copy),
        "needed": plan.needed,
        "free": plan.free,
        "fits": plan.fits,
        "done": False,
    }


def require_owner(path: Path) -> None:
    """Raise Usage unless the caller owns the ledger: files made by root would keep the worker from starting."""
    if not path.exists():
        return
    owner = path.stat().st_uid
    if owner != os.geteuid():
        try:
            name = getpwuid(owner).pw_name
        except KeyError:
            name = f"#{owner}"
        words = " ".join(map(shlex.quote, sys.argv))
        raise Usage(f"{path} belongs to {name}; run this as that user: sudo -u {shlex.quote(name)} {words}")


def sentences(answer: dict[str, Any]) -> Iterator[str]:
    """Yield the answer as lines for a person."""
    if answer["version"] is None:
        yield f"{answer['ledger']} is not there yet, or empty: the first worker makes it"
        return
    if not answer["steps"]:
        yield f"{answer['ledger']} is up to date: version {answer['version']}"
        return
    is_done = answer["done"]
    verb = "was brought" if is_done else "would be brought"
    yield f"{answer['ledger']} {verb} from version {answer['version']} to {answer['newest']}"
    if answer["copy"] is None:
        yield "no copy is made on a server: pg_dump makes it, before `storestow migrate`"
    else:
        yield f"copy of it as it was: {answer['copy']}"
    for step in answer["steps"]:
        rows = f"{step['rows']} row{'' if step['rows'] == 1 else 's'} in its tables"
        yield f"  step {step['version']}: {step['name'].replace('-', ' ')} ({rows})"
    if not is_done:
        room = f"{_mib(answer['needed'])} MiB are needed in the spool, {_mib(answer['free'])} are free"
        if answer["copy"] is not None:
            yield room if answer["fits"] else f"{room}: too few, so it would be refused"
        yield "nothing was changed; stop worker and shim, then `storestow migrate`, or start the new worker"


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f}"
