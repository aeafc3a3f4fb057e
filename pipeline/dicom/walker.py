"""Walk the elements of one file: where each begins and ends, and that every length stays within the file."""

import sys
from struct import Struct

from pipeline.dicom.part10 import (
    FOREIGN_GROUPS,
    ITEM,
    ITEM_END,
    LONG_VRS,
    MAX_DEPTH,
    OPAQUE_VRS,
    PIXEL_DATA,
    SEQUENCE_END,
    SHORT_VRS,
    UNDEFINED,
    VRS_OF_ITEMS,
    Bytes,
    Element,
    Malformed,
    Mend,
    shown,
)

# Groups 0000, 0002 and FFFE in either byte order, zeros, and the end of the file.
_STARTS_OF_NO_ELEMENT = {b"", b"\0", b"\0\0", b"\2\0", b"\0\2", b"\xfe\xff", b"\xff\xfe"}
_ZEROS = bytes(1 << 20)
_new = tuple.__new__  # The same result as calling the class, in half the time.


def is_padding(data: Bytes, at: int) -> bool:
    """Tell whether only zeros follow; read in pieces, because they may fill gigabytes."""
    while piece := data[at : at + len(_ZEROS)]:
        if piece != _ZEROS[: len(piece)]:
            return False
        at += len(piece)
    return True


def is_vr(two: bytes) -> bool:
    """Tell whether two bytes are capital letters, as every VR is (PS3.5 6.2)."""
    return len(two) == 2 and b"A" <= two[:1] <= b"Z" and b"A" <= two[1:] <= b"Z"


