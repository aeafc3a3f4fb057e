"""Correct encoding faults that can be read in one way only, because other readers fail on them.

This module does not guess: if two readings are possible, or data may be missing, the file is malformed. The
corrected file is a copy; the received file stays unchanged.
"""

from collections.abc import Iterator
from typing import BinaryIO

from pipeline.dicom.part10 import (
    FOREIGN_GROUPS,
    ITEM,
    LONG_VRS,
    PIXEL_DATA,
    SEQUENCE_END,
    SHORT_VRS,
    UNDEFINED,
    Bytes,
    Correction,
    Element,
    Malformed,
    Mend,
    shown,
    text_of,
)
from pipeline.dicom.walk import walk
from pipeline.dicom.walker import Walker, is_padding

PIECE = 1 << 20
MOST_MENDS = 10_000  # Most corrections in one file.
LONGEST_SHORT = 0xFFFE  # Longest value, in bytes, whose length has 16 bits.
END_OF_IMAGE = b"\xff\xd9"  # The end marker of JPEG, JPEG-LS and JPEG 2000; encoded data never contain it.
_JPEG = "1.2.840.10008.1.2.4."
_OTHER_CODECS = ("10", "11")  # Transfer syntaxes .100 to .112: MPEG, HEVC, JPEG XL.
_NUMBER_OF_FRAMES = 0x00280008
_EXTENDED_OFFSET_TABLE = 0x7FE00001

# Every reader reads a file with these faults alike.
WITHOUT_HARM = {Correction.PADDING, Correction.STRAY, Correction.ODD_FRAGMENT, Correction.NOT_BYTES}


def mended(data: Bytes, target: BinaryIO) -> tuple[Mend, ...]:
    """Write a well-formed copy of `data`, and return what was corrected in it.

    Raises:
        Malformed: the file cannot be read, or can be read in more than one way.
    """
    layout = walk(data, _Mender)
    mends = sorted((*layout.mends, *_stale_lengths(layout.mends, layout.elements)), key=lambda mend: mend.start)
    at = 0
    for mend in mends:
        _copy(data, at, mend.start, target)
        target.write(mend.put)
        at = max(at, mend.stop)
    _copy(data, at, len(data), target)
    return tuple(mends)


def _copy(data: Bytes, start: int, stop: int, target: BinaryIO) -> None:
    target.writelines(data[at : min(at + PIECE, stop)] for at in range(start, stop, PIECE))


def _stale_lengths(mends: tuple[Mend, ...], elements: dict[int, Element]) -> list[Mend]:
    """Leave out the lengths of groups in which an element changed its length (PS3.5 7.2)."""
    groups = {mend.tag & 0xFFFF0000 for mend in mends if len(mend.put) != mend.stop - mend.start}
    lengths = [elements[group] for group in groups if group in elements]
    return [Mend(length.start, length.end, b"", length.tag, Correction.STALE_LENGTH) for length in lengths]


