"""Admit a folder that the hook or the sweep has moved in: make its files durable, and enter it in the ledger."""

import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from pipeline import engine
from pipeline.disc.objects import raw
from pipeline.events import Event, emit
from pipeline.ledger import arrivals, nodes
from pipeline.line.hand_over import copy_to_store, drop_received, node_of, stored_name
from pipeline.line.identify import IdentifiedFile, ReadAhead, read_the_rest, states_in
from pipeline.processes.jobs import report_failure
from pipeline.processes.process_pool import PoolClosed
from pipeline.site.site import Site
from pipeline.spool.durable import flush_path, fsync_tree
from pipeline.spool.hashed_files import FileState
from pipeline.spool.spool import is_there

# Seconds for which a durable arrival waits until its files are read; no longer, because a file that kills its
# process twice takes minutes.
READING_SECONDS = 2.0


def admit(name: str, site: Site, ahead: ReadAhead | None = None) -> None:
    """Enter an arrival in the ledger once its files are durable; files not yet in `ahead` are read meanwhile.

    With a store, a folder that this node received is brought there first, and its own copy deleted afterwards.
    Raises OSError if a file cannot be flushed or copied; all results of reading the arrival are dropped then.
    """
    if site.spool.has_store and is_there(site.spool.received / name):
        _hand_over(name, site, ahead)
        return
    folder = site.spool.arrivals / name
    _, receiver = parse_arrival_name(name)
    reading = _Reading(folder, receiver, site, ahead) if ahead is not None else None
    try:
        fsync_tree(folder)
        flush_path(site.spool.arrivals)  # The hook created this entry, and the hook must not wait for the disk.
    except OSError:
        for state in states_in(folder):  # The bytes that were read may be in the system's memory only.
            site.hashed.forget(state)
            raw.forget(state)
            if ahead is not None:
                ahead.take(state)
        raise
    else:
        if reading is not None:
            reading.hand_over()
    finally:
        if reading is not None:
            reading.stop()
    _enter(name, site)


def _hand_over(name: str, site: Site, ahead: ReadAhead | None) -> None:
    stored = stored_name(name, site.claimant.node)
    with site.ledger.reading() as look:
        is_entered = arrivals.is_known(look, stored)
    if not is_entered:
        copy_to_store(name, stored, site.spool, ahead)
        _enter(stored, site)
    drop_received(name, site.spool)
    emit(Event.HANDED_OVER, arrival=stored)


def _enter(name: str, site: Site) -> None:
    """Enter an arrival whose files are durable in the ledger, unless another node has done so; raises OSError."""
    folder = site.spool.arrivals / name
    nanoseconds, receiver = parse_arrival_name(name)
    newest = max((entry.stat().st_mtime for entry in folder.iterdir()), default=folder.stat().st_mtime)
    values = {"name": name, "receiver": receiver, "admitted_at": nanoseconds / 1e9, "newest_file_at": newest}
    with site.ledger.step() as change:
        if site.spool.has_store and arrivals.is_known(change, name):
            return
        arrivals.admit(change, values)
        site.ledger.engine.ring(change, engine.intake(receiver))
    emit(Event.ADMITTED, arrival=name, receiver=receiver)


class _Reading:
    """Read the files of an arrival in a thread; only `hand_over` keeps the results."""

    def __init__(self, folder: Path, receiver: str, site: Site, ahead: ReadAhead) -> None:
        self._folder, self._site, self._ahead = folder, site, ahead
        self._pool = site.pool_of(receiver)
        self._found: list[tuple[FileState, IdentifiedFile]] = []
        self._is_stopped = threading.Event()
        threads = ThreadPoolExecutor(1, thread_name_prefix="read")
        self._ended = threads.submit(self._read)
        self._ended.add_done_callback(_report)
        threads.shutdown(wait=False)

    def _read(self) -> None:
        for found in read_the_rest(self._folder, self._site.spool.run, self._pool, self._ahead):
            if self._is_stopped.is_set():
                return
            self._found.append(found)

    def hand_over(self) -> None:
        """Wait a while, and keep the results for the files read by then; `contents_of` reads the others."""
        wait([self._ended], READING_SECONDS)
        self.stop()
        for state, found in tuple(self._found):
            self._ahead.keep(state, found)

    def stop(self) -> None:
        """Start no more reading; the processes finish the files that they have begun."""
        self._is_stopped.set()


def _report(ended: Future[None]) -> None:
    error = ended.exception()
    if isinstance(error, Exception) and not isinstance(error, PoolClosed):
        report_failure("read what is admitted", error)


def parse_arrival_name(name: str) -> tuple[int, str]:
    """Return the time of admission (ns since the epoch) and the receiver, from `<ns>-<receiver>-<inode>`.

    In a store, `@` and the node that brought it follow. For any other name, return the present time and "".
    """
    nanoseconds, _, rest = name.partition("@")[0].partition("-")
    receiver, _, _ = rest.rpartition("-")
    return (int(nanoseconds), receiver) if nanoseconds.isdigit() else (time.time_ns(), "")


def of_others(names: Iterable[str], site: Site) -> set[str]:
    """Return those of these arrivals that other nodes have brought which are at work: they see to them."""
    if not site.spool.has_store:
        return set()
    with site.ledger.reading() as look:
        working = nodes.others(look, site.claimant.worker).at_work
    return {name for name in names if node_of(name) in working}
