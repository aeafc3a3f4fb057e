"""Settle arrivals that are finished, set aside those that cannot go on, and delete originals by age.

Where a folder lies tells the state of its arrival, whatever the ledger says. `account.json` in the folder tells
the state of its instances, so that a lost ledger can be made again (docs/design.md). The order of steps survives a
crash: a folder is moved before the ledger is updated, and files are deleted after it was updated.
"""

import contextlib
import json
import time
from typing import Any

from pydantic import TypeAdapter

from pipeline.events import Event, alarm, emit
from pipeline.ledger import Ledger, accounts, arrivals, unclaimed
from pipeline.line.admit import parse_arrival_name
from pipeline.line.identify import ACCOUNT
from pipeline.model import ArrivalState
from pipeline.schedule import may_go
from pipeline.site.site import SEND, Site
from pipeline.spool.durable import remove_tree, rename_durably, write_durably
from pipeline.spool.spool import Spool, is_there

UNREADABLE = "no readable instance"

_ANY = TypeAdapter(Any)


def settle(name: str, site: Site) -> None:
    """Write the account into an arrival, move it to the room `settled`, then update the ledger.

    An arrival without any readable instance is moved to `quarantine` instead.
    """
    with site.ledger.reading() as look:
        is_readable = arrivals.holds_an_instance(look, name)
    if not is_readable:
        set_aside(name, UNREADABLE, site)
        return
    now, remark = time.time(), remark_of(name, site)
    is_well = _move_to_settled(name, now, site)
    with site.ledger.step() as change:  # The room has the folder: if this is lost, the next start writes it.
        if not arrivals.may_settle(change, name):  # A person has released an instance of it meanwhile.
            return
        arrivals.set_state(change, name, ArrivalState.SETTLED, remark, settled_at=now)
    if is_well:
        drop_outputs(name, site.spool)
    emit(Event.SETTLED, arrival=name, kept="until-aged" if is_well else "until-decided")


def _move_to_settled(name: str, now: float, site: Site) -> bool:
    """Write the account into an arrival, move it to the room `settled`, and return whether all is well with it.

    The folder is in `settled` already if the ledger could not be updated because the disk was full, or if a person
    released an instance while the arrival settled. Its account is outdated then, and is written again.
    """
    folder, settled = site.spool.arrivals / name, site.spool.settled / name
    if is_there(settled):
        renew_account(name, site.spool, site.ledger)
        with site.ledger.reading() as look:
            return arrivals.all_is_well(look, name)
    account, is_well = _account(name, now, site.ledger)
    write_durably(folder / ACCOUNT, account)
    rename_durably(folder, settled)
    return is_well


def remark_of(name: str, site: Site) -> str | None:
    """Return a remark about a settled arrival, None if there is none."""
    _, receiver = parse_arrival_name(name)
    if receiver not in {SEND, site.receiver_of_orders} and not site.destinations_of(receiver):
        return unclaimed.REMARK
    with site.ledger.reading() as look:
        return unclaimed.remark_of(look, name)


def _account(name: str, settled_at: float, ledger: Ledger) -> tuple[bytes, bool]:
    """Return the account of an arrival as JSON, and whether all is well with it."""
    with ledger.reading() as look:
        account = accounts.account_of(look, name, settled_at)
        return _as_json(account), arrivals.all_is_well(look, name)


def _as_json(account: dict[str, Any]) -> bytes:
    try:  # The standard library takes thirty times as long where it indents.
        return _ANY.dump_json(account, indent=1)
    except ValueError:  # Half a surrogate pair, from a text that is in no character set.
        return json.dumps(account, indent=1).encode()


def set_aside(name: str, reason: str, site: Site) -> None:
    """Move a whole arrival to the room `quarantine`: nothing of it is delivered, and everything of it is kept."""
    folder, aside, now = site.spool.arrivals / name, site.spool.quarantine / name, time.time()
    with site.ledger.reading() as look:
        account = accounts.account_of(look, name, now, ArrivalState.QUARANTINED, reason=reason)
    if not is_there(aside):  # Another process has moved it.
        write_durably(folder / ACCOUNT, _as_json(account))
        rename_durably(folder, aside)
    with site.ledger.transaction() as change:
        arrivals.set_state(change, name, ArrivalState.QUARANTINED, reason, settled_at=now)
    alarm(Event.QUARANTINED, arrival=name, reason=reason)


def renew_accounts(delivery: int, site: Site) -> None:
    """Rewrite the accounts of the settled arrivals that have instances in a delivery that `retry` has reopened."""
    with site.ledger.reading() as look:
        settled = arrivals.settled_of(look, delivery)
    for name in settled:
        renew_account(name, site.spool, site.ledger)


def renew_account(name: str, spool: Spool, ledger: Ledger) -> None:
    """Rewrite the account of a settled arrival, and restart its retention time.

    Two deliveries may end at the same time: a lock lets one write after the other, so that the file holds what was
    read last. If a person has moved the arrival meanwhile, to release an instance, nothing is written; the arrival
    gets its account when it settles again.
    """
    with contextlib.suppress(FileNotFoundError), ledger.alone_in(spool.settled / name):
        now = time.time()
        account, is_well = _account(name, now, ledger)
        write_durably(spool.settled / name / ACCOUNT, account)
        with ledger.transaction() as change:
            arrivals.set_settled_at(change, name, now)
        if is_well:
            drop_outputs(name, spool)


def drop_outputs(name: str, spool: Spool) -> None:
    """Delete the outputs of an arrival; call this when every destination has them, verified."""
    remove_tree(spool.outputs / name, ignore_errors=True)


def expire(site: Site, now: float) -> None:
    """Delete the originals that were kept for `keep_originals` and have no problems.

    The ledger is updated first: a crash in between leaves a folder too many, which the next start removes, and
    never a row whose folder is missing.
    """
    keep = site.settings.site.keep_originals.total_seconds()
    with site.ledger.reading() as look:
        settled = arrivals.settled_before(look, now - keep)
    for name, settled_at in settled:
        if not may_go(now, settled_at, keep):
            continue
        with site.ledger.transaction() as change:
            if not arrivals.may_be_deleted(change, name, now - keep):  # A late instance needs it for its disc.
                continue
            arrivals.set_gone(change, name, now)
        delete(name, site.spool)


def delete(name: str, spool: Spool) -> None:
    """Delete the files of a settled arrival that the ledger records as gone."""
    remove_tree(spool.settled / name, ignore_errors=True)
    drop_outputs(name, spool)
