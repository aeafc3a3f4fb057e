"""What a file's bytes come to."""

import hashlib
from pathlib import Path

_PIECE = 4 << 20  # bytes; large, so that a thread that hashes rarely asks another one for the interpreter


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits; holds one piece of it. Raises OSError."""
    digest = hashlib.sha256()
    piece = memoryview(bytearray(min(_PIECE, path.stat().st_size + 1)))
    with path.open("rb", buffering=0) as file:
        while length := file.readinto(piece):
            digest.update(piece[:length])
    return digest.hexdigest()
