"""Delete the instances that orders retrieved, and the files made of them, after `keep_results`."""

import contextlib
import time
from pathlib import Path

from pipeline.events import Event, emit
from pipeline.ledger import arrivals, orders
from pipeline.line.settle import delete
from pipeline.orders.pacs_query import SCRATCH
from pipeline.schedule import may_go
from pipeline.site.site import Site
from pipeline.spool.durable import remove_tree, unlink


def expire(site: Site, now: float) -> None:
    """Delete instances and files that have been kept for `keep_results` and that no open order needs.

    `now` is in seconds since the epoch. The ledger is updated first; `drop_cleared` deletes what a crash left.
    """
    keep = site.settings.site.keep_results.total_seconds()
    with site.ledger.reading() as connection:
        kept = arrivals.results_before(connection, now - keep)
        made = orders.made_before(connection, now - keep)
    for name, settled_at in kept:
        if may_go(now, settled_at, keep) and _set_gone(name, site, now):
            delete(name, site.spool)
    for number, path in made:
        _clear(number, Path(path), site, now)


def _set_gone(name: str, site: Site, now: float) -> bool:
    """Record that an arrival is deleted, and return True; return False if an order needs it again."""
    with site.ledger.transaction() as connection:
        if name in orders.arrivals_in_use(connection):
            return False
        arrivals.set_gone(connection, name, now)
    return True


def _clear(number: int, path: Path, site: Site, now: float) -> None:
    """Record that the file of an order is deleted, and delete it unless another order has made the same file."""
    with site.ledger.transaction() as connection:
        orders.change_row(connection, number, cleared_at=now)
        is_anothers = orders.is_made_by_another(connection, str(path))
    if not is_anothers:
        _delete_file(path)
    emit(Event.DISCARDED, order=number)


def _delete_file(path: Path) -> None:
    if path.is_file() and not path.is_symlink():
        unlink(path, missing_ok=True)


def drop_cleared(site: Site) -> None:
    """Delete files that are recorded as deleted, but which a dead worker could not delete any more."""
    with site.ledger.reading() as connection:
        paths = orders.cleared(connection)
    for path in sorted(paths):
        with contextlib.suppress(OSError):  # A share may not be mounted now; the next start tries again.
            _delete_file(Path(path))


def drop_scratch(site: Site) -> None:
    """Delete query files in the room `run` that a dead worker left."""
    for left in site.spool.run.glob(f"{SCRATCH}*"):
        if left.is_dir() and time.time() > left.stat().st_mtime:
            remove_tree(left, ignore_errors=True)
