"""The structure of a DICOM file (PS3.10), walked without decoding a value.

The walk proves that every length stays within the file and that the last element ends where the file ends,
so a truncated or garbled file is found here and nowhere later. It builds no objects per nested element, takes
time in proportion to the header's bytes, and is bounded in depth and bytes whatever a peer sent.
"""

import mmap
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

Bytes = bytes | mmap.mmap

# pydicom takes longer to import than many files take to read; processes that only look at files do without it.
IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"

NATIVE = {
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
}
_COMPRESSED = ("1.2.840.10008.1.2.4.", "1.2.840.10008.1.2.5")  # JPEG and its relatives, video; RLE (PS3.5 10).

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD  # PS3.5 7.5
PIXEL_DATA = 0x7FE00010
# Groups 0000, 0002 and FFFE in either byte order, zeros, and the end of the file.
_STARTS_OF_NO_ELEMENT = {b"", b"\0", b"\0\0", b"\2\0", b"\0\2", b"\xfe\xff", b"\xff\xfe"}
FOREIGN_GROUPS = {0x0000, 0x0002}  # Groups of commands (PS3.7 E) and of file meta information (PS3.10 7.1).
PIXEL_GROUP = 0x7FE00008  # Float, Double Float and Pixel Data stand from here on (PS3.6)
LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)  # VRs with a 32-bit length, PS3.5 table 7.1-1.
SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL"}
    | {b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)  # VRs with a 16-bit length, PS3.5 table 7.1-2.
OPAQUE_VRS = frozenset({b"OB", b"OW", b"OF", b"OD", b"OL", b"OV"})
VRS_OF_ITEMS = OPAQUE_VRS | {b"SQ", b"UN", b""}  # A value of undefined length consists of items (PS3.5 7.5).
MAX_DEPTH = 48  # Real objects stay below 10 levels; more is an attack on recursive readers.
MAX_HEADER = 256 << 20  # Bytes of elements before Pixel Data; an enhanced MR of 3,400 frames has some 60 MiB.
MOST_GLANCED_AT = 500_000  # Elements that a glance walks through, nested ones included.
MOST_OF_A_VALUE = 1 << 16  # Bytes of one value that a glance reads.
# A value may be nearly the whole object, as in an encapsulated PDF.
BULK_VRS = OPAQUE_VRS | {b"UN", b"UC", b"UR", b"UT", b""}
_ZEROS = bytes(1 << 20)


class Malformed(ValueError):
    """Say why a file is no well-formed DICOM file; the text becomes the reason for quarantine."""


class Element(NamedTuple):
    """Position of a top-level element in the file: tag, header, value; `end` is one past its last byte.

    This is a tuple, because 2,000 slices have half a million elements.
    """

    tag: int
    vr: bytes  # b"" in implicit VR.
    start: int
    value: int
    end: int
    undefined_length: bool


class Mend(NamedTuple):
    """Say that `put` replaces the bytes `start` to `stop`, and which fault it corrects."""

    start: int
    stop: int
    put: bytes
    tag: int
    words: str


@dataclass(frozen=True, slots=True)
class DataSetLayout:
    """The top-level structure of one file. Offsets are bytes from the start of the walked bytes."""

    has_preamble: bool
    transfer_syntax_uid: str
    data_set: int
    explicit: bool
    little_endian: bool
    meta: dict[int, Element]
    elements: dict[int, Element]
    pixels: Element | None  # Pixel Data, Float or Double Float Pixel Data.
    end: int  # End of the last element.
    is_odd: bool = False  # A part has no meaning, and other readers may fail on it: see `mending`.
    mends: "tuple[Mend, ...]" = ()  # Corrections made in the copy these bytes come from.

    @property
    def header_end(self) -> int:
        """Return where the header ends: at Pixel Data, else after the last element."""
        return self.pixels.start if self.pixels else self.end

    @property
    def contradiction(self) -> str | None:
        """Say how Pixel Data contradicts the transfer syntax (PS3.5 A.4), None if it does not."""
        pixels, syntax = self.elements.get(PIXEL_DATA), self.transfer_syntax_uid
        if pixels is None or pixels.end == pixels.value:
            return None
        if pixels.undefined_length and syntax in NATIVE:
            return f"its pixels are compressed, and its transfer syntax, {syntax}, is one without compression"
        if not pixels.undefined_length and syntax.startswith(_COMPRESSED):
            return f"its pixels are not compressed, and its transfer syntax, {syntax}, says that they are"
        return None


_new = tuple.__new__  # The same result as calling the class, in half the time.


def walk(data: Bytes) -> DataSetLayout:
    """Return the layout of a file; a deflated data set must have been inflated before (see `deflation.inflate`).

    Raises:
        Malformed: the file is truncated, garbled, nested too deep, or contradicts its transfer syntax.
    """
    return walked(data, Walker)