class _Mender(Walker):
    """A walk that continues where the meaning is certain, and notes the bytes that must change."""

    _top = 0  # The top-level element the walk is in.
    _fragments = 0  # Where the fragments of the current value begin.
    _odd: tuple[int, int] | None = None  # Position and length of the latest fragment of odd length.

    def _mend(self, start: int, stop: int, put: bytes, correction: Correction, tag: int | None = None) -> None:
        self.mends.append(Mend(start, stop, put, self._top if tag is None else tag, correction))
        if len(self.mends) > MOST_MENDS:
            raise Malformed(f"more than {MOST_MENDS} elements are not written as they should be")

    def _number(self, number: int, size: int = 4) -> bytes:
        return number.to_bytes(size, "little" if self.little else "big")

    def element(self, at: int, end: int, depth: int, *, explicit: bool | None = None) -> Element:
        """Return the element at `at`; raises Malformed."""
        if depth == 0:
            self._top = self._tag(at)
        return super().element(at, end, depth, explicit=explicit)

    def is_otherwise_encoded(self, at: int, end: int) -> bool:
        """Tell whether the whole data set is encoded otherwise; the first element alone may have an invalid VR."""
        if not self.explicit:
            return super().is_otherwise_encoded(at, end)
        stop, tag = self.stop_of(at, end, explicit=False), self._tag(at)
        return (
            stop > 0
            and self.goes_on(stop, end, tag, explicit=False)
            and not self.goes_on(stop, end, tag, explicit=True)
        )

    def padding(self, at: int, end: int) -> None:
        """Leave the zeros out, except one that makes the last value's length even."""
        last = self._last()
        assert last is not None
        length = last.end - last.value
        size = 4 if last.vr in LONG_VRS or not self.explicit else 2
        if length % 2 and not last.undefined_length and length + 1 < 1 << 8 * size:
            self._mend(
                last.value - size, last.value, self._number(length + 1, size), Correction.UNCOUNTED, last.tag
            )
            at += 1
        if at < end:
            self._mend(at, end, b"", Correction.PADDING, last.tag)

    def foreign(self, at: int, end: int) -> int:
        """Leave out commands and file meta information; they may be encoded in another way than the data set."""
        while end - at >= 8 and self._group(at) in FOREIGN_GROUPS:
            stops = {self.stop_of(at, end, explicit=way) for way in (True, False)} - {0}
            possible = [stop for stop in stops if self._is_start(stop, end)]
            if len(possible) != 1:
                raise Malformed(f"{shown(self._tag(at))} does not belong into a data set; nothing tells its end")
            self._mend(at, possible[0], b"", Correction.FOREIGN, self._tag(at))
            at = possible[0]
        return at

    def _is_start(self, at: int, end: int) -> bool:
        ways = (True, False) if self._group(at) in FOREIGN_GROUPS else (self.explicit,)
        return any(self.goes_on(at, end, -1, explicit=way) for way in ways)

    def stray(self, at: int, end: int, last: Element | None) -> int:
        """Leave out a superfluous delimiter."""
        length = super().stray(at, end, last)
        if length:
            tag = last.tag if last is not None and last is self._last() else None  # Within a sequence: its own.
            self._mend(at, at + length, b"", Correction.STRAY, tag)
        return length

    def without_vr(self, at: int, end: int, tag: int, vr: bytes, _depth: int) -> Element:
        """Give the element its VR from the dictionary, or UN, if its length can be read in one way only."""
        readings = set(self._readings(at, end))
        known = [(value, stop) for value, stop in readings if self.goes_on(stop, end, tag, explicit=True)]
        if not known:  # The next element may have the same fault.
            known = [(value, stop) for value, stop in readings if self._is_alike(stop, end, tag, vr)]
        if len(known) != 1:
            raise Malformed(f"the element {shown(tag)} has no valid VR, and nothing tells its length")
        ((value, stop),) = known
        new = self._vr_of(tag, value, stop)
        length = stop - value
        is_long = new in LONG_VRS
        self._mend(
            at + 4,
            value,
            new + (b"\0\0" + self._number(length) if is_long else self._number(length, 2)),
            Correction.NO_VR,
        )
        return Element(tag, new, at, value, stop, undefined_length=False)

    def _readings(self, at: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield possible positions of the value.

        The value may lie after a 16-bit length, after two zeros and a 32-bit length, or after a 32-bit length
        without VR.
        """
        _, _, _, short = self.short_header.unpack_from(self.data, at)
        (implicit,) = self.long_length.unpack_from(self.data, at + 4)
        lengths = [(at + 8, short), (at + 8, implicit)]
        if at + 12 <= end and not short:
            lengths.append((at + 12, self.long_length.unpack_from(self.data, at + 8)[0]))
        return ((value, value + length) for value, length in lengths if value + length <= end)

    def _is_alike(self, at: int, end: int, tag: int, vr: bytes) -> bool:
        return at + 8 <= end and self._tag(at) > tag and bytes(self.data[at + 4 : at + 6]) == vr

    def _vr_of(self, tag: int, value: int, stop: int) -> bytes:
        if tag >> 16 & 1:
            return b"LO" if 0x10 <= tag & 0xFFFF <= 0xFF else b"UN"  # a private creator (PS3.5 7.8.1)
        from pydicom.datadict import dictionary_VR  # noqa: PLC0415  # slow to import, and hardly ever needed

        try:
            vr = dictionary_VR(tag).encode("ascii")
        except KeyError:
            return b"UN"
        if vr == b"OB or OW" and self.little:
            return b"OW"
        if vr == b"SQ":
            return b"SQ" if value == stop or self.looks_explicit(value, stop) else b"UN"
        return vr if vr in LONG_VRS or (vr in SHORT_VRS and stop - value <= LONGEST_SHORT) else b"UN"

    def other_than_bytes(self, at: int, tag: int) -> None:
        """Correct the VR of compressed pixels to OB."""
        self._mend(at + 4, at + 6, b"OB", Correction.NOT_BYTES, tag)

    def items_are_explicit(self, at: int, value: int, end: int, tag: int, vr: bytes) -> bool | None:
        """Return how the items are encoded, whatever the VR says, if they can be read in one way only."""
        looks_explicit = self.looks_explicit(value, end)
        if vr == b"UN" and looks_explicit:
            self._mend(at + 4, at + 6, b"SQ", Correction.OTHER_VR)
            return None
        if vr == b"SQ" and looks_explicit is False:
            self._mend(at + 4, at + 6, b"UN", Correction.OTHER_VR)
            return False
        return super().items_are_explicit(at, value, end, tag, vr)

    def items(self, at: int, end: int, depth: int, opaque: bool, explicit: bool | None) -> int:
        """Return where a value of undefined length ends; raises Malformed if it cannot be told."""
        if not opaque:
            return super().items(at, end, depth, opaque, explicit)
        self._fragments, self._odd, before = at, None, len(self.mends)
        stop = super().items(at, end, depth, opaque, explicit)
        if self._odd:
            at, length = self._odd
            behind = at + 8 + length
            if behind + 8 > end or self._tag(behind) != ITEM:
                self._pad(at, length, before)  # Pad the fragment before the inserted delimiter.
        return stop

    def _pad(self, at: int, length: int, place: int) -> None:
        behind = at + 8 + length
        self.mends[place:place] = [
            Mend(at + 4, at + 8, self._number(length + 1), self._top, Correction.ODD_FRAGMENT),
            Mend(behind, behind, b"\0", self._top, Correction.ODD_FRAGMENT),
        ]

    def odd_fragment(self, at: int, length: int, end: int) -> int:
        """Count uncounted padding; add a byte to a fragment that ends a frame, and to the last one.

        Where an offset table says where each frame lies, only the last fragment can become longer.
        """
        behind = at + 8 + length
        if self.data[behind : behind + 1] == b"\0" and behind + 9 <= end and self._group(behind + 1) == 0xFFFE:
            if self._tag(behind + 1) == SEQUENCE_END or self._ends_image(behind):
                self._mend(at + 4, at + 8, self._number(length + 1), Correction.UNCOUNTED)
                return 1
            raise Malformed("a fragment of compressed pixels is longer by one byte than it says")
        has_table = self._delimiter(self._fragments, end)[1] or _EXTENDED_OFFSET_TABLE in self.elements
        if not has_table and self._ends_image(behind):
            self._pad(at, length, len(self.mends))
        else:
            self._odd = at, length
        return 0

    def end_of_items(self, at: int, end: int, depth: int, opaque: bool) -> int:
        """Insert a missing delimiter or replace a wrong one; raises Malformed if data may be missing."""
        if at + 8 <= end and self._tag(at) == SEQUENCE_END and self._ends_here(at, end, depth):
            self._mend(at + 4, at + 8, bytes(4), Correction.END_WITH_LENGTH)
            return at + 8
        is_padded = at == end or is_padding(self.data, at)
        if not opaque or depth > 1 or not (is_padded or self.goes_on(at, end, PIXEL_DATA, explicit=self.explicit)):
            return super().end_of_items(at, end, depth, opaque)
        if not self._is_every_frame_there(at):
            raise Malformed("the end of the compressed pixels is missing, and nothing shows that they are whole")
        stop = end if is_padded else at
        tag = self.tag_and_length.pack(SEQUENCE_END >> 16, SEQUENCE_END & 0xFFFF, 0)
        self._mend(at, stop, tag, Correction.NO_END)
        return stop

    def _ends_here(self, at: int, end: int, depth: int) -> bool:
        """Tell whether the delimiter at `at` has no value, whatever its length says.

        Only the next element can follow it.
        """
        _, length = self._delimiter(at, end)
        if length == UNDEFINED:
            return True
        tag = self._top if depth == 1 else -1
        behind = [stop for stop in {at + 8, at + 8 + length} if stop <= end]
        return [stop for stop in behind if self.goes_on(stop, end, tag, explicit=self.explicit)] == [at + 8]

    def _is_every_frame_there(self, end: int) -> bool:
        """Tell whether the last fragment, and as many as there are frames, end with an end-of-image marker."""
        number = self.syntax.removeprefix(_JPEG)
        if number == self.syntax or number.startswith(_OTHER_CODECS):
            return False
        text = text_of(self.data, self.elements.get(_NUMBER_OF_FRAMES))
        at, ends = self._fragments, []
        while at < end:
            at += 8 + self._delimiter(at, end)[1]
            ends.append(self._ends_image(at))
        return bool(ends) and ends[-1] and sum(ends[1:]) == int(text if text.isdecimal() else 1)

    def _ends_image(self, at: int) -> bool:
        """Tell whether the fragment that ends at `at` ends an image, with or without a padding byte."""
        return self.data[at - 2 : at] == END_OF_IMAGE or self.data[at - 3 : at] == END_OF_IMAGE + b"\0"
