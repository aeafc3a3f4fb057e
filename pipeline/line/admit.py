"""Admit: enter a folder, which the hook or the sweep has moved in, as a durable arrival in the ledger."""

import time

from pipeline.events import Event, emit
from pipeline.ledger import arrivals
from pipeline.site.site import Site
from pipeline.spool.durable import flush_path, fsync_tree


def admit(name: str, site: Site) -> None:
    """Enter an arrival in the ledger once its files are durable."""
    folder = site.spool.arrivals / name
    fsync_tree(folder)
    flush_path(site.spool.arrivals)  # The hook created this entry, and the hook must not wait for the disk.
    nanoseconds, receiver = parse_arrival_name(name)
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