class Walker:
    """One walk over one file, limited to `most` elements for a glance."""

    def __init__(
        self, data: Bytes, explicit: bool, little: bool, most: int = sys.maxsize, *, syntax: str = ""
    ) -> None:
        self.data = data
        self.explicit = explicit
        self.little = little
        self.syntax = syntax
        self.elements: dict[int, Element] = {}
        self.is_odd = False
        self.mends: list[Mend] = []
        self.left = most
        order = "<" if little else ">"
        self.short_header = Struct(order + "HH2sH")
        self.tag_and_length = Struct(order + "HHL")
        self.long_length = Struct(order + "L")

    def top_level(self, at: int) -> dict[int, Element]:
        """Return the elements from `at` to the end of the file, which they must fill exactly."""
        end, elements = len(self.data), self.elements
        at = self.foreign(at, end)
        if end - at >= 6 and self.is_otherwise_encoded(at, end):
            raise Malformed("the data set is not encoded as its transfer syntax says")
        while at < end:
            at = self._enter_usual(at, end, elements)
            if self.data[at : at + 2] in _STARTS_OF_NO_ELEMENT:
                if at == end or self._ends(at, end):
                    return elements
                if after := self.foreign(at, end) - at or self.stray(at, end, self._last()):
                    at += after
                    continue
            element = self.element(at, end, 0)
            if element.tag in elements:
                raise Malformed(f"the attribute {shown(element.tag)} appears twice")
            elements[element.tag] = element
            at = element.end
        return elements

    def is_otherwise_encoded(self, at: int, _end: int) -> bool:
        """Tell whether the first element has a VR in implicit VR, or lacks one in explicit VR."""
        return is_vr(bytes(self.data[at + 4 : at + 6])) != self.explicit

    def _last(self) -> Element | None:
        return next(reversed(self.elements.values()), None)

    def _ends(self, at: int, end: int) -> bool:
        """Tell whether only padding follows: zeros up to a block, as some media writers do, or one zero.

        In big endian a single zero may begin a group number; it is padding only at the end or after an odd length.
        """
        last = self._last()
        if last is None or self.data[at : at + 4].strip(b"\0") or not is_padding(self.data, at):
            return False
        if self.little or end - at > 1 or last.tag >= PIXEL_DATA or (last.end - last.value) % 2:
            self.padding(at, end)
            return True
        return False

    def padding(self, _at: int, _end: int) -> None:
        """Note that zeros follow the last element."""
        self.is_odd = True

    def foreign(self, at: int, _end: int) -> int:
        """Return the end of the elements at `at` that belong to no data set: commands, file meta information."""
        if self.data[at : at + 4] and self._group(at) in FOREIGN_GROUPS:
            raise Malformed(f"the element {shown(self._tag(at))} does not belong into a data set")
        return at

    def stray(self, at: int, end: int, last: Element | None) -> int:
        """Return the length of a superfluous delimiter after a sequence of known length; otherwise 0."""
        if self._tag(at) != SEQUENCE_END or at + 8 > end or last is None or last.undefined_length:
            return 0
        items = bytes(self.data[last.value : min(last.value + 4, last.end)])
        is_known = items in {b"", b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00"}
        if not (last.vr == b"SQ" or (last.vr in {b"", b"UN"} and is_known)) or self._delimiter(at, end)[1] not in {
            0,
            UNDEFINED,
        }:
            return 0
        self.is_odd = True
        return 8

    def _group(self, at: int) -> int:
        return int.from_bytes(self.data[at : at + 2], "little" if self.little else "big")

    def _tag(self, at: int) -> int:
        return self._group(at) << 16 | self._group(at + 2)

    def _enter_usual(self, at: int, end: int, elements: dict[int, Element]) -> int:
        """Enter elements up to the first unusual one, and return where that one begins.

        `element` would give the same result in three times the time, and most elements are usual: of known length.
        """
        if not self.explicit:
            return at
        data, header, last = self.data, self.short_header.unpack_from, end - 8
        long_length = self.long_length.unpack_from
        while at <= last:
            group, number, vr, length = header(data, at)
            tag, value = group << 16 | number, at + 8
            if vr not in SHORT_VRS:
                if vr not in LONG_VRS or value + 4 > end:
                    break
                (length,), value = long_length(data, value), value + 4
            stop = value + length
            if stop > end or length == UNDEFINED or not 0x0002FFFF < tag < 0xFFFE0000 or tag in elements:
                break
            elements[tag] = _new(Element, (tag, vr, at, value, stop, False))
            at = stop
        return at

    def element(self, at: int, end: int, depth: int, *, explicit: bool | None = None) -> Element:
        """Return the element at `at`; raises Malformed if it does not fit before `end`."""
        self.left -= 1
        if self.left < 0:
            raise Malformed("there are too many elements")
        if at + 8 > end:
            raise Malformed(f"truncated: {end - at} bytes are left where an element must begin")
        group, number, vr, length = self.short_header.unpack_from(self.data, at)
        tag, value = group << 16 | number, at + 8
        if group == 0xFFFE:
            raise Malformed(f"{shown(tag)}, which delimits items, stands where an element must begin")
        if not (self.explicit if explicit is None else explicit):
            vr = b""
            (length,) = self.long_length.unpack_from(self.data, at + 4)
        elif vr in LONG_VRS:
            length, value = self._long_length(at, end, tag), at + 12
        elif vr not in SHORT_VRS:
            return self.without_vr(at, end, tag, vr, depth)
        if length == UNDEFINED:
            opaque = self._is_opaque(at, depth, tag, vr)
            inner = explicit if opaque or vr == b"" else self.items_are_explicit(at, value, end, tag, vr)
            stop = self.items(value, end, depth + 1, opaque, inner)
            return Element(tag, vr, at, value, stop, undefined_length=True)
        if value + length > end:
            raise Malformed(f"truncated: the element {shown(tag)} claims {length} bytes, {end - value} are there")
        return Element(tag, vr, at, value, value + length, undefined_length=False)

    def _is_opaque(self, at: int, depth: int, tag: int, vr: bytes) -> bool:
        """Tell whether a value of undefined length consists of fragments, and not of data sets."""
        opaque = vr in OPAQUE_VRS or tag == PIXEL_DATA
        if not opaque and vr not in VRS_OF_ITEMS:
            raise Malformed(f"the element {shown(tag)} has no length, and a value of its VR is not made of items")
        if opaque and depth == 0 and vr not in {b"OB", b""}:
            self.other_than_bytes(at, tag)
        return opaque

    def _long_length(self, at: int, end: int, tag: int) -> int:
        if at + 12 > end:
            raise Malformed(f"truncated within the element {shown(tag)}")
        return int(self.long_length.unpack_from(self.data, at + 8)[0])

    def without_vr(self, _at: int, _end: int, tag: int, _vr: bytes, _depth: int) -> Element:
        """Return the element that has no valid VR; raises Malformed if its length cannot be told."""
        raise Malformed(f"the element {shown(tag)} has no valid VR")

    def other_than_bytes(self, _at: int, _tag: int) -> None:
        """Note compressed pixels whose VR is not OB (PS3.5 A.4): readers take UN for a sequence."""
        self.is_odd = True

    def items_are_explicit(self, _at: int, value: int, end: int, tag: int, vr: bytes) -> bool | None:
        """Tell how the items of an element with a VR are encoded: the items of UN are implicit (PS3.5 6.2.2)."""
        if vr == b"UN" and self.looks_explicit(value, end):
            raise Malformed(f"the items of {shown(tag)} have VRs, and its own VR says that they have none")
        return None if vr != b"UN" else False

    def looks_explicit(self, at: int, end: int) -> bool | None:
        """Tell whether the first item's first element has a VR; None if both readings fit, or neither.

        A reading fits if it leads to an element with a higher tag, or to the end of the item.
        """
        if at + 16 > end or self._tag(at) != ITEM:
            return None
        (length,) = self.long_length.unpack_from(self.data, at + 4)
        at, stop = at + 8, end if length == UNDEFINED else min(end, at + 8 + length)
        explicit, implicit = self.stop_of(at, stop, explicit=True), self.stop_of(at, stop, explicit=False)
        can_be = [
            is_explicit
            for is_explicit, after in ((True, explicit), (False, implicit))
            if after and self.goes_on(after, stop, self._tag(at), explicit=is_explicit)
        ]
        return can_be[0] if len(can_be) == 1 else None

    def stop_of(self, at: int, end: int, *, explicit: bool) -> int:
        """Return where the element at `at` ends in this reading, 0 if it does not fit; for items, their begin."""
        if at + 8 > end or self._group(at) == 0xFFFE:
            return 0
        _, _, vr, length = self.short_header.unpack_from(self.data, at)
        value = at + 8
        if not explicit:
            (length,) = self.long_length.unpack_from(self.data, at + 4)
        elif vr in LONG_VRS and at + 12 <= end and not length:
            (length,) = self.long_length.unpack_from(self.data, at + 8)
            value = at + 12
        elif vr not in SHORT_VRS:
            return 0
        if length == UNDEFINED:
            return value
        return value + length if value + length <= end else 0

    def goes_on(self, at: int, end: int, tag: int, *, explicit: bool) -> bool:
        """Tell whether the bytes at `at` can follow the element `tag`."""
        if at == end or (at > len(self.data) - 8 and is_padding(self.data, at)):
            return True
        if self._group(at) == 0xFFFE:
            return True
        return self._tag(at) > tag and self.stop_of(at, end, explicit=explicit) > 0

    def items(self, at: int, end: int, depth: int, opaque: bool, explicit: bool | None) -> int:
        """Return where a value of undefined length ends: after its sequence delimitation item."""
        if depth > MAX_DEPTH:
            raise Malformed(f"sequences are nested deeper than {MAX_DEPTH} levels")
        while True:
            tag, length = self._delimiter(at, end) if at + 8 <= end else (0, 0)
            if tag == SEQUENCE_END and not length:
                return at + 8
            if tag != ITEM:
                return self.end_of_items(at, end, depth, opaque)
            if length == UNDEFINED:
                if opaque:
                    raise Malformed("a fragment of compressed pixels has no length")
                at = self._item_of_undefined_length(at + 8, end, depth, explicit)
                continue
            if at + 8 + length > end:
                raise Malformed(f"truncated: a sequence item claims {length} bytes")
            at += 8 + length + (self.odd_fragment(at, length, end) if opaque and length % 2 else 0)

    def end_of_items(self, at: int, end: int, _depth: int, _opaque: bool) -> int:
        """Return where a value of undefined length without a proper delimiter ends; raises Malformed."""
        if at + 8 > end:
            raise Malformed("truncated within a sequence of undefined length")
        raise Malformed(f"{shown(self._tag(at))} stands where a sequence item must begin")

    def odd_fragment(self, _at: int, _length: int, _end: int) -> int:
        """Note a fragment of odd length (PS3.5 A.4); return how many uncounted bytes follow it."""
        self.is_odd = True
        return 0

    def _item_of_undefined_length(self, at: int, end: int, depth: int, explicit: bool | None) -> int:
        last = None
        while self._delimiter(at, end)[0] != ITEM_END:
            if after := self.stray(at, end, last):
                at += after
                continue
            last = self.element(at, end, depth, explicit=explicit)
            at = last.end
        return at + 8

    def _delimiter(self, at: int, end: int) -> tuple[int, int]:
        if at + 8 > end:
            raise Malformed("truncated within a sequence of undefined length")
        self.left -= 1
        if self.left < 0:
            raise Malformed("there are too many elements")
        group, number, length = self.tag_and_length.unpack_from(self.data, at)
        return group << 16 | number, length
