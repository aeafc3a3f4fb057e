"""Write an instance with some attributes changed and every other byte as received, and read it back."""

import os
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import accumulate
from pathlib import Path

from pydicom import Dataset

from pipeline.dicom.attributes.elements import element_of, encoded
from pipeline.dicom.header import HashedWriter, preamble_of_copy
from pipeline.dicom.part10 import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    Bytes,
    DataSetLayout,
    Element,
    Malformed,
    shown,
    text_of,
)
from pipeline.dicom.walker import Walker

PIECE = 1 << 20
Range = tuple[int, int]  # Start and end of bytes in the received file.


class CopiedInstance:
    """The received bytes with the attributes `touched` taken from `header`.

    Every other element, and everything from Pixel Data on, is copied as received. A deflated data set is deflated
    again.
    """

    def __init__(self, data: Bytes, layout: DataSetLayout, header: Dataset, touched: frozenset[int]) -> None:
        self._data, self._layout, self._header, self._touched = data, layout, header, touched
        self.is_deflated = layout.transfer_syntax_uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN

    @cached_property
    def _pieces(self) -> tuple[Range | bytes, ...]:
        return tuple(_header_pieces(self._layout, self._header, self._touched))

    @cached_property
    def _preamble(self) -> bytes:
        return preamble_of_copy(self._header, self._data, self._layout)

    def write(self, target: Path) -> str:
        """Write the file and return its SHA-256."""
        layout = self._layout
        with target.open("wb") as file:
            hashing = HashedWriter(file)
            hashing.write(self._preamble)
            body: HashedWriter | _Deflating = _Deflating(hashing) if self.is_deflated else hashing
            with memoryview(self._data) as view:
                for piece in (*self._pieces, (layout.header_end, layout.end)):
                    if isinstance(piece, bytes):
                        body.write(piece)
                    else:
                        _copy(view, piece, body.write)
            body.finish()
        return hashing.hexdigest()

    def read_back(self, path: Path, tags: Iterable[int]) -> list[str]:
        """Read the written header back, and return its values of `tags` as text.

        The walk has proved where every received element begins and ends. So each must stand in the file byte for
        byte and once, unless it was to be changed; and each changed element must have the length it claims. What
        follows the header is proved by its length, and by the hash when it is sent.

        Raises:
            Malformed: the file is not the received data set with the changes.
        """
        layout, at = self._layout, len(self._preamble)
        rest = layout.end - layout.header_end
        for tag in self._touched:
            received = layout.elements.get(tag)
            if received is not None and received.start > layout.header_end:
                raise Malformed(f"the element {shown(tag)} stands behind Pixel Data, and would be there twice")
        with path.open("rb", buffering=0) as file:
            head = file.read(max(0, os.fstat(file.fileno()).st_size - rest))
        if head[:at] != self._preamble:  # Which was walked when it was made.
            raise Malformed("its file meta information is not as it was made")
        walker, new, copied = Walker(head, layout.explicit, layout.little_endian), {}, 0
        for piece in self._pieces:
            if isinstance(piece, bytes):
                stop = at + len(piece)
                element = walker.element(at, len(head), 0)
                if head[at:stop] != piece or element.end != stop or element.tag in new:
                    raise Malformed(f"the element {shown(element.tag)} is not as it was made")
                new[element.tag] = element
            else:
                stop = at + piece[1] - piece[0]
                copied += stop - at
                if head[at:stop] != self._data[piece[0] : piece[1]]:
                    raise Malformed("its header differs from the received one elsewhere than it was to")
            at = stop
        wanted = {tag for tag in self._touched if element_of(self._header, tag) is not None}
        if at != len(head) or new.keys() != wanted or copied != self._bytes_to_copy():
            raise Malformed("its header lacks something, or has something twice")
        return [text_of(head, new.get(tag)) or self._received_text(tag) for tag in tags]

    def _received_text(self, tag: int) -> str:
        element = None if tag in self._touched else self._layout.elements.get(tag)
        return text_of(self._data, element)

    def _bytes_to_copy(self) -> int:
        """Return how many bytes of the received header are those of elements that stay."""
        received = self._layout.header_end - self._layout.data_set
        return received - sum(gone.end - gone.start for gone in _gone(self._layout, self._touched))


def _copy(view: memoryview, part: Range, write: Callable[[bytes | memoryview], None]) -> None:
    start, end = part
    for at in range(start, end, PIECE):
        with view[at : min(at + PIECE, end)] as piece:
            write(piece)


def _header_pieces(layout: DataSetLayout, header: Dataset, touched: frozenset[int]) -> Iterator[Range | bytes]:
    """Yield changed elements as bytes, and the elements between them as ranges of bytes to copy."""
    end, in_order = layout.header_end, tuple(layout.elements.values())
    # Start and end of what is not copied, then the tag and the bytes of what is put there.
    cuts = [(gone.start, gone.end, 0, b"") for gone in _gone(layout, touched)]
    tags = list(layout.elements)
    highest = tags if tags == sorted(tags) else list(accumulate(tags, max))
    for tag in touched:
        if element_of(header, tag) is not None:
            place = bisect_left(highest, tag)
            at = min(in_order[place].start, end) if place < len(in_order) else end
            cuts.append((at, at, tag, _encoded(layout, header, tag)))
    at = layout.data_set
    for start, stop, _, new in sorted(cuts):
        if at < start:
            yield at, start
        if new:
            yield new
        at = stop
    if at < end:
        yield at, end


def _gone(layout: DataSetLayout, touched: frozenset[int]) -> Iterator[Element]:
    """Yield the received elements of the header that are not copied.

    (gggg,0000) counts the bytes of a group that we change.
    """
    for tag in touched | {tag & 0xFFFF0000 for tag in touched}:
        element = layout.elements.get(tag)
        if element is not None and element.start < layout.header_end:
            yield element


def _encoded(layout: DataSetLayout, header: Dataset, tag: int) -> bytes:
    element = element_of(header, tag)  # The element is raw: whoever touched it made its bytes.
    assert element is not None
    return encoded(element, not layout.explicit, layout.little_endian)


class _Deflating:
    """Deflate written bytes (PS3.5 A.5); the level is fixed, so the same input gives the same bytes."""

    def __init__(self, target: HashedWriter) -> None:
        self._target = target
        self._deflator = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._length = 0

    def write(self, piece: bytes | memoryview) -> None:
        piece = self._deflator.compress(piece)
        self._length += len(piece)
        self._target.write(piece)

    def finish(self) -> None:
        last = self._deflator.flush()
        self._target.write(last + b"\0" * ((self._length + len(last)) % 2))
