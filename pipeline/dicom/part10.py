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

# Not from pydicom, whose import takes longer than many files: processes that only look at files do without it.
IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD  # PS3.5 7.5
PIXEL_DATA = 0x7FE00010
PIXEL_GROUP = 0x7FE00008  # Float, Double Float and Pixel Data stand from here on (PS3.6)
LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)  # 32-bit length, PS3.5 table 7.1-1
SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL"}
    | {b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)  # 16-bit length, PS3.5 table 7.1-2
OPAQUE_VRS = frozenset({b"OB", b"OW", b"OF", b"OD", b"OL", b"OV"})
MAX_DEPTH = 48  # real objects stay below 10; deeper is an attack on whoever recurses
MAX_HEADER = 256 << 20  # bytes of elements before Pixel Data; real enhanced MR of 3,400 frames has some 60 MiB
MOST_GLANCED_AT = 500_000  # elements that a glance goes through, nested ones counted
MOST_OF_A_VALUE = 1 << 16  # bytes that it takes of one
BULK_VRS = OPAQUE_VRS | {b"UN", b"UC", b"UR", b"UT", b""}  # a value may be nearly all of its object, as a PDF is
_ZEROS = bytes(1 << 20)


class Malformed(ValueError):
    """Say in which way a file is no well-formed DICOM file; the text goes into the quarantine's reason."""


class Element(NamedTuple):
    """Where a top-level element lies in the file: tag, header, value; `end` is one past its last byte.

    A tuple, because 2,000 slices have half a million of them.
    """

    tag: int
    vr: bytes  # b"" where the encoding is implicit
    start: int
    value: int
    end: int
    undefined_length: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """The top-level structure of one file. Offsets are bytes from the start of the walked bytes."""

    has_preamble: bool
    has_meta: bool
    transfer_syntax_uid: str
    data_set: int
    explicit: bool
    little_endian: bool
    meta: dict[int, Element]
    elements: dict[int, Element]
    pixels: Element | None  # Pixel Data, of any of the three kinds
    end: int  # of the last element

    @property
    def header_end(self) -> int:
        """Return where the header ends: at Pixel Data, else after the last element."""
        return self.pixels.start if self.pixels else self.end


_new = tuple.__new__  # what calling the class comes to, at half the price


def walk(data: Bytes) -> Layout:
    """Return the layout of a file; a deflated data set must have been inflated (see `inflated`).

    Raises:
        Malformed: the file is truncated, garbled, nested too deep, or not what its transfer syntax says.
    """
    has_preamble = data[128:132] == b"DICM"
    start = 132 if has_preamble else 0
    meta, data_set = walk_meta(data, start)
    syntax = text_of(data, meta.get(0x00020010))
    explicit, little = _encoding_of(syntax) if syntax else _guessed_encoding(data, data_set)
    walker = _Walker(data, explicit, little)
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
    return Layout(has_preamble, bool(meta), syntax, data_set, explicit, little, meta, elements, pixels, end)


def first_values(data: Bytes, tags: Iterable[int]) -> dict[int, bytes]:
    """Return the values of those of `tags` that stand before whatever cannot be read, and before much else.

    Raises:
        Malformed: not even the file meta information can be read.
    """
    wanted = frozenset(tags)
    meta, at = walk_meta(data, 132 if data[128:132] == b"DICM" else 0)
    syntax = text_of(data, meta.get(0x00020010))
    walker = _Walker(data, *(_encoding_of(syntax) if syntax else _guessed_encoding(data, at)), MOST_GLANCED_AT)
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
    """Refuse a header that nobody could hold as objects; a large value without structure is no matter."""
    if end - next(iter(elements.values())).start <= MAX_HEADER:
        return
    header = (e for e in elements.values() if e.start < end and (e.undefined_length or e.vr not in BULK_VRS))
    if sum(e.end - e.start for e in header) > MAX_HEADER:
        raise Malformed(f"its header is larger than {MAX_HEADER >> 20} MiB")


def text_of(data: Bytes, element: Element | None) -> str:
    """Return an element's value as text without padding, "" where it is absent; never raises."""
    if element is None:
        return ""
    return bytes(data[element.value : element.end]).decode("latin-1").strip(" \0")


_SYNTAXES = {
    IMPLICIT_VR_LITTLE_ENDIAN: (False, True),
    EXPLICIT_VR_BIG_ENDIAN: (True, False),
}


def _encoding_of(transfer_syntax_uid: str) -> tuple[bool, bool]:
    """Return (explicit VR, little endian); every other syntax is Explicit VR LE (PS3.5 A.4)."""
    return _SYNTAXES.get(transfer_syntax_uid, (True, True))


def _guessed_encoding(data: Bytes, at: int) -> tuple[bool, bool]:
    """Guess from the first element where no file meta information names a transfer syntax."""
    return _is_vr(bytes(data[at + 4 : at + 6])), True


def _is_padding(data: Bytes, at: int) -> bool:
    """Tell whether zeros alone follow, in pieces: of a file of gigabytes they may be nearly all."""
    while piece := data[at : at + len(_ZEROS)]:
        if piece != _ZEROS[: len(piece)]:
            return False
        at += len(piece)
    return True


