"""Admit: enter a folder, which the hook or the sweep has moved in, as a durable arrival in the ledger."""

import time
from concurrent.futures import ThreadPoolExecutor

from pipeline.events import Event, emit
from pipeline.ledger import arrivals
from pipeline.line.identify import ReadAhead, read_the_rest
from pipeline.site.site import Site
from pipeline.spool.durable import flush_path, fsync_tree


def admit(name: str, site: Site, ahead: ReadAhead | None = None) -> None:
    """Enter an arrival in the ledger once its files are durable; what is not in `ahead` yet is read meanwhile."""
    folder = site.spool.arrivals / name
    nanoseconds, receiver = parse_arrival_name(name)
    with ThreadPoolExecutor(1, thread_name_prefix="read") as beside:
        if ahead is not None:
            beside.submit(read_the_rest, folder, site.spool.run, site.pool_of(receiver), ahead)
        fsync_tree(folder)
    flush_path(site.spool.arrivals)  # The hook created this entry, and the hook must not wait for the disk.
    newest = max((entry.stat().st_mtime for entry in folder.iterdir()), default=folder.stat().st_mtime)
    with site.ledger.transaction() as change:
        values = {"name": name, "receiver": receiver, "admitted_at": nanoseconds / 1e9, "newest_file_at": newest}
        arrivals.admit(change, values)
    emit(Event.ADMITTED, arrival=name, receiver=receiver)


def parse_arrival_name(name: str) -> tuple[int, str]:
    """Return the moment of admission (ns since the epoch) and the receiver, from `<ns>-<receiver>-<inode>`."""
    nanoseconds, _, rest = name.partition("-")
    receiver, _, _ = rest.rpartition("-")
    return (int(nanoseconds), receiver) if nanoseconds.isdigit() else (time.time_ns(), "")
