"""Open, coerce and encode instances in processes of their own, so that no file can end the worker.

A process that dies, or exceeds its task's limits, is replaced; the task gets a second attempt in a new process,
and is blamed if that dies, too. Of tasks that were sent together, each then gets its two attempts alone. Callers
share the processes equally. A slow task continues in a spare process if there is one; otherwise it is stopped, and
starts again when no other task waits. A process starts when a task needs it, and ends when none has come for a
while: each takes 60 MB, and during most of a day nothing arrives.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from pipeline.errors import Transient
from pipeline.processes.bounded_process import BoundedProcess, Killed, OverLimit, PoolProcessDied
from pipeline.processes.limits import ProcessLimits, of_the_machine

__all__ = ["OverLimit", "PoolClosed", "PoolProcessDied", "ProcessPool"]

IDLE_SECONDS = 300.0  # A process without a task for so long ends.

Task = TypeVar("Task")
Answer = TypeVar("Answer")


class PoolClosed(Exception):
    """Say that the pool was closed during a task: the result is unknown, and the task must be done again."""


@dataclass(eq=False, slots=True)
class _Job:
    """Tasks of one call of `each` that are sent together, waiting or running."""

    function: Callable[[Any], Any]
    tasks: Sequence[tuple[Any, ProcessLimits]]
    owner: object
    future: "Future[list[Any]]" = field(default_factory=Future)
    answers: list[Any] = field(default_factory=list)  # Those of the first tasks, as far as they have come.
    process: BoundedProcess | None = None
    is_slow: bool = False
    is_beside: bool = False  # It runs in a spare process, so no other task waits for its place.
    is_stopped: bool = False  # It was stopped to let another task run.

    @property
    def left(self) -> Sequence[tuple[Any, ProcessLimits]]:
        """Return the tasks that have no answer yet."""
        return self.tasks[len(self.answers) :]


class ProcessPool:
    """Processes with a thread for each, and half as many more while some tasks are slow."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._spare = max(1, size // 2)
        self._lock = threading.RLock()
        self._waiting: list[_Job] = []
        self._running: set[_Job] = set()
        self._free: list[BoundedProcess] = []
        self._all: set[BoundedProcess] = set()
        self._is_closed = False
        self._threads = ThreadPoolExecutor(size + self._spare, thread_name_prefix="pool")

    @property
    def waiting(self) -> int:
        """Return how many tasks wait for a process; callers that work in advance let them go first."""
        with self._lock:
            return len(self._waiting)

    def each(
        self,
        function: Callable[[Task], Answer],
        tasks: Iterable[Task],
        limits: Callable[[Task], ProcessLimits] | None = None,
        at_once: int = 1,
        takes_long: Callable[[Task], bool] = lambda _: False,
    ) -> Iterator[tuple[Task, Answer | Exception]]:
        """Yield every task with its answer, or with the exception in which it ended, in order.

        `limits` returns the limits of a task; the default is half of the machine's memory and a quarter of an hour
        of processor time. Up to `at_once` tasks are sent to a process together, which saves the worker much of its
        time if each takes a few milliseconds; one that `takes_long` is sent alone. A Transient answer means that
        this machine could not do the task now (a full disk), not that the task is bad. Only a few tasks are queued
        in advance, so that memory does not grow with the study; those that have not begun when the caller stops
        asking are dropped. Raises PoolClosed if the pool is closed meanwhile.
        """
        limited = ((task, limits(task) if limits else of_the_machine()) for task in tasks)
        owner, waiting = object(), _together(limited, takes_long, at_once, self.size)
        under_way = deque(self._submit(function, some, owner) for some in islice(waiting, 2 * self.size))
        try:
            while under_way:
                job = under_way.popleft()
                answers = job.future.result()
                under_way.extend(self._submit(function, some, owner) for some in islice(waiting, 1))
                yield from zip((task for task, _ in job.tasks), answers, strict=True)
        finally:
            for job in under_way:
                job.future.cancel()

    def warm(self, function: Callable[[str], None]) -> None:
        """Start every process if there is none, and let it run `function`, so that no study waits for imports."""
        with self._lock:
            if self._all or self._running:
                return
        for _ in range(self.size):
            self._submit(function, [("", of_the_machine())], self)

    def end_idle(self, seconds: float = IDLE_SECONDS) -> None:
        """End the processes that have had no task for `seconds`; the next task starts them again."""
        latest = time.monotonic() - seconds
        with self._lock:
            idle = [process for process in self._free if process.free_since <= latest]
            self._free = [process for process in self._free if process not in idle]
        for process in idle:
            self._drop(process)

    def close(self) -> None:
        """Kill the processes; their tasks and the waiting tasks end in PoolClosed."""
        with self._lock:
            self._is_closed = True
            waiting, self._waiting = self._waiting, []
            processes = list(self._all)
        for job in waiting:
            if job.future.running() or job.future.set_running_or_notify_cancel():
                job.future.set_exception(PoolClosed())
        for process in processes:
            process.end()
        self._threads.shutdown(wait=False)

    def _submit(
        self, function: Callable[[Task], Answer], tasks: Sequence[tuple[Task, ProcessLimits]], owner: object
    ) -> _Job:
        job = _Job(function, tasks, owner, is_slow=any(limits.is_large for _, limits in tasks))
        with self._lock:
            if self._is_closed:
                job.future.set_exception(PoolClosed())
            else:
                self._waiting.append(job)
                self._begin()
        return job

    def _begin(self) -> None:
        """Start every task for which a process is free; the caller holds the lock."""
        while not self._is_closed and (job := self._next()):
            self._waiting.remove(job)
            self._running.add(job)
            self._threads.submit(self._run, job)

    def _next(self) -> _Job | None:
        """Return the next task to start, None if no task waits or no process is free."""
        fresh = [job for job in self._waiting if not job.is_slow]
        slow = [job for job in self._waiting if job.is_slow]
        in_places = [job for job in self._running if not job.is_beside]
        has_room = len(self._running) < self.size + self._spare
        if fresh:
            if len(in_places) >= self.size and not self._make_room(in_places, has_room=has_room):
                return None
            shares = Counter(job.owner for job in (*self._running, *slow))
            return min(fresh, key=lambda job: shares[job.owner])  # Among equals, the first.
        if slow and len(in_places) < self.size:
            return slow[0]
        if slow and has_room and any(not job.is_slow for job in in_places):  # A slow task might run for ever.
            slow[0].is_beside = True
            return slow[0]
        return None

    def _make_room(self, in_places: list[_Job], *, has_room: bool) -> bool:
        """Let a slow task continue in a spare process and return True; if there is none, stop a slow task."""
        slow = [job for job in in_places if job.is_slow]
        if slow and has_room:
            slow[0].is_beside = True
            return True
        for job in slow:
            if job.process and not job.is_stopped:
                job.is_stopped = True
                job.process.end()
                break
        return False

    def _run(self, job: _Job) -> None:
        if job.future.running() or job.future.set_running_or_notify_cancel():
            try:
                self._do_some(job)
            except BaseException as error:  # noqa: BLE001  # whoever waits for the answer gets it
                if not (self._is_closed or job.is_stopped):
                    job.future.set_exception(error)
            else:
                if not job.left:
                    job.future.set_result(job.answers)
        with self._lock:
            self._running.discard(job)
            if job.future.running():
                job.is_stopped = job.is_beside = False
                if self._is_closed:
                    job.future.set_exception(PoolClosed())
                else:
                    self._waiting.append(job)
            self._begin()

    def _do_some(self, job: _Job) -> None:
        """Do some of a job's tasks; if their process is killed, do the others alone, each with its attempts."""
        is_alone = len(job.left) == 1
        try:
            self._once(job, job.left, self._taken())
        except (Killed, Transient) as error:
            if self._is_closed or job.is_stopped:
                raise
            if is_alone and isinstance(error, Transient):
                job.answers.append(error)
            while job.left:  # Of several tasks each may have been the cause: that attempt counts for none.
                self._do_alone(job, (BoundedProcess,) if is_alone else (self._taken, BoundedProcess))

    def _do_alone(self, job: _Job, attempts: Iterable[Callable[[], BoundedProcess]]) -> None:
        """Do the next of a job's tasks; if its process is killed each time, this is its answer."""
        answer: Exception | None = None
        for process in attempts:
            try:
                return self._once(job, job.left[:1], process())
            except Transient as error:
                answer = error
                break
            except Killed as killed:
                if self._is_closed or job.is_stopped:
                    raise
                answer = killed.verdict
        job.answers.append(answer)
        return None

    def _once(self, job: _Job, tasks: Sequence[tuple[Any, ProcessLimits]], process: BoundedProcess) -> None:
        self._note_process(job, process)
        try:
            job.answers += process.do(job.function, tasks, lambda: self._note_slow(job))
        except Killed:
            process.end()  # Too little memory is left for these tasks, hence for the next ones as well.
            raise
        finally:
            self._give_back(job, process)

    def _note_slow(self, job: _Job) -> None:
        with self._lock:
            job.is_slow = True
            self._begin()

    def _taken(self) -> BoundedProcess:
        """Return an idle process, or a new one if there is none."""
        while True:
            with self._lock:
                process = self._free.pop() if self._free else None
            if process is None:
                return BoundedProcess()
            if process.is_alive():
                return process
            self._drop(process)

    def _note_process(self, job: _Job, process: BoundedProcess) -> None:
        with self._lock:
            self._all.add(process)
            job.process = process
            if self._is_closed:  # `close` ran meanwhile, and has not seen this process.
                process.end()

    def _give_back(self, job: _Job, process: BoundedProcess) -> None:
        with self._lock:
            job.process = None
            if not job.is_stopped and not self._is_closed and process.is_alive():
                process.free_since = time.monotonic()
                self._free.append(process)
                return
        self._drop(process)

    def _drop(self, process: BoundedProcess) -> None:
        with self._lock:
            self._all.discard(process)
        process.close()


def _together(
    tasks: Iterator[tuple[Task, ProcessLimits]], takes_long: Callable[[Task], bool], at_once: int, size: int
) -> Iterator[Sequence[tuple[Task, ProcessLimits]]]:
    """Yield the tasks as they are sent: at first few, so that all processes begin, and long ones alone."""
    number, some = 0, list[tuple[Task, ProcessLimits]]()
    for task, limits in tasks:
        if limits.is_large or takes_long(task):
            yield from filter(None, (some, [(task, limits)]))
            number, some = number + 1, []
            continue
        some.append((task, limits))
        if len(some) >= min(at_once, 1 << min(number // size, 8)):
            yield some
            number, some = number + 1, []
    if some:
        yield some
