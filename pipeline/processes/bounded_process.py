"""One child process that does tasks one after the other, each within its limits, and the worker's end of its pipe.

Tasks that take a few milliseconds are sent together, because each trip through the pipe wakes two threads of the
worker. The process is a new Python interpreter and not a fork, because the worker has threads. It is not started
by `multiprocessing`, which would import the worker's main module in every child (docs/adr/0003-jpeg-2000.md has
the measurements).
"""

import errno
import os
import signal
import subprocess  # It starts only our own interpreter, with constant arguments.
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from importlib.abc import MetaPathFinder
from multiprocessing.connection import Connection, Pipe
from types import ModuleType
from typing import Any, TypeVar

from pipeline.errors import StorestowError, Transient
from pipeline.events import fault, silence_libraries, traced
from pipeline.processes.limits import ProcessLimits, be_the_first_to_go

Task = TypeVar("Task")
Answer = TypeVar("Answer")

NICENESS = 5  # Reception, for which a modality waits, gets the processor first.
BEGIN_SECONDS = 10.0  # Of the clock, to start a process and import what its task needs; more counts as slow, too.
SLOW_SECONDS = 1.0  # Seconds of wall-clock time; nearly every instance takes less than a tenth of it.
TRIP_SECONDS = 0.1  # After so long no further task of those sent together begins: work of others may wait.

_ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",  # A process handles one instance: threads of a numeric library would only cost memory.
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_TRIM_THRESHOLD_": "1048576",  # Pixel buffers return to the system between instances.
}


# A person reads this sentence; the log has the place of the fault.
FAULT = "a fault of this program ended its work on it"


class PoolProcessDied(Exception):
    """Say that the process died twice during a task, or that the task ended in a bug; the text says how."""


class OverLimit(PoolProcessDied):
    """Say that a task exceeded its limits twice, the second time in a new process."""


class Killed(Exception):
    """Say how a process died; the cause may be another task."""

    blamed = PoolProcessDied  # The exception in which the task ends if this happens twice.

    @property
    def verdict(self) -> PoolProcessDied:
        """Return the exception that blames the task."""
        return self.blamed(f"the process that had it in hand died twice: {self}")


class TooMuch(Killed):
    """Say that the limits were exceeded: by this task, or because an earlier task had left little memory."""

    blamed = OverLimit

    @property
    def verdict(self) -> PoolProcessDied:
        """Return the exception that blames the task."""
        return OverLimit(f"the process that had it in hand needed more than {self}, twice")


class BoundedProcess:
    """One process and our end of its pipe."""

    def __init__(self) -> None:
        """Start the process; raises Transient if the machine has no process, memory or file number to spare."""
        self.free_since = 0.0  # Time of the monotonic clock when the last task ended; the pool sets it.
        with ExitStack() as at_failure:
            try:
                self._pipe, theirs = Pipe()
                at_failure.callback(self._pipe.close)
                with theirs:
                    self._process = _started(theirs.fileno())
            except OSError as error:
                raise Transient(f"no process can be started to open files: {error.strerror}") from error
            at_failure.pop_all()

    @property
    def pid(self) -> int:
        """Return the process ID."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Tell whether the process is running."""
        return self._process.poll() is None

    def do(
        self,
        function: Callable[[Task], Answer],
        tasks: Sequence[tuple[Task, ProcessLimits]],
        on_slow: Callable[[], None],
    ) -> list[Answer | Exception]:
        """Do the first of the tasks and as many more as begin within TRIP_SECONDS; return the answers of these.

        Call `on_slow`, perhaps twice, if they take more than SLOW_SECONDS. Their time counts from when the process
        has started and has imported what they need: on a busy machine that takes longer than most tasks, which
        would be called slow and would wait for those that are.

        An answer may be an exception: a StorestowError that the task raised, or PoolProcessDied for a bug.

        Raises:
            Killed: the process has died; start another one. Each of the tasks may be the cause.
            Transient: the tasks exceeded their wall-clock time; the process was then killed. Or the disk failed
                under a mapped file, which ends the process.
        """
        limits = max((limits for _, limits in tasks), key=lambda limits: limits.clock_seconds)
        try:
            self._pipe.send((function, tasks))
            if not self._pipe.poll(BEGIN_SECONDS):
                on_slow()
                self._wait_for_it(limits.clock_seconds, limits)
            self._pipe.recv()  # It has begun.
            if not self._pipe.poll(SLOW_SECONDS):
                on_slow()
                self._wait_for_it(max(limits.clock_seconds - SLOW_SECONDS, 0.0), limits)
            said = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._how(limits) from error
        if said[-1][0] == "memory":
            raise TooMuch(f"{limits.memory >> 20} MiB of memory")
        return [self._answer(function, kind, answer) for kind, answer in said]

    def _answer(self, function: Callable[[Task], Answer], kind: str, answer: Any) -> Answer | Exception:
        if kind == "bug":
            fault(getattr(function, "__name__", "task"), answer)
            return PoolProcessDied(f"{FAULT}; the log says where")
        said: Answer | Exception = answer
        return said

    def _wait_for_it(self, seconds: float, limits: ProcessLimits) -> None:
        """Wait for the next thing the process says; raises Transient, and the process is gone, if it says none."""
        if not self._pipe.poll(seconds):
            self.end()
            raise Transient(
                f"it took longer than {limits.clock_seconds:.0f} s, and little of that was time of the "
                "processor: the disk or the machine is too slow now"
            )

    def end(self) -> None:
        """Kill the process, from any thread; the thread that waits at the pipe sees it break."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Kill the process and close the pipe; only the thread that uses the pipe may call this."""
        self.end()
        self._pipe.close()

    def _how(self, limits: ProcessLimits) -> Killed:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return Killed("its pipe broke")
        if code == -signal.SIGXCPU:
            return TooMuch(f"{limits.cpu_seconds:.0f} s of the processor's time")
        if code == -signal.SIGBUS:
            raise Transient("a file that was mapped into memory could not be read to its end: the disk fails now")
        return Killed(signal.Signals(-code).name if code < 0 else f"exit code {code}")


