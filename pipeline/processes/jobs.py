"""Keep the table of the worker's jobs: which run now, and which have just failed and must wait."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from enum import StrEnum

from pipeline.errors import StorestowError
from pipeline.events import Event, alarm, bug

RETRY_SECONDS = 30.0  # A job that failed by a bug or a full disk is not started for this time.


class JobKind(StrEnum):
    """What a job does; the log names a failed job by these words."""

    SWEEP = "sweep"
    ADMIT = "admit"
    GLANCE = "glance"
    IDENTIFY = "take in"
    PROCESS = "process"
    DELIVER = "deliver"
    SETTLE = "settle"
    TIDY = "tidy"
    WATCH = "watch"
    ORDER = "order"
    MOVE = "move"
    JUDGE = "judge"
    TICK = "tick"


@dataclass(frozen=True, slots=True)
class JobKey:
    """The name of a job: two jobs with equal keys never run at once.

    `subject` is the name or number of what the job is about, `place` the receiver or the destination.
    """

    kind: JobKind
    subject: str | int = ""
    place: str = ""

    def __str__(self) -> str:
        """Return the key as the log has it."""
        return " ".join(str(part) for part in (self.kind, self.place, self.subject) if part != "")


class Jobs:
    """The table of jobs. Each runs in a thread of an executor, or in the loop; a failing job stops no other.

    `wake` is called whenever a job has ended, so that the loop looks for work that has become due by that.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._running: set[JobKey] = set()
        self._listed: frozenset[JobKey] = frozenset()  # The jobs that ran when the list of due work was begun.
        self._retry_at: dict[JobKey, float] = {}  # Times of the monotonic clock.
        self._is_closed = False

    def begin_list(self) -> None:
        """Note the running jobs.

        Call this before reading a list of due work, because that list may be stale about these jobs.
        """
        with self._lock:
            self._listed = frozenset(self._running)

    def running(self) -> set[JobKey]:
        """Return the keys of the running jobs."""
        with self._lock:
            return set(self._running)

    def running_since_list(self) -> set[JobKey]:
        """Return the keys of jobs that run now, or ran when the list of due work was begun."""
        with self._lock:
            return self._running | self._listed

    def failed(self, *kinds: JobKind) -> list[JobKey]:
        """Return the keys of the jobs of these kinds whose last run has failed."""
        return [key for key in list(self._retry_at) if key.kind in kinds]

    def start(self, executor: Executor | None, key: JobKey, function: Callable[[], object]) -> bool:
        """Run a job in a thread of `executor`, or in this thread if it is None; return whether it was started.

        A job is not started while a job with this key runs, for RETRY_SECONDS after it has failed, or if it was
        running when the list of due work was read, because that list may be stale.
        """
        now = time.monotonic()
        with self._lock:
            if key in self._running or key in self._listed or self._retry_at.get(key, 0.0) > now:
                return False
            self._running.add(key)
        if executor is None:
            self._run(key, function)
            return True
        try:
            future = executor.submit(self._run, key, function)
        except BaseException:  # The executor is closed, or the machine has no thread left.
            with self._lock:
                self._running.discard(key)
            raise
        future.add_done_callback(lambda future: self._finish(key) if future.cancelled() else None)
        return True

    def take_step(self, key: JobKey, function: Callable[[], object]) -> None:
        """Take a short step in this thread, unless it has just failed; `wake` is not called."""
        if self._retry_at.get(key, 0.0) <= time.monotonic():
            self._try(key, function)

    def close(self) -> None:
        """Report no more failures, because running jobs fail when the worker ends."""
        self._is_closed = True

    def _run(self, key: JobKey, function: Callable[[], object]) -> None:
        try:
            self._try(key, function)
        finally:
            self._finish(key)

    def _finish(self, key: JobKey) -> None:
        with self._lock:
            self._running.discard(key)
        self._wake()

    def _try(self, key: JobKey, function: Callable[[], object]) -> None:
        try:
            function()
            self._retry_at.pop(key, None)
        except Exception as error:  # noqa: BLE001  # a bug or a full disk must cost one job's round, not the worker
            if not self._is_closed:
                self._retry_at[key] = time.monotonic() + RETRY_SECONDS
                report_failure(str(key), error)


def report_failure(what: str, error: Exception) -> None:
    """Log that `what` failed and is tried again; an error that is no StorestowError or OSError is a bug."""
    if isinstance(error, StorestowError | OSError):
        alarm(Event.HELD, what=what, reason=error)
    else:
        bug(what, error)
