"""The SHA-256 of files: read, or kept of those made just now, so that what is sent at once is not read again."""

import hashlib
import os
import threading
import time
from pathlib import Path
from typing import Generic, TypeVar

# Device, inode, size, and the times of the last write and of the last change of the inode, in nanoseconds. Every
# write changes the last one, which no program can set back; a rename of the file changes it too, a rename of its
# folder does not.
FileState = tuple[int, int, int, int, int]

KEPT_SECONDS = 600.0  # A file that is asked for later is read again.
MOST = 20_000  # Files of which something is kept; about a kilobyte each.
_LARGE = 64 << 20  # Size in bytes from which a file is read in larger pieces.
_LARGE_PIECE = 4 << 20  # Bytes; with large pieces a hashing thread rarely asks for the interpreter lock.
_PIECE = 120 << 10  # Bytes; for larger pieces memory would be mapped and cleared anew each time.


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits. Memory: one piece. Raises OSError."""
    digest = hashlib.sha256()
    piece = memoryview(bytearray(_LARGE_PIECE if path.stat().st_size > _LARGE else _PIECE))
    with path.open("rb", buffering=0) as file:
        while length := file.readinto(piece):
            digest.update(piece[:length])
    return digest.hexdigest()


def state_of(status: os.stat_result) -> FileState:
    """Return what changes with every change of a file."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


Fact = TypeVar("Fact")


class FilesByState(Generic[Fact]):
    """What is known of files by their state, in memory only; used from several threads."""

    def __init__(self) -> None:
        self._known: dict[FileState, Fact] = {}
        self._lock = threading.Lock()

    def keep(self, state: FileState, fact: Fact) -> None:
        """Remember a fact of the file in this state; of too many the first is forgotten."""
        with self._lock:
            self._known[state] = fact
            while len(self._known) > MOST:
                del self._known[next(iter(self._known))]

    def look_up(self, state: FileState) -> Fact | None:
        """Return what is known of the file in this state, None if nothing is."""
        with self._lock:
            return self._known.get(state)

    def take(self, state: FileState) -> Fact | None:
        """Return what is known of the file in this state, and forget it."""
        with self._lock:
            return self._known.pop(state, None)


class HashedFiles:
    """The SHA-256 of files by their state, for some minutes."""

    def __init__(self) -> None:
        self._known: FilesByState[tuple[str, float]] = FilesByState()

    def keep(self, state: FileState, sha256: str, read_at: float | None = None) -> None:
        """Remember the hash of a file as it was made, or read, at `read_at` (monotonic clock, seconds), or now."""
        self._known.keep(state, (sha256, time.monotonic() if read_at is None else read_at))

    def forget(self, state: FileState) -> None:
        """Let the file in this state be read again."""
        self._known.take(state)

    def sha256_of(self, path: Path) -> str:
        """Return the hash of a file: as it was kept, or as it is read now. Raises OSError."""
        sha256, kept = self._known.look_up(state_of(path.stat())) or ("", 0.0)
        if sha256 and time.monotonic() - kept < KEPT_SECONDS:
            return sha256
        return sha256_of(path)
