"""Hash files, and keep the hashes of files that were just made or read: they are not read again to be sent."""

import hashlib
import os
import threading
import time
from pathlib import Path
from typing import Generic, TypeVar

# Device, inode, size, and the times of the last write and of the last change of the inode, in nanoseconds. Every
# write changes the last value, which no program can set back; a rename of the file changes it, too, but a rename
# of its folder does not.
FileState = tuple[int, int, int, int, int]

KEPT_SECONDS = 600.0  # A hash is kept for so long; later the file is read again.
MOST = 20_000  # Files about which a fact is kept, of about a kilobyte each.
_LARGE = 64 << 20  # Size in bytes from which a file is read in larger pieces.
_LARGE_PIECE = 4 << 20  # Bytes; with large pieces a hashing thread rarely asks for the interpreter lock.
PIECE = 120 << 10  # Bytes; for larger pieces memory would be mapped and cleared anew each time.


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits; one piece is in memory at a time. Raises OSError."""
    digest = hashlib.sha256()
    piece = memoryview(bytearray(_LARGE_PIECE if path.stat().st_size > _LARGE else PIECE))
    with path.open("rb", buffering=0) as file:
        while length := file.readinto(piece):
            digest.update(piece[:length])
    return digest.hexdigest()


def state_of(status: os.stat_result) -> FileState:
    """Return the state of a file, which every change of the file changes."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


Fact = TypeVar("Fact")


class FilesByState(Generic[Fact]):
    """Facts about files by their state, in memory only, MOST or `most` of them; several threads may use it."""

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._known: dict[FileState, Fact] = {}
        self._lock = threading.Lock()

    def keep(self, state: FileState, fact: Fact) -> None:
        """Remember a fact about the file in this state; if there are too many, the oldest is forgotten."""
        with self._lock:
            self._known[state] = fact
            while len(self._known) > (self._most or MOST):
                del self._known[next(iter(self._known))]

    def look_up(self, state: FileState) -> Fact | None:
        """Return the fact about the file in this state, None if there is none."""
        with self._lock:
            return self._known.get(state)

    def take(self, state: FileState) -> Fact | None:
        """Return the fact about the file in this state, None if there is none, and forget it."""
        with self._lock:
            return self._known.pop(state, None)


class HashedFiles:
    """The SHA-256 of files by their state, each kept for KEPT_SECONDS."""

    def __init__(self) -> None:
        self._known: FilesByState[tuple[str, float]] = FilesByState()

    def keep(self, state: FileState, sha256: str, read_at: float | None = None) -> None:
        """Remember the hash of a file made or read at `read_at` (seconds of the monotonic clock), or now."""
        self._known.keep(state, (sha256, time.monotonic() if read_at is None else read_at))

    def forget(self, state: FileState) -> None:
        """Forget the hash of the file in this state, so that the file is read again."""
        self._known.take(state)

    def sha256_of(self, path: Path) -> str:
        """Return the kept hash of a file; if there is none, read the file. Raises OSError."""
        return self._kept(state_of(path.stat())) or sha256_of(path)

    def state_with(self, sha256: str, path: Path) -> FileState | None:
        """Return the file's state if this hash is kept for it, None if the file must be read to know."""
        try:
            state = state_of(path.stat())
        except OSError:
            return None
        return state if self._kept(state) == sha256 else None

    def _kept(self, state: FileState) -> str | None:
        sha256, kept = self._known.look_up(state) or (None, 0.0)
        return sha256 if time.monotonic() - kept < KEPT_SECONDS else None
