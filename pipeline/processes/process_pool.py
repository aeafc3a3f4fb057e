"""Open, coerce and encode instances in processes of their own, so that no file can end the worker.

A process that dies, or exceeds its task's limits, is replaced; the task gets a second attempt in a new process,
and is blamed if that dies, too. Callers share the processes equally. A slow task continues in a spare process if
there is one; otherwise it is stopped, and starts again when no other task waits. A process starts when a task
needs it, and ends when none has come for a while: each takes 60 MB, and during most of a day nothing arrives.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from pipeline.errors import StorestowError
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
    """One task of one call of `each`, waiting or running."""

    function: Callable[[Any], Any]
    task: Any
    limits: ProcessLimits
    owner: object
    future: "Future[Any]" = field(default_factory=Future)
    process: BoundedProcess | None = None
    is_slow: bool = False
    is_beside: bool = False  # It runs in a spare process, so no other task waits for its place.
    is_stopped: bool = False  # It was stopped to let another task run.


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
    ) -> Iterator[tuple[Task, Answer | Exception]]:
        """Yield every task with its answer, or with the exception in which it ended, in order.

        `limits` returns the limits of a task; the default is half of the machine's memory and a quarter of an hour
        of processor time. A Transient answer means that this machine could not do the task now (a full disk), not
        that the task is bad. Only a few tasks are queued in advance, so that memory does not grow with the study.
        Raises PoolClosed if the pool is closed meanwhile.
        """
        owner, waiting = object(), iter(tasks)

        def submitted(number: int) -> list[tuple[Task, Future[Answer]]]:
            return [
                (task, self._submit(function, task, limits(task) if limits else of_the_machine(), owner))
                for task in islice(waiting, number)
            ]

        under_way = submitted(2 * self.size)
        while under_way:
            task, future = under_way.pop(0)
            answer: Answer | Exception
            try:
                answer = future.result()
            except (StorestowError, PoolProcessDied) as error:
                answer = error
            under_way += submitted(1)
            yield task, answer

    def warm(self, function: Callable[[str], None]) -> None:
        """Start every process if there is none, and let it run `function`, so that no study waits for imports."""
        with self._lock:
            if self._all or self._running:
                return
        for _ in range(self.size):
            self._submit(function, "", of_the_machine(), self)

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
            job.future.set_exception(PoolClosed())
        for process in processes:
            process.end()
        self._threads.shutdown(wait=False)

    def _submit(
        self, function: Callable[[Task], Answer], task: Task, limits: ProcessLimits, owner: object
    ) -> "Future[Answer]":
        job = _Job(function, task, limits, owner, is_slow=limits.is_large)
        with self._lock:
            if self._is_closed:
                job.future.set_exception(PoolClosed())
            else:
                self._waiting.append(job)
                self._begin()
        return job.future

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
        try:
            answer = self._done(job)
        except BaseException as error:  # noqa: BLE001  # whoever waits for the answer gets it
            if self._is_closed:
                job.future.set_exception(PoolClosed())
            elif not job.is_stopped:
                job.future.set_exception(error)
        else:
            job.is_stopped = False
            job.future.set_result(answer)
        with self._lock:
            self._running.discard(job)
            if job.is_stopped and not self._is_closed:
                job.is_stopped = job.is_beside = False
                self._waiting.append(job)
            self._begin()

    def _done(self, job: _Job) -> Any:
        """Do a task; if its process is killed, the task gets a second attempt in a new process."""
        try:
            return self._once(job, self._taken())
        except Killed:
            if self._is_closed or job.is_stopped:
                raise
        try:
            return self._once(job, BoundedProcess())
        except Killed as killed:
            if self._is_closed or job.is_stopped:
                raise
            raise killed.verdict from killed

    def _once(self, job: _Job, process: BoundedProcess) -> Any:
        self._note_process(job, process)
        try:
            return process.do(job.function, job.task, job.limits, lambda: self._note_slow(job))
        except Killed:
            process.end()  # Too little memory is left for this task, hence for the next one as well.
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
