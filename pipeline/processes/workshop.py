"""The processes in which instances are opened, coerced and encoded, so that no file can take the worker down.

Each is a fresh Python that answers one request at a time over a pipe. One that dies, or takes longer than
its time limit, is replaced, and the instance it had in hand is the one that is blamed. Fresh processes and not
forks, because the worker has threads; not `multiprocessing`, because that would import the worker's own main
module in every child (docs/adr/0003-jpeg-2000.md has the measurements).
"""

import contextlib
import os
import resource
import signal
import subprocess  # the one other process we start: our own interpreter, with constants only
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import TypeVar

from pipeline.errors import StorestowError, Transient
from pipeline.events import silence_libraries

Task = TypeVar("Task")
Answer = TypeVar("Answer")

SMALLEST_BOUND = 2 << 30

_ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",  # one instance a process: threads of a numeric library would only cost memory
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_TRIM_THRESHOLD_": "1048576",  # give pixel buffers back to the system between instances
}


class WorkshopProcessDied(Exception):
    """Say that the process died over a task, twice, or had to be killed; the text says how."""


class WorkshopClosed(Exception):
    """Say that the workshop was closed under a task: nothing is known of it, it must be done again."""


class Workshop:
    """A fixed number of processes, each fed by a thread of its own."""

    def __init__(self, size: int, time_limit_seconds: float = 900.0) -> None:
        self.size = size
        self._time_limit = time_limit_seconds
        self._hands = threading.local()
        self._all: set[_Hand] = set()
        self._is_closed = False
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="workshop")

    def each(
        self, function: Callable[[Task], Answer], tasks: Iterable[Task]
    ) -> Iterator[tuple[Task, Answer | Exception]]:
        """Yield every task with its answer, or with the exception it ended in, in order.

        Transient answers mean that this machine could not do it now (a full disk), not that the task is bad.

        Only a few tasks are queued ahead, so that a small study is not behind all of a large one, and so
        that memory does not grow with the study.
        """
        waiting = iter(tasks)
        under_way = [(task, self._submit(function, task)) for task in islice(waiting, 2 * self.size)]
        while under_way:
            task, future = under_way.pop(0)
            answer: Answer | Exception
            try:
                answer = future.result()
            except (StorestowError, WorkshopProcessDied) as error:
                answer = error
            under_way += [(task, self._submit(function, task)) for task in islice(waiting, 1)]
            yield task, answer

    def warm(self, function: Callable[[str], None]) -> None:
        """Start every process and have it do `function`: the first study does not wait for its imports."""
        for _ in range(self.size):
            self._submit(function, "")

    def close(self) -> None:
        """Kill the processes; what they had in hand is done again by whoever comes next."""
        self._is_closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for hand in list(self._all):
            hand.end()

    def _submit(self, function: Callable[[Task], Answer], task: Task) -> "Future[Answer]":
        return self._threads.submit(self._do, function, task)

    def _do(self, function: Callable[[Task], Answer], task: Task) -> Answer:
        """Have a task done; one whose process was killed gets a second chance in a fresh one."""
        try:
            return self._hand().do(function, task, self._time_limit)
        except _Killed:
            self._let_go()
        try:
            return self._hand().do(function, task, self._time_limit)
        except _Killed as killed:
            self._let_go()
            raise WorkshopProcessDied(f"the process that had it in hand died twice: {killed}") from killed

    def _hand(self) -> "_Hand":
        if self._is_closed:
            raise WorkshopClosed
        hand: _Hand | None = getattr(self._hands, "hand", None)
        if hand is None or not hand.is_alive():
            hand = self._hands.hand = _Hand()
            self._all.add(hand)
            if self._is_closed:  # meanwhile, and `close` has not seen this one
                self._let_go()
        return hand

    def _let_go(self) -> None:
        hand: _Hand = self._hands.hand
        self._hands.hand = None
        self._all.discard(hand)
        hand.kill()
        if self._is_closed:
            raise WorkshopClosed


class _Killed(Exception):
    """Say how a process died; it may not have been the task's fault."""


class _Hand:
    """One process and our end of its pipe."""

    def __init__(self) -> None:
        self._pipe, theirs = Pipe()
        environment = {key: os.environ[key] for key in ("PATH", "TZ") if key in os.environ}
        self._process = subprocess.Popen(
            (sys.executable, "-I", "-m", "pipeline.processes.workshop", str(theirs.fileno())),
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            env=environment | _ENVIRONMENT,
            start_new_session=True,  # a Ctrl-C is for the worker; it ends us by closing the pipe
        )
        theirs.close()

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def do(self, function: Callable[[Task], Answer], task: Task, time_limit: float) -> Answer:
        try:
            self._pipe.send((function, task))
            if not self._pipe.poll(time_limit):
                self.kill()
                raise WorkshopProcessDied(f"it took longer than {time_limit:.0f} s and was stopped")
            kind, answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise _Killed(self._how()) from error
        if kind == "error":
            raise answer
        if kind == "bug":
            raise WorkshopProcessDied(f"a bug: {answer}")
        result: Answer = answer
        return result

    def end(self) -> None:
        """Kill the process, from whichever thread; the one that waits at the pipe sees it break."""
        self._process.kill()
        self._process.wait()

    def kill(self) -> None:
        """Kill the process and close the pipe, which only the thread that uses it may do."""
        self.end()
        self._pipe.close()

    def _how(self) -> str:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "its pipe broke"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _serve(pipe: Connection) -> None:
    """Answer requests until the worker closes the pipe, or dies, which closes it too."""
    while True:
        try:
            function, task = pipe.recv()
        except (EOFError, ConnectionError):
            return
        try:
            answer = ("answer", function(task))
        except StorestowError as error:
            answer = ("error", error)
        except OSError as error:
            if error.errno is None:  # pydicom's word for a file that ends too early: it would be so for ever
                answer = ("bug", _summary(error))
            else:
                answer = ("error", Transient(f"{error.strerror} ({error.filename or 'no file named'})"))
        except MemoryError:
            answer = ("bug", "there was not enough memory")
        except Exception as error:  # noqa: BLE001  # a bug must cost one instance, not the process
            answer = ("bug", _summary(error))
        try:
            pipe.send(answer)
        except ConnectionError:  # the worker was killed meanwhile; the next one asks again
            return


def _summary(error: Exception) -> str:
    """Name the error and where it arose, without its text, which may hold what a patient is called."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {os.path.basename(last.filename)}:{last.lineno}"  # noqa: PTH119


def memory_bound() -> int:
    """Return the bytes of address space one process may have: half of the machine's memory, at least 2 GiB.

    A JPEG 2000 frame of 600 bytes can claim 65535 x 65535 pixels, for which a decoder took all of 24 GiB. A large
    instance, mapped, copied, encoded and decoded again, takes some five times its size.
    """
    return max(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2, SMALLEST_BOUND)


def _bound_memory() -> None:
    """Fail to allocate rather than take the machine's memory; where it runs out all the same, die first."""
    if sys.platform != "linux":  # macOS does not enforce this limit, and has no such order
        return
    with contextlib.suppress(OSError):  # where a service manager forbids it, that must not stop the line
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        bound = memory_bound()
        resource.setrlimit(
            resource.RLIMIT_AS, (bound if hard == resource.RLIM_INFINITY else min(bound, hard), hard)
        )
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def main() -> None:
    """Serve the pipe whose file descriptor is the one argument."""
    _bound_memory()
    silence_libraries()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _serve(Connection(int(sys.argv[1])))


if __name__ == "__main__":
    main()
