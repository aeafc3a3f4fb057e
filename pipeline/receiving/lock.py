"""Who may write into a receiver's incoming folder: whoever holds the lock on `<spool>/run/<receiver>.lock`.

`receive` takes it and every storescp inherits its file descriptor, so it is held as long as *any* of them
lives, even when `receive` itself has been killed.
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

PATIENCE_SECONDS = 20  # for orphans to die, and for a moment's look of another process to be over
GRACE_SECONDS = 5  # between SIGTERM and SIGKILL


def lock_file(spool: Spool, receiver: str) -> Path:
    """Return the file the receiver's lock is on."""
    return spool.run / f"{receiver}.lock"


def is_receiving(spool: Spool, receiver: str) -> bool:
    """Say whether any process may be writing into the receiver's incoming folder.

    Raises Configuration where the user who asks may not know.
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
    """Say whether the receiver's door is open: ours, or in `external` mode anybody's on its port.

    Raises Configuration as `is_receiving` does.
    """
    if receiver.mode == "external":
        return listening_port.is_listened(receiver.port)
    return is_receiving(spool, receiver.name)


def recorded_port(spool: Spool, receiver: str) -> int | None:
    """Return the port the receiver's lock file tells, None where it tells none."""
    try:
        port = json.loads(lock_file(spool, receiver).read_bytes())["port"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return port if isinstance(port, int) else None


@contextlib.contextmanager
def unless_receiving(spool: Spool, receiver: str) -> Iterator[bool]:
    """Hold the lock for the block and say True, or say False at once where somebody may be writing."""
    with _opened(lock_file(spool, receiver)) as descriptor:
        yield _take(descriptor, fcntl.LOCK_EX)


@contextlib.contextmanager
def held(spool: Spool, receiver: ReceiverTable) -> Iterator[int]:
    """Hold the receiver's lock for the block; yields the descriptor every storescp must inherit.

    A storescp whose `receive` has died is ended first. Raises Configuration where another `receive` runs.
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
    """Raise Configuration where the recorded `receive` lives: its number alone could be anybody's by now."""
    try:
        pid = int(json.loads(path.read_bytes())["pid"])
        if pid == os.getpid():  # in a container every `receive` has the same number
            return
        lives = str(path.resolve()) in {file.path for file in psutil.Process(pid).open_files()}
    except (ValueError, KeyError, TypeError, psutil.NoSuchProcess):
        return
    except psutil.AccessDenied:
        lives = True
    if lives:
        raise Configuration(f"receiver {name} is already running (process {pid}); stop that one first")


def _end_orphans(incoming: Path, *, kindly: bool) -> None:
    """End every storescp that writes below `incoming` although nobody attends to it any more."""
    for process in writing_below(incoming):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate() if kindly else process.kill()
