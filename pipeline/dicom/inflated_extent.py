"""Follow a data set while it is inflated, so that what is no data set is refused before it fills a disk.

A deflated file of a megabyte can inflate to a gigabyte. Its element headers tell beforehand where each value ends:
this module only looks ahead, and the walk over the whole file (`walk`) proves the result afterwards.
"""

from struct import Struct

from pipeline.dicom.part10 import LONG_VRS, MAX_HEADER, OPAQUE_VRS, SHORT_VRS, UNDEFINED, Malformed

MOST_PADDING = 1 << 23  # Bytes of zeros behind the last element that are kept.
MOST_UNFOLLOWED = 256 << 20  # Bytes behind an element that cannot be followed, for example one without a VR.
MOST_FOLLOWED = 1_000_000  # Elements that are followed; more would take too much time.
_TAG, _SHORT, _LONG = Struct("<H"), Struct("<H"), Struct("<L")
_ITEM_GROUP = 0xFFFE
_HEADER, _LONG_HEADER = 8, 12


class InflatedExtent:
    """Take the pieces of an Explicit VR Little Endian data set in order (PS3.5 A.5), and return what to keep."""

    def __init__(self, most: int) -> None:
        """`most` is the largest data set, in bytes."""
        self._most = most
        self._length = 0  # Bytes of all pieces so far.
        self._next = 0  # Where the next element begins.
        self._head = b""  # The bytes received so far of the header of the next element.
        self._followed = 0
        self._structure = 0  # Bytes of elements that are no bulk data.
        self._lost_at: int | None = None
        self._padding_at: int | None = None

    def keep(self, piece: bytes) -> bytes:
        """Return the piece without padding that is too long.

        Raises:
            Malformed: the data set is larger than allowed, or says that it will be.
        """
        begin, self._length = self._length, self._length + len(piece)
        if self._padding_at is None and self._lost_at is None:
            self._follow(piece, begin)
        if self._padding_at is not None:
            return self._padding(piece, begin, self._padding_at)
        if max(self._length, self._next) > self._most:
            raise Malformed(f"the deflated data set inflates to more than {self._most >> 20} MiB")
        if self._structure > MAX_HEADER:
            raise Malformed(f"its header is larger than {MAX_HEADER >> 20} MiB")
        if self._lost_at is not None and self._length - self._lost_at > MOST_UNFOLLOWED:
            raise Malformed(f"the deflated data set cannot be read from byte {self._lost_at} on")
        return piece

    def _follow(self, piece: bytes, begin: int) -> None:
        while self._lost_at is None and self._padding_at is None:
            at = self._next + len(self._head) - begin
            if at >= len(piece):
                return
            self._head += piece[at : at + _LONG_HEADER - len(self._head)]
            if len(self._head) < _LONG_HEADER:
                return
            self._step(self._head)
            self._head = b""

    def _step(self, head: bytes) -> None:
        """Go on to the next element, also into items, so that no value of undefined length needs a search."""
        (group,), vr = _TAG.unpack_from(head), head[4:6]
        self._followed += 1
        if not any(head[:_HEADER]):
            self._padding_at = self._next
        elif self._followed > MOST_FOLLOWED:
            self._lost_at = self._next
        elif group == _ITEM_GROUP:
            (length,) = _LONG.unpack_from(head, 4)
            self._go_on(_HEADER, 0 if length == UNDEFINED else length, is_bulk=False)
        elif vr in SHORT_VRS:
            self._go_on(_HEADER, _SHORT.unpack_from(head, 6)[0], is_bulk=False)
        elif vr in LONG_VRS:
            (length,) = _LONG.unpack_from(head, 8)
            self._go_on(_LONG_HEADER, 0 if length == UNDEFINED else length, is_bulk=vr in OPAQUE_VRS | {b"UN"})
        else:
            self._lost_at = self._next

    def _go_on(self, header: int, length: int, *, is_bulk: bool) -> None:
        self._next += header + length
        self._structure += header + (0 if is_bulk else length)

    @staticmethod
    def _padding(piece: bytes, begin: int, padding_at: int) -> bytes:
        start, stop = max(0, padding_at - begin), max(0, padding_at + MOST_PADDING - begin)
        if piece.count(0, start) < len(piece) - start:
            raise Malformed("bytes that are no element follow the last element of the deflated data set")
        return piece[:stop]
