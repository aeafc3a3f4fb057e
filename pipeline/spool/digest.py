"""What a file's bytes come to."""

import hashlib
from pathlib import Path

_LARGE = 64 << 20  # bytes of a file
_LARGE_PIECE = 4 << 20  # bytes; so that a thread that hashes rarely asks another one for the interpreter
_PIECE = 120 << 10  # bytes; for a larger one memory is mapped and cleared anew each time


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits; holds one piece of it. Raises OSError."""
    digest = hashlib.sha256()
    piece = memoryview(bytearray(_LARGE_PIECE if path.stat().st_size > _LARGE else _PIECE))
    with path.open("rb", buffering=0) as file:
        while length := file.readinto(piece):
            digest.update(piece[:length])
    return digest.hexdigest()
