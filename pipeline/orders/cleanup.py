"""Leave nothing behind: what orders retrieved and what was made of it go after `keep_results`."""

import contextlib
import time
from pathlib import Path

from pipeline.events import Event, emit
from pipeline.ledger import arrivals, orders
from pipeline.line.settle import delete
from pipeline.orders.c_find import SCRATCH
from pipeline.schedule import may_go
from pipeline.site.site import Site
from pipeline.spool.durable import remove_tree, unlink


def expire(site: Site, now: float) -> None:
    """Delete what has been kept long enough and no open order needs; the ledger is told first."""
    keep = site.settings.site.keep_results.total_seconds()
    with site.ledger.reading() as look:
        kept = arrivals.results_before(look, now - keep)
        made = orders.made_before(look, now - keep)
    for name, settled_at in kept:
        if may_go(now, settled_at, keep) and _set_gone(name, site, now):
            delete(name, site.spool)
    for number, path in made:
        _clear(number, Path(path), site, now)


def _set_gone(name: str, site: Site, now: float) -> bool:
    """Note that an arrival goes, unless an order has come for it meanwhile."""
    with site.ledger.transaction() as change:
        if name in orders.arrivals_in_use(change):
            return False
        arrivals.set_gone(change, name, now)
    return True


def _clear(number: int, path: Path, site: Site, now: float) -> None:
    """Delete the file an order made, unless a later order has made the file of that name anew."""
    with site.ledger.transaction() as change:
        orders.change_row(change, number, cleared_at=now)
        is_anothers = orders.is_made_by_another(change, str(path))
    if not is_anothers:
        _delete_file(path)
    emit(Event.DISCARDED, order=number)


def _delete_file(path: Path) -> None:
    if path.is_file() and not path.is_symlink():
        unlink(path, missing_ok=True)


def drop_cleared(site: Site) -> None:
    """Delete files of which the ledger was told that they go, where the worker died before they did."""
    with site.ledger.reading() as look:
        paths = orders.cleared(look)
    for path in sorted(paths):
        with contextlib.suppress(OSError):  # a share that is away; the next start sees to it
            _delete_file(Path(path))


def drop_scratch(site: Site) -> None:
    """Delete what questions to the PACS have left in the room `run` where the worker died over them."""
    for left in site.spool.run.glob(f"{SCRATCH}*"):
        if left.is_dir() and time.time() > left.stat().st_mtime:
            remove_tree(left, ignore_errors=True)
