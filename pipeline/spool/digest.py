"""The SHA-256 of a file."""

import hashlib
from pathlib import Path

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