def walked(data: Bytes, walker_of: "type[Walker]") -> DataSetLayout:
    """Return the layout that a walker of this class finds; raises Malformed."""
    has_preamble = data[128:132] == b"DICM"
    start = 132 if has_preamble else 0
    if not has_preamble and data[:2] not in {b"\x02\0", b"\x08\0"}:
        # A data set without file meta information begins with group 0008 (PS3.10 7.1).
        raise Malformed("not a DICOM file")
    meta, data_set = walk_meta(data, start)
    syntax = text_of(data, meta.get(0x00020010))
    explicit, little = _encoding_of(syntax) if syntax else _guessed_encoding(data, data_set)
    walker = walker_of(data, explicit, little, syntax=syntax)
    elements = walker.top_level(data_set)
    if not elements:
        raise Malformed("the data set is empty")
    if not syntax:
        if any(e.undefined_length for e in elements.values() if e.tag == PIXEL_DATA):
            raise Malformed("no transfer syntax is given, and the pixels are compressed by an unknown one")
        syntax = EXPLICIT_VR_LITTLE_ENDIAN if explicit else IMPLICIT_VR_LITTLE_ENDIAN
    pixels = next((e for tag, e in elements.items() if PIXEL_GROUP <= tag <= PIXEL_DATA), None)
    end = max(element.end for element in elements.values())
    _check_header(elements, pixels.start if pixels else end)
    return DataSetLayout(
        *(has_preamble, syntax, data_set, explicit, little, meta, elements, pixels, end),
        is_odd=walker.is_odd,
        mends=tuple(walker.mends),
    )


def first_values(data: Bytes, tags: Iterable[int]) -> dict[int, bytes]:
    """Return values of those `tags` that stand before the first unreadable element, within a glance.

    Raises:
        Malformed: not even the file meta information can be read.
    """
    wanted = frozenset(tags)
    meta, at = walk_meta(data, 132 if data[128:132] == b"DICM" else 0)
    syntax = text_of(data, meta.get(0x00020010))
    walker = Walker(data, *(_encoding_of(syntax) if syntax else _guessed_encoding(data, at)), MOST_GLANCED_AT)
    found: dict[int, bytes] = {}
    with suppress(Malformed):
        while at < len(data):
            element = walker.element(at, len(data), 0)
            if element.tag in wanted:
                stop = min(element.end, element.value + MOST_OF_A_VALUE)
                found.setdefault(element.tag, bytes(data[element.value : stop]))
            if element.tag > max(wanted):
                break
            at = element.end
    return found


def _check_header(elements: dict[int, Element], end: int) -> None:
    """Refuse a header too large to hold as objects; a large value without structure is allowed."""
    if end - next(iter(elements.values())).start <= MAX_HEADER:
        return
    header = (e for e in elements.values() if e.start < end and (e.undefined_length or e.vr not in BULK_VRS))
    if sum(e.end - e.start for e in header) > MAX_HEADER:
        raise Malformed(f"its header is larger than {MAX_HEADER >> 20} MiB")


def text_of(data: Bytes, element: Element | None) -> str:
    """Return an element's value as text without padding, "" if it is absent; never raises."""
    if element is None:
        return ""
    return bytes(data[element.value : element.end]).decode("latin-1").strip(" \0")


_SYNTAXES = {
    IMPLICIT_VR_LITTLE_ENDIAN: (False, True),
    EXPLICIT_VR_BIG_ENDIAN: (True, False),
}


def _encoding_of(transfer_syntax_uid: str) -> tuple[bool, bool]:
    """Return (explicit VR, little endian).

    Every other transfer syntax is Explicit VR Little Endian (PS3.5 A.4).
    """
    return _SYNTAXES.get(transfer_syntax_uid, (True, True))


def _guessed_encoding(data: Bytes, at: int) -> tuple[bool, bool]:
    """Guess the encoding from the first element, if no file meta information names a transfer syntax."""
    return _is_vr(bytes(data[at + 4 : at + 6])), True


def is_padding(data: Bytes, at: int) -> bool:
    """Tell whether only zeros follow; read in pieces, because they may fill gigabytes."""
    while piece := data[at : at + len(_ZEROS)]:
        if piece != _ZEROS[: len(piece)]:
            return False
        at += len(piece)
    return True


def _is_vr(two: bytes) -> bool:
    return len(two) == 2 and b"A" <= two[:1] <= b"Z" and b"A" <= two[1:] <= b"Z"


def walk_meta(data: Bytes, start: int) -> tuple[dict[int, Element], int]:
    """Return group 0002 (always Explicit VR Little Endian, PS3.10 7.1) and where the data set begins.

    Some senders pass on the group 0002 of their own file within the data set. The group's length, or a repeated
    element, reveals it; it says nothing about this file.
    """
    walker = Walker(data, explicit=True, little=True, most=MOST_GLANCED_AT)
    meta: dict[int, Element] = {}
    at, end = start, None
    while data[at : at + 2] == b"\x02\x00" and not (at == end and _is_complete(data, meta)):
        element = walker.element(at, len(data), 0)
        if element.tag in meta:
            break
        meta[element.tag] = element
        at = element.end
        if element.tag == 0x00020000 and at - element.value == 4:
            end = at + int.from_bytes(data[element.value : at], "little")
    return meta, at


def _is_complete(data: Bytes, meta: dict[int, Element]) -> bool:
    """Tell whether a data set may follow; a deflated data set begins with no visible element."""
    return text_of(data, meta.get(0x00020010)) not in {"", DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN}


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
        return _is_vr(bytes(self.data[at + 4 : at + 6])) != self.explicit

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
        """Return where the elements at `at` end that belong to no data set: commands, file meta information."""
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

        `element` would give the same result in three times the time, and most elements are usual.
        """
        if not self.explicit:
            return at
        data, header, last = self.data, self.short_header.unpack_from, end - 8
        while at <= last:
            group, number, vr, length = header(data, at)
            tag, value = group << 16 | number, at + 8
            stop = value + length
            if vr not in SHORT_VRS or stop > end or not 0x0002FFFF < tag < 0xFFFE0000 or tag in elements:
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


def shown(tag: int) -> str:
    """Return a tag as the standard writes it."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
