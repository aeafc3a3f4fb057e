"""Read the data set of a pinned file for sending: the file's hash is compared before the last byte is sent.

The length of the data set is made even: a PDV carries even lengths only (PS3.8 E.2), and peers abort otherwise. A
value of odd length violates PS3.5 7.1, a deflated data set of odd length PS3.5 A.5; real files have both faults.
"""

import hashlib
import mmap
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from typing import Protocol

from pydicom.uid import DeflatedExplicitVRLittleEndian

from pipeline.dicom.attributes.elements import STRING_VRS
from pipeline.dicom.part10 import LONG_VRS, Bytes, DataSetLayout, Element, Malformed
from pipeline.dicom.walk import walk
from pipeline.errors import Permanent

_LONGEST_META = 1 << 16  # Bytes; real file meta information has a few hundred.
_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_HEAD = 1 << 17  # Bytes of the data set in which the header of Pixel Data is searched; it mostly begins there.
_ZEROS = bytes(8)
_ODD = "its data set has an odd number of bytes, which cannot be carried, and not because of its last value"


class NotAsPinned(Exception):
    """Say that a file is missing, unreadable, or differs from its pin; its last bytes have not been sent."""


class DataSetStream(Protocol):
    """The bytes of one data set, in order; `is_padded` says that a byte was added to make their number even."""

    is_padded: bool

    @property
    def is_read(self) -> bool:
        """Say whether everything has been read, and matched the pin."""

    def read_into(self, room: memoryview) -> int:
        """Put the next bytes into `room` and return their number.

        Raises NotAsPinned instead of returning the last bytes if the file differs from its pin.
        """


class LoadedDataSet:
    """A data set in memory, from a file whose hash was compared with its pin."""

    def __init__(self, path: Path, sha256: str) -> None:
        """Read the file and compare its hash; raises NotAsPinned, and Permanent as `padded` does."""
        try:
            content = path.read_bytes()
            start, end = bounds(content)
        except (OSError, Malformed) as error:
            raise NotAsPinned from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise NotAsPinned
        self.is_padded = (end - start) % 2 == 1
        self._left = memoryview(padded(content, start, end) if self.is_padded else content[start:end])

    @property
    def is_read(self) -> bool:
        """Say whether everything has been read."""
        return not self._left

    def read_into(self, room: memoryview) -> int:
        """Put the next bytes into `room` and return their number."""
        count = min(len(room), len(self._left))
        room[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


class StreamedDataSet:
    """A data set in a file, read once from its first to its last byte; the hash is known after the last."""

    is_padded = False

    def __init__(self, file: FileIO, sha256: str) -> None:
        """Find the data set in the file; raises OSError or Malformed, and ValueError for an empty file."""
        self._file, self._wanted = file, sha256
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            start, end = bounds(data)
        self._left = end - start
        self.is_odd = self._left % 2 == 1
        self._sha256 = hashlib.sha256(file.read(start))

    @property
    def is_read(self) -> bool:
        """Say whether everything has been read, and matched the pin."""
        return not self._left

    def read_into(self, room: memoryview) -> int:
        """Put the next bytes into `room` and return their number.

        Raises NotAsPinned if the file cannot be read, and instead of returning the last bytes if its hash differs.
        """
        try:
            count = self._file.readinto(room[: min(len(room), self._left)])
            self._left -= count
            self._sha256.update(room[:count])
            if not self._left:
                self._sha256.update(self._file.read())  # Padding behind the data set is part of the hash.
        except OSError as error:
            raise NotAsPinned from error
        if not count or (not self._left and self._sha256.hexdigest() != self._wanted):
            raise NotAsPinned
        return count


@contextmanager
def outgoing(path: Path, sha256: str) -> Iterator[DataSetStream]:
    """Open the data set of a pinned file for the block; a data set of odd length is held in memory.

    Raises NotAsPinned, and Permanent as `padded` does.
    """
    with ExitStack() as stack:
        try:
            data = StreamedDataSet(stack.enter_context(path.open("rb", buffering=0)), sha256)
        except (OSError, ValueError, Malformed) as error:  # An empty file cannot be mapped: ValueError.
            raise NotAsPinned from error
        yield LoadedDataSet(path, sha256) if data.is_odd else data


def bounds(data: Bytes) -> tuple[int, int]:
    """Return the offsets at which the data set begins and ends in a file (PS3.10 7.1); raises Malformed.

    The data set mostly ends with the file. Some programs that write media add zeros, which a peer would reject.
    The end is therefore found element by element in a file that ends in zeros outside Pixel Data.
    """
    start, size = _start(data[:_LONGEST_META]), len(data)
    if data[max(start, size - len(_ZEROS)) :] != _ZEROS:
        return start, size
    if _ends_with_pixels(data[start : start + _HEAD], start, size):
        return start, size
    try:
        return start, walk(data).end
    except Malformed:  # A deflated data set cannot be walked; it is sent unchanged.
        return start, size


def _start(head: bytes) -> int:
    at = 132 if head[128:132] == b"DICM" else 0
    try:
        while head[at : at + 2] == b"\x02\x00":
            if head[at + 4 : at + 6] in LONG_VRS:
                at += 12 + struct.unpack_from("<L", head, at + 8)[0]
            else:
                at += 8 + struct.unpack_from("<H", head, at + 6)[0]
    except struct.error as error:
        raise Malformed("the file meta information is cut") from error
    if at >= len(head):
        raise Malformed("no data set follows the file meta information")
    return at


def _ends_with_pixels(head: bytes, start: int, size: int) -> bool:
    """Say whether Pixel Data begins in `head` and ends with the file: zeros at the end are then black pixels."""
    at = head.find(_PIXEL_DATA)
    while 0 <= at <= len(head) - 12:
        implicit, explicit = struct.unpack_from("<LL", head, at + 4)
        if size in {start + at + 8 + implicit, start + at + 12 + explicit}:
            return True
        at = head.find(_PIXEL_DATA, at + 1)
    return False


def padded(content: bytes, start: int, end: int) -> bytes:
    """Return the data set at `start` with its last value padded by one byte, as PS3.5 7.1 demands of its writer.

    Raises Permanent if the odd length is not due to the last value.
    """
    if _is_deflated(content, start):
        return content[start:end] + b"\0"
    try:
        layout = walk(content)
    except Malformed as error:
        raise Permanent(_ODD) from error
    last = max(layout.elements.values(), key=lambda element: element.end)
    length = last.end - last.value
    if last.undefined_length or length % 2 == 0:
        raise Permanent(_ODD)
    size = 4 if last.vr in LONG_VRS or not layout.explicit else 2
    longer = (length + 1).to_bytes(size, "little" if layout.little_endian else "big")
    return content[start : last.value - size] + longer + content[last.value : last.end] + _padding(last, layout)


def _padding(last: Element, layout: DataSetLayout) -> bytes:
    is_text = layout.explicit and last.vr.decode("ascii", "replace") in STRING_VRS - {"UI"}
    return b" " if is_text else b"\0"  # PS3.5 6.2


def _is_deflated(content: bytes, start: int) -> bool:
    at = content.find(b"\x02\x00\x10\x00UI", 0, start)
    length = int.from_bytes(content[at + 6 : at + 8], "little")
    return at >= 0 and content[at + 8 : at + 8 + length].strip(b" \0").decode("latin-1") == (
        DeflatedExplicitVRLittleEndian
    )
