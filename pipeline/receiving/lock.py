"""The lock `<spool>/run/<receiver>.lock`: its holder may write into the receiver's incoming folder.

`receive` takes the lock and every storescp inherits its file descriptor, so the lock is held as long as *any* of
them runs, even after `receive` itself was killed.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from pipeline.config.receiver_tables import ReceiverTable
from pipeline.errors import Configuration
from pipeline.receiving import listening_port
from pipeline.receiving.foreign import writing_below
from pipeline.spool.spool import Spool

PATIENCE_SECONDS = 20  # Seconds for a leftover storescp to end, and for a test of the lock by another process.
GRACE_SECONDS = 5  # Seconds between SIGTERM and SIGKILL.


def lock_file(spool: Spool, receiver: str) -> Path:
    """Return the path of the receiver's lock file."""
    return spool.run / f"{receiver}.lock"


def is_receiving(spool: Spool, receiver: str) -> bool:
    """Say whether any process may be writing into the receiver's incoming folder.

    Raises Configuration if the calling user may not read the lock file.
    """
    path = lock_file(spool, receiver)
    try:
        with path.open("rb") as file:
            return not _take(file.fileno(), fcntl.LOCK_SH)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError as error:
        raise Configuration(f"{path} cannot be read: ask as the user storestow runs as") from error


def is_up(spool: Spool, receiver: ReceiverTable) -> bool:
    """Say whether the receiver's port is open: by our process, or in `external` mode by any process.

    Raises Configuration as `is_receiving` does.
    """
    if receiver.mode == "external":
        return listening_port.is_listened(receiver.port)
    return is_receiving(spool, receiver.name)


def recorded_port(spool: Spool, receiver: str) -> int | None:
    """Return the port that is recorded in the receiver's lock file, None if there is none."""
    try:
        port = json.loads(lock_file(spool, receiver).read_bytes())["port"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return port if isinstance(port, int) else None


@contextlib.contextmanager
def unless_receiving(spool: Spool, receiver: str) -> Iterator[bool]:
    """Hold the lock during the block and yield True, or yield False at once if a process may be writing."""
    with _opened(lock_file(spool, receiver)) as descriptor:
        yield _take(descriptor, fcntl.LOCK_EX)


@contextlib.contextmanager
def held(spool: Spool, receiver: ReceiverTable) -> Iterator[int]:
    """Hold the receiver's lock during the block; yields the file descriptor that every storescp must inherit.

    A storescp whose `receive` has died is ended first. Raises Configuration if another `receive` runs, or the lock
    is not released in time.
    """
    path = lock_file(spool, receiver.name)
    with _opened(path) as descriptor:
        began = time.monotonic()
        while not _take(descriptor, fcntl.LOCK_EX):
            _refuse_beside_another(path, receiver.name)
            waited = time.monotonic() - began
            _end_orphans(spool.incoming_of(receiver.name), kindly=waited < GRACE_SECONDS)
            if waited > PATIENCE_SECONDS:
                raise Configuration(
                    f"receiver {receiver.name}: {path} stays locked; see who holds it: lsof {path}"
                )
            time.sleep(0.05)
        _record(descriptor, receiver)
        yield descriptor


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _take(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _record(descriptor: int, receiver: ReceiverTable) -> None:
    about = {"pid": os.getpid(), "started_ns": time.time_ns(), "mode": receiver.mode, "port": receiver.port}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(about).encode(), 0)


def _refuse_beside_another(path: Path, name: str) -> None:
    """Raise Configuration if the recorded `receive` is running.

    Its process ID alone does not prove that, because another process may have the same ID by now.
    """
    try:
        pid = int(json.loads(path.read_bytes())["pid"])
        if pid == os.getpid():  # In a container every `receive` has the same process ID.
            return
        lives = str(path.resolve()) in {file.path for file in psutil.Process(pid).open_files()}
    except (ValueError, KeyError, TypeError, psutil.NoSuchProcess):
        return
    except psutil.AccessDenied:
        lives = True
    if lives:
        raise Configuration(f"receiver {name} is already running (process {pid}); stop that one first")


def _end_orphans(incoming: Path, *, kindly: bool) -> None:
    """End every storescp that writes below `incoming`, by SIGTERM if `kindly`, otherwise by SIGKILL."""
    for process in writing_below(incoming):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate() if kindly else process.kill()
