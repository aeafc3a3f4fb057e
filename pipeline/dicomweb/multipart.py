"""Make the body of a STOW-RS request: it is streamed from the files, and its length is known in advance.

A file is hashed while it is streamed; its last bytes are sent only if the hash is the pinned one.
"""

import hashlib
import secrets
from collections.abc import Iterator, Sequence

from pipeline.errors import Transient
from pipeline.model import Item
from pipeline.spool.hashed_files import sha256_of

CHANGED = "its file is gone or has changed since it was pinned"
_BLOCK = 1 << 18  # Bytes; large enough for few system calls, small enough for many connections.


class DiffersFromPin(Transient):
    """Say that the file of `item` is missing, unreadable or not as pinned; its last bytes have not been sent."""

    def __init__(self, item: Item, message: str) -> None:
        super().__init__(message)
        self.item = item


def new_boundary() -> str:
    """Return a boundary of 70 characters (RFC 2046 5.1.1): long ones make dcm4che's parser four times faster."""
    return secrets.token_hex(35)


class Body:
    """Iterate over the bytes of a multipart/related body (PS3.18 8.6.1.2.1), once for each attempt.

    Raises DiffersFromPin before the last bytes of a file that is not as it was pinned: the body is then shorter
    than its Content-Length, and no archive has received that part in full.

    Because the body has a length, requests sends Content-Length: some archives store a part of a chunked body that
    breaks off. A part's header has nothing after `application/dicom`, because Orthanc before 1.19 would drop that
    part and every later one.
    """

    def __init__(self, items: Sequence[Item], boundary: str) -> None:
        self._items = items
        self.content_type = f'multipart/related; type="application/dicom"; boundary={boundary}'
        self._head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        self._end = f"--{boundary}--\r\n".encode()

    def __len__(self) -> int:
        return sum(len(self._head) + item.size + 2 for item in self._items) + len(self._end)

    def __iter__(self) -> Iterator[bytes | memoryview]:
        block = memoryview(bytearray(_BLOCK))
        for item in self._items:
            yield self._head
            yield from _content(item, block)
            yield b"\r\n"
        yield self._end


def has_pinned_size(item: Item) -> bool:
    """Say whether the file exists and has its pinned size; its bytes are hashed while they are sent."""
    try:
        return item.path.stat().st_size == item.size
    except OSError:
        return False


def has_pinned_bytes(item: Item) -> bool:
    """Say whether the file exists and has the pinned SHA-256; this reads the whole file."""
    try:
        return sha256_of(item.path) == item.sha256
    except OSError:
        return False


def _content(item: Item, block: memoryview) -> Iterator[memoryview]:
    left, sha256 = item.size, hashlib.sha256()
    try:
        with item.path.open("rb", buffering=0) as file:
            while left and (count := file.readinto(block[: min(left, len(block))])):
                left -= count
                sha256.update(block[:count])
                if not left and sha256.hexdigest() != item.sha256:
                    raise DiffersFromPin(item, CHANGED)
                yield block[:count]
    except OSError as error:  # The error is one of reading; errors of the socket are not raised here.
        raise DiffersFromPin(item, f"its file cannot be read now: {error.strerror}") from error
    if left:
        raise DiffersFromPin(item, CHANGED)
