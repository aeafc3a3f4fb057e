"""Have commands of storestow run in processes that kill themselves at a named point.

A process with everything imported waits for requests, a JSON object a line, and forks one child for each: that
spares every one of hundreds the second it takes to import. It tells the child's number, and how it ended.
"""

import contextlib
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # it runs isolated

from sqlalchemy import Connection
from support.crash.moments import point_of
from support.machine.small_disk import make_read_only

from pipeline import crash_points, schedule
from pipeline.commands import cli, work  # noqa: F401
from pipeline.errors import StorestowError, Transient
from pipeline.ledger.sqlite import Sqlite
from pipeline.line import delivery_scheduler, prepare, prepare_study, quarantine  # noqa: F401
from pipeline.operate import retry  # noqa: F401
from pipeline.processes import jobs
from pipeline.processes.process_pool import PoolClosed, PoolProcessDied
from pipeline.site import open_site
from pipeline.worker import worker


def act_at(point: str, count: int, act: Callable[[], None]) -> None:
    """Act when `point` is reached for the `count`th time, by whichever thread."""
    reaches = itertools.count(1)
    wanted = point_of(point)

    def observe(name: str) -> None:
        if name == wanted and next(reaches) == count:
            act()

    crash_points.observer = observe


def record(file: str) -> None:
    """Add a line to `file` for each point that is reached: its name."""
    log = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    crash_points.observer = lambda name: void(os.write(log, f"{name}\n".encode()))


def keep_flushed(folder: Path) -> None:
    """Copy the ledger to `folder` after each commit that is flushed, before anything else happens there."""
    begin, observe = Sqlite.begin_writing, crash_points.observer
    mine, copying = threading.local(), threading.Lock()

    def begun(database: Sqlite, connection: Connection, *, flushed: bool, alone: bool) -> None:
        begin(database, connection, flushed=flushed, alone=alone)
        mine.path = database.path if flushed else None

    def look(name: str) -> None:
        if name.startswith("after commit") and mine.path:
            with copying:
                copy_of(mine.path, folder)
        if observe:
            observe(name)

    Sqlite.begin_writing = begun  # type: ignore[method-assign]
    crash_points.observer = look


def copy_of(ledger: Path, folder: Path) -> None:
    """Copy the ledger's file and its write-ahead log, which starts anew only where nobody reads.

    Another process does: to close a file ends the locks that SQLite has on it in this one.
    """
    folder.mkdir(exist_ok=True)
    with contextlib.closing(sqlite3.connect(ledger, isolation_level=None)) as reading:
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM sqlite_master").fetchone()
        subprocess.run(["/bin/cp", ledger, f"{ledger}-wal", folder], check=True)


def void(_: object) -> None:
    pass


def fill_disk(ballast: str) -> None:
    """Leave no room on the file system of `ballast`."""
    with Path(ballast).open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def follow_clock(file: Path) -> None:
    """Let the wall clock be ahead by as many seconds as the file says at the moment, monotonic time as it is."""
    real, real_ns = time.time, time.time_ns

    def ahead() -> int:
        with contextlib.suppress(OSError, ValueError):
            return int(file.read_text())
        return 0

    time.time = lambda: real() + ahead()
    time.time_ns = lambda: real_ns() + ahead() * 1_000_000_000


class OneRoom:
    """A pool without processes of its own, which take half a second each to start."""

    size = 1
    waiting = 0

    def __init__(self, *_: object) -> None:
        self._is_closed = False
        self._one_at_a_time = threading.Lock()  # as a process does; the libraries count on it (docs/adr/0003)

    def each(self, function: Callable[[Any], Any], tasks: Iterable[Any], *_: object) -> Iterator[tuple[Any, Any]]:
        for task in tasks:
            yield task, self._do(function, task)

    def _do(self, function: Callable[[Any], Any], task: Any) -> Any:
        if self._is_closed:
            raise PoolClosed
        try:
            with self._one_at_a_time:
                return function(task)
        except StorestowError as error:
            return error
        except OSError as error:
            return Transient(str(error))
        except Exception as error:
            return PoolProcessDied(repr(error))

    def warm(self, *_: object) -> None:
        pass

    def end_idle(self) -> None:
        pass

    def close(self) -> None:
        self._is_closed = True


def run(request: dict[str, Any]) -> int:
    """Do in the child what was asked for, and return the exit code."""
    os.setsid()
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDONLY) if descriptor == 0 else log, descriptor)
    ballast = request["ballast"]
    read_only = request["read_only"]
    act = (lambda: fill_disk(ballast)) if ballast else (lambda: os.kill(os.getpid(), request["by"]))
    if read_only:
        act = partial(make_read_only, Path(read_only))
    if request["record"]:
        record(request["record"])
    else:
        act_at(request["point"], request["count"], act)
    if request["flushed"]:
        keep_flushed(Path(request["flushed"]))
    worker.POLL_SECONDS = request["poll_seconds"]
    jobs.RETRY_SECONDS = 6 * worker.POLL_SECONDS
    delivery_scheduler.RECLAIM_SECONDS = 12 * worker.POLL_SECONDS
    schedule.SHORTEST_WAIT = request["shortest_wait"]
    if request["clock"]:
        follow_clock(Path(request["clock"]))
    if request["in_parts"]:
        prepare_study.FIRST_SECONDS = prepare_study.NEXT_SECONDS = 0.0
    if request["in_one_room"]:
        open_site.ProcessPool = OneRoom  # type: ignore[misc,assignment]
    sys.argv = ["storestow", *request["words"]]
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    prepare.load_encodings("")
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = run(json.loads(line))
            sys.stderr.flush()
            os._exit(code)
        print("started", pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print("ended", os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main()
