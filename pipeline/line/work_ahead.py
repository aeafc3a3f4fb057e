"""Read files, and encode and prove their pixels, while their study still comes in.

An instance that is in the ledger and only waits until its study is complete is prepared, too. No result is needed
for correctness. Encoded pixels are found by the pixels they were made of (`line/encoded_ahead.py`), a prepared
instance by its task, so a study that turns out to be a duplicate costs only the work; unused results are deleted
after a while, or with the arrival.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from stat import S_ISREG
from typing import Self, TypeVar

from pipeline.config.receiver_tables import ReceiverTable
from pipeline.errors import Configuration
from pipeline.ledger import waiting_studies
from pipeline.ledger.waiting_studies import WaitingStudy
from pipeline.line.encoded_ahead import AheadTask, encode_ahead
from pipeline.line.hand_over import node_of
from pipeline.line.identify import IdentifyTask, ReadAhead, load_reading, read_ahead
from pipeline.line.prepare import Prepared, PrepareTask, load_encodings, prepare
from pipeline.line.prepare_study import PREPARED_AT_ONCE, PreparedAhead, tasks_of
from pipeline.line.route import route
from pipeline.processes.jobs import report_failure
from pipeline.processes.limits import ProcessLimits, to_encode
from pipeline.processes.process_pool import PoolClosed
from pipeline.schedule import is_due
from pipeline.site.disk_space import free_bytes
from pipeline.site.site import Site
from pipeline.spool.durable import begin_flush, unlink
from pipeline.spool.hashed_files import FileState, state_of

LOOK_SECONDS = 0.25
SOON_SECONDS = 0.1  # Until the next look while somebody waits for what comes in.
CLOSED_SECONDS = 0.2  # storescp writes an object in one go: a file without writes for this long is closed.
MOST_BYTES = 2 << 30  # Bytes of results that are kept.
KEPT_SECONDS = 1800.0
MOST_AT_ONCE = 500  # Files that are read in a row before other work is looked at.
LARGEST = 64 << 20  # Bytes of a file; a larger file would delay work for which others wait.
MOST_CPU_SECONDS = 20.0

Task = TypeVar("Task")


@dataclass(frozen=True, slots=True)
class _Received:
    """A closed file of a study that still comes in, and the receiver it came by."""

    path: Path
    state: FileState
    receiver: str


class WorkAhead:
    """A thread that reads received files and encodes their pixels in advance, as long as the context lasts.

    `in_hand` tells whether a study of a receiver is being prepared; then it is too late to work ahead.
    """

    def __init__(
        self,
        site: Site,
        in_hand: Callable[[str, str], bool],
        read: ReadAhead | None = None,
        prepared: PreparedAhead | None = None,
    ) -> None:
        self._site = site
        self._read = read or ReadAhead()
        self._prepared = prepared or PreparedAhead()
        self._seen: set[WaitingStudy] = set()  # Those prepared, with as many instances as they had.
        self._begun: dict[tuple[str, str], set[int]] = {}  # Row numbers, by receiver and Study Instance UID.
        self._in_hand = in_hand
        self._closed: dict[tuple[str, int], _Received] = {}  # By path and inode, as the last look found them.
        self._done: set[FileState] = set()
        self._tried: set[FileState] = set()
        self._whole: set[FileState] = set()  # Those that could be read.
        self._ending = threading.Event()
        self._tidied = 0.0
        self._is_urgent = False  # The last look found new files for which somebody waits.
        self._thread = threading.Thread(target=self._run, name="ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()

    def _run(self) -> None:
        while not self._ending.wait(SOON_SECONDS if self._is_urgent else LOOK_SECONDS):
            try:
                self.look()
            except PoolClosed:
                return
            except Exception as error:  # noqa: BLE001  # the line does without it
                report_failure("work ahead", error)
                self._ending.wait(60)

    def look(self) -> None:
        """Read and encode received files; stop if other work needs the pool's processes."""
        self._tidy()
        self._closed = dict(self._found())
        self._read_incoming()
        self._encode_incoming()
        self._prepare_waiting()

    def _found(self) -> Iterator[tuple[tuple[str, int], _Received]]:
        """Yield the closed files of studies that still come in.

        A file that has been read is not looked at again: the looks at a large study would cost more than reading
        it. If it is written to all the same, what was made of it is not found by its new state.
        """
        for receiver in self._site.settings.receiver:
            for folder in _entries(self._site.spool.incoming_of(receiver.name)):
                if folder.is_dir(follow_symlinks=False):
                    yield from self._found_in(Path(folder.path), receiver)

    def _found_in(self, folder: Path, receiver: ReceiverTable) -> Iterator[tuple[tuple[str, int], _Received]]:
        """Yield the closed files of a folder; files of one association come one after the other."""
        looked_at: dict[tuple[str, int], os.stat_result] = {}
        for entry in _entries(folder):
            name = entry.path, entry.inode()
            known = self._closed.get(name)
            if known and known.state in self._whole:
                yield name, known
            elif status := _status_of_object(entry):
                looked_at[name] = status
        newest = max((status.st_mtime_ns for status in looked_at.values()), default=0)
        for name, status in looked_at.items():
            is_followed = receiver.mode == "association" and status.st_mtime_ns < newest
            if is_followed or time.time() - status.st_mtime >= CLOSED_SECONDS:
                yield name, _Received(Path(name[0]), state_of(status), receiver.name)

    def _encode_incoming(self) -> None:
        encodings = {one.name: self._encodings_of(one.name) for one in self._site.settings.receiver}
        found = [file for file in self._closed.values() if encodings[file.receiver]]
        self._done &= {file.state for file in found}
        wanted = [file for file in found if file.state not in self._done]
        pool = self._site.pool
        if not wanted or pool.waiting or not self._has_room():
            return
        states = {file.path: file.state for file in wanted}
        tasks = (
            AheadTask(file.path, encodings[file.receiver], self._site.spool.ahead, self._site.spool.run)
            for file in wanted
        )
        for task, made in pool.each(encode_ahead, self._until_others_wait(tasks), _limits):
            self._done.add(states[task.source])
            if made == len(task.encodings):
                self._prepared.note_encoded(states[task.source])

    def _until_others_wait(self, tasks: Iterator[Task]) -> Iterator[Task]:
        """Yield tasks until other work waits for the pool; the results of what has begun are kept."""
        pool = self._site.pool
        # More tasks wait than ours, so other work is waiting.
        while not (self._ending.is_set() or pool.waiting > 2 * pool.size):
            try:
                yield next(tasks)
            except StopIteration:
                return

    def _read_incoming(self) -> None:
        """Read and hash files that have come in; a result is kept by the state in which the file was read."""
        if self._site.pool.waiting:
            return
        found = self._closed.values()
        states = {file.state for file in found}
        self._tried &= states
        self._whole &= states
        wanted = {file.path: file for file in found if file.state not in self._tried}
        wanted = dict(islice(wanted.items(), MOST_AT_ONCE))
        self._is_urgent = any(self._site.is_for_orders(file.receiver) for file in wanted.values())
        if wanted:
            encodes = any(self._encodings_of(receiver.name) for receiver in self._site.settings.receiver)
            self._site.pool.warm(load_encodings if encodes else load_reading)
        self._tried |= {file.state for file in wanted.values()}  # What cannot be read now is read when admitted.
        awaited = [one for one in self._site.settings.destination if one.name in self._site.awaited]
        tasks = (IdentifyTask(path, self._site.spool.run) for path in wanted)
        for task, state, file in read_ahead(tasks, self._site.pool):
            received = wanted[task.path]
            if state == received.state:  # It was not written to meanwhile; its folder may have been admitted.
                self._read.keep(state, file)
                self._whole.add(state)
                # Somebody waits for an order: the flush is not left to the admission.
                if self._site.is_for_orders(received.receiver):
                    with contextlib.suppress(FileNotFoundError):
                        begin_flush(task.path)
                    for destination in awaited:
                        destination.read_ahead(task.path, self._site.spool.run)

    def _prepare_waiting(self) -> None:
        """Prepare what only waits until its study is complete; what fails now is tried again by the study."""
        with self._site.ledger.reading() as connection:
            waiting = waiting_studies.waiting(connection)
        self._seen &= set(waiting)
        keys = {(study.receiver, study.study_instance_uid) for study in waiting}
        self._begun = {key: rows for key, rows in self._begun.items() if key in keys}
        pool = self._site.pool
        wanted = [study for study in waiting if study not in self._seen]
        if not wanted or pool.waiting or not self._has_room():
            return
        tasks = self._until_others_wait(self._tasks_of(wanted))
        for task, result in pool.each(prepare, tasks, _limits, PREPARED_AT_ONCE, self._prepared.takes_long):
            if isinstance(result, Prepared):
                self._prepared.keep(task, result)

    def _tasks_of(self, studies: Iterable[WaitingStudy]) -> Iterator[PrepareTask]:
        """Yield the tasks that the studies will ask for if nothing is added to them, a study at a time."""
        for study in studies:
            receiver = self._site.receiver(study.receiver)
            in_hand = self._in_hand(study.receiver, study.study_instance_uid)
            if receiver is None or in_hand or self._site.is_for_orders(study.receiver):
                continue
            if not self._is_left_to_us(study, receiver):
                continue
            with contextlib.suppress(Configuration):  # The study says so itself when it is due.
                for task in self._tasks_of_study(study, receiver):
                    self._begun[study.receiver, study.study_instance_uid].add(task.instance)
                    if not self._is_left_to_us(study, receiver):
                        break
                    with contextlib.suppress(OSError):
                        if task.source.lstat().st_size <= LARGEST:
                            yield task
            self._seen.add(study)

    def _tasks_of_study(self, study: WaitingStudy, receiver: ReceiverTable) -> list[PrepareTask]:
        """Return the tasks of those instances that have come since the last look: a study may grow one by one."""
        begun = self._begun.setdefault((study.receiver, study.study_instance_uid), set())
        with self._site.ledger.reading() as connection:
            rows = waiting_studies.instances_of(connection, study.receiver, study.study_instance_uid)
        routes = route(rows, receiver, self._site)
        new = [row for row in rows if routes.of[row.id] and row.id not in begun]
        return tasks_of(new, study.receiver, routes, self._site)

    def _is_left_to_us(self, study: WaitingStudy, receiver: ReceiverTable) -> bool:
        """Tell whether no other node prepares a study: each works ahead at what it brought, until that is due."""
        site = self._site
        if not site.spool.has_store:
            return True
        at_most = site.settings.site.gather_at_most.total_seconds()
        times = (study.newest_file_at, study.first_admitted_at, receiver.quiet_seconds, at_most)
        return node_of(study.newest_arrival) == site.claimant.node and not is_due(time.time(), *times)

    def _encodings_of(self, receiver: str) -> tuple[str, ...]:
        """Return the encodings of a receiver's destinations; none for instances that come for orders."""
        if self._site.is_for_orders(receiver):
            return ()
        return tuple(sorted(self._site.encodings_of(receiver) - {"none"}))

    def _has_room(self) -> bool:
        least = max(self._site.settings.site.alarm_below, self._site.settings.site.refuse_below)
        return free_bytes(self._site.spool.root) > least + MOST_BYTES

    def _tidy(self) -> None:
        """Delete unused results every ten seconds, the oldest first if there are too many."""
        now = time.monotonic()
        if now < self._tidied + 10:
            return
        self._tidied = now
        kept = sorted(
            (status.st_mtime, status.st_size, entry.path)
            for entry in _entries(self._site.spool.ahead)
            if (status := _status(entry)) is not None
        )
        total = sum(size for _, size, _ in kept)
        for changed, size, path in kept:
            if total > MOST_BYTES or not 0 <= time.time() - changed <= KEPT_SECONDS:
                unlink(Path(path), missing_ok=True)
                total -= size


def _limits(task: AheadTask | PrepareTask) -> ProcessLimits:
    limits = to_encode(task.source)
    return ProcessLimits(min(limits.cpu_seconds, MOST_CPU_SECONDS), limits.memory)


def _status_of_object(entry: "os.DirEntry[str]") -> os.stat_result | None:
    """Return the status of a received file that is no larger than work ahead may take, otherwise None."""
    status = None if entry.name.startswith(".") else _status(entry)
    if status is None or not S_ISREG(status.st_mode) or not 0 < status.st_size <= LARGEST:
        return None
    return status


def _entries(folder: Path) -> "list[os.DirEntry[str]]":
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def _status(entry: "os.DirEntry[str]") -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except OSError:
        return None