def _is_vr(two: bytes) -> bool:
    return len(two) == 2 and b"A" <= two[:1] <= b"Z" and b"A" <= two[1:] <= b"Z"


def walk_meta(data: Bytes, start: int) -> tuple[dict[int, Element], int]:
    """Return group 0002 (always Explicit VR LE, PS3.10 7.1) and where the data set begins."""
    walker = _Walker(data, explicit=True, little=True, most=MOST_GLANCED_AT)
    meta: dict[int, Element] = {}
    at = start
    while data[at : at + 2] == b"\x02\x00":
        element = walker.element(at, len(data), 0)
        meta[element.tag] = element
        at = element.end
    return meta, at


class _Walker:
    """One walk over one file, through `most` elements where it is a glance only."""

    def __init__(self, data: Bytes, explicit: bool, little: bool, most: int = sys.maxsize) -> None:
        self.data = data
        self.explicit = explicit
        self.left = most
        order = "<" if little else ">"
        self.short_header = Struct(order + "HH2sH")
        self.tag_and_length = Struct(order + "HHL")
        self.long_length = Struct(order + "L")

    def top_level(self, at: int) -> dict[int, Element]:
        """Return the elements from `at` to the end of the file, which they must fill exactly."""
        end = len(self.data)
        if end - at >= 6 and _is_vr(bytes(self.data[at + 4 : at + 6])) != self.explicit:
            raise Malformed("the data set is not encoded as its transfer syntax says")
        elements: dict[int, Element] = {}
        while at < end:
            at = self._enter_usual(at, end, elements)
            if elements and self.data[at : at + 4] == b"\0\0\0\0" and _is_padding(self.data, at):
                return elements  # zeros that pad the file to a block, as some media writers leave
            if at == end:
                return elements
            element = self.element(at, end, 0)
            if element.tag in elements:
                raise Malformed(f"the attribute {_shown(element.tag)} appears twice")
            if element.tag >> 16 in {0x0000, 0x0002}:
                raise Malformed(f"the element {_shown(element.tag)} does not belong into a data set")
            elements[element.tag] = element
            at = element.end
        return elements

    def _enter_usual(self, at: int, end: int, elements: dict[int, Element]) -> int:
        """Enter elements up to the first that is not of the usual kind, and return where that one begins.

        `element` would make the same of them in three times the time, and most elements are such.
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
        """Return the element at `at`; raises Malformed where it does not fit before `end`."""
        self.left -= 1
        if self.left < 0:
            raise Malformed("there are too many elements")
        if at + 8 > end:
            raise Malformed(f"truncated: {end - at} bytes are left where an element must begin")
        group, number, vr, length = self.short_header.unpack_from(self.data, at)
        tag, value = group << 16 | number, at + 8
        if group == 0xFFFE or not (self.explicit if explicit is None else explicit):
            vr = b""
        if vr in LONG_VRS:
            if at + 12 > end:
                raise Malformed(f"truncated within the element {_shown(tag)}")
            (length,) = self.long_length.unpack_from(self.data, at + 8)
            value = at + 12
        elif vr not in SHORT_VRS and not (_is_vr(vr) or (vr and not vr.isalpha())):
            (length,) = self.long_length.unpack_from(self.data, at + 4)
        if length == UNDEFINED:
            opaque = vr in OPAQUE_VRS or tag == PIXEL_DATA
            stop = self._items(value, end, depth + 1, opaque, explicit if vr != b"UN" else False)
            return Element(tag, vr, at, value, stop, undefined_length=True)
        if value + length > end:
            raise Malformed(f"truncated: the element {_shown(tag)} claims {length} bytes, {end - value} are there")
        return Element(tag, vr, at, value, value + length, undefined_length=False)

    def _items(self, at: int, end: int, depth: int, opaque: bool, explicit: bool | None) -> int:
        """Return where a value of undefined length ends: after its sequence delimitation item."""
        if depth > MAX_DEPTH:
            raise Malformed(f"sequences are nested deeper than {MAX_DEPTH} levels")
        while True:
            item = self._delimiter(at, end)
            if item == (SEQUENCE_END, 0):
                return at + 8
            tag, length = item
            if tag != ITEM:
                raise Malformed(f"{_shown(tag)} stands where a sequence item must begin")
            at += 8
            if length != UNDEFINED:
                at += length
                if at > end:
                    raise Malformed(f"truncated: a sequence item claims {length} bytes")
            elif opaque:
                raise Malformed("a fragment of compressed pixels has no length")
            else:
                at = self._item_of_undefined_length(at, end, depth, explicit)

    def _item_of_undefined_length(self, at: int, end: int, depth: int, explicit: bool | None) -> int:
        while self._delimiter(at, end)[0] != ITEM_END:
            at = self.element(at, end, depth, explicit=explicit).end
        return at + 8

    def _delimiter(self, at: int, end: int) -> tuple[int, int]:
        if at + 8 > end:
            raise Malformed("truncated within a sequence of undefined length")
        self.left -= 1
        if self.left < 0:
            raise Malformed("there are too many elements")
        group, number, length = self.tag_and_length.unpack_from(self.data, at)
        return group << 16 | number, length


def _shown(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