def _started(pipe: int) -> subprocess.Popen[bytes]:
    """Start a process that serves the pipe with this file descriptor. Raises OSError."""
    environment = {key: os.environ[key] for key in ("PATH", "TZ") if key in os.environ}
    return subprocess.Popen(
        (sys.executable, "-I", "-m", "pipeline.processes.bounded_process", str(pipe)),
        pass_fds=(pipe,),
        stdin=subprocess.DEVNULL,
        env=environment | _ENVIRONMENT,
        # A Ctrl-C is meant for the worker, which ends this process by closing the pipe.
        start_new_session=True,
    )


def _serve(pipe: Connection) -> None:
    """Answer requests until the worker closes the pipe; its death closes the pipe, too."""
    os.nice(NICENESS)
    while True:
        try:
            function, tasks = pipe.recv()
        except (EOFError, ConnectionError):
            return
        try:
            pipe.send("begun")
            pipe.send(list(_answers(function, tasks)))
        except ConnectionError:  # The worker was killed meanwhile; the next worker does the tasks again.
            return


def _answers(
    function: Callable[[Task], Answer], tasks: Sequence[tuple[Task, ProcessLimits]]
) -> Iterator[tuple[str, object]]:
    """Do the tasks until TRIP_SECONDS are over, or until one of them lacks memory."""
    began = time.monotonic()
    for task, limits in tasks:
        limits.apply()
        answer = _answer(function, task)
        yield answer
        if answer[0] == "memory" or time.monotonic() > began + TRIP_SECONDS:
            return


def _answer(function: Callable[[Task], Answer], task: Task) -> tuple[str, object]:
    try:
        return "answer", function(task)
    except StorestowError as error:
        return "error", error
    except OSError as error:
        return _of_the_system(error)
    except MemoryError:
        return "memory", None
    except Exception as error:  # noqa: BLE001  # a bug must cost one instance, not the process
        return "bug", traced(error)


def _of_the_system(error: OSError) -> tuple[str, object]:
    if error.errno is None:  # pydicom raises this for a file that ends too early, at every attempt.
        return "bug", traced(error)
    if error.errno == errno.ENOMEM:  # The file could not be mapped.
        return "memory", None
    return "error", Transient(f"{error.strerror} ({error.filename or 'no file named'})")


class _NoDownloads(MetaPathFinder):
    """Keep pydicom from importing requests to download test files: that takes a quarter of its own time.

    pydicom does without. Anybody else, a rule of the site's own for example, may import it.
    """

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002  # as MetaPathFinder has it
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> None:
        """Raise ImportError for requests while the module of pydicom that wants it is being imported."""
        if fullname == "requests":
            wanting = sys.modules.get("pydicom.data.download")
            if wanting is not None and not hasattr(wanting, "HAVE_REQUESTS"):
                raise ImportError(fullname)


def main() -> None:
    """Serve the pipe whose file descriptor is the only argument."""
    be_the_first_to_go()
    silence_libraries()
    sys.meta_path.insert(0, _NoDownloads())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _serve(Connection(int(sys.argv[1])))


if __name__ == "__main__":
    main()
