"""The SHA-256 of files: read, or kept of those made just now, so that what is sent at once is not read again."""

import hashlib
import os
import time
from pathlib import Path

FileState = tuple[int, int, int]  # What every change of a file changes: its inode, its size, when it was written.

KEPT_SECONDS = 600.0  # Whoever is sent a file later gets what a new reading finds.
MOST = 20_000  # Files.
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
    return status.st_ino, status.st_size, status.st_mtime_ns


class HashedFiles:
    """What is known of files by their state; used from several threads."""

    def __init__(self) -> None:
        self._known: dict[FileState, tuple[str, float]] = {}

    def keep(self, state: FileState, sha256: str) -> None:
        """Remember the hash of a file as it was made; of too many the first is forgotten."""
        self._known[state] = sha256, time.monotonic()
        while len(self._known) > MOST:
            self._known.pop(next(iter(self._known)), None)

    def sha256_of(self, path: Path) -> str:
        """Return the hash of a file: as it was made, or as it is read now. Raises OSError."""
        sha256, kept = self._known.get(state_of(path.stat()), ("", 0.0))
        if sha256 and time.monotonic() - kept < KEPT_SECONDS:
            return sha256
        return sha256_of(path)
