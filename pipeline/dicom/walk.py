"""Find the structure of a DICOM file (PS3.10) without decoding a value.

The walk proves that every length stays within the file and that the last element ends where the file ends,
so a truncated or garbled file is found here, before any other code reads it. It builds no objects per nested
element, takes time in proportion to the header's bytes, and is bounded in depth and bytes whatever a peer sent.
"""

from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from operator import attrgetter

from pipeline.dicom.part10 import (
    BULK_VRS,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    MAX_HEADER,
    MOST_GLANCED_AT,
    MOST_OF_A_VALUE,
    PIXEL_DATA,
    PIXEL_GROUP,
    Bytes,
    DataSetLayout,
    Element,
    Malformed,
    text_of,
)
from pipeline.dicom.walker import Walker, is_vr

_MOST_KNOWN = 32  # Layouts that are remembered, of 200 bytes an element each.
_MOST_ELEMENTS = 2000  # Those of a layout that is remembered.
_MOST_COMPARED = 1 << 16  # Bytes of it, without long values.
_LONG_VALUE = 4096  # Bytes of a value that is left out of the comparison.


def walk(data: Bytes, walker_of: type[Walker] = Walker) -> DataSetLayout:
    """Return the layout that a walker finds; a deflated data set must have been inflated (see `reading.inflate`).

    Raises:
        Malformed: the file is truncated, garbled, nested too deep, or contradicts its transfer syntax.
    """
    has_preamble = data[128:132] == b"DICM"
    start = 132 if has_preamble else 0
    if not has_preamble and data[:2] not in {b"\x02\0", b"\x08\0"}:
        # A data set without file meta information begins with group 0008 (PS3.10 7.1).
        raise Malformed("not a DICOM file")
    meta, data_set = walk_meta(data, start)
    syntax = text_of(data, meta.get(0x00020010))
    explicit, little = _encoding_of(syntax) if syntax else _guessed_encoding(data, data_set)
    walker = walker_of(data, explicit, little, syntax=syntax)
    elements = _known.elements(walker, data_set)
    if not elements:
        raise Malformed("the data set is empty")
    if not syntax:
        if any(e.undefined_length for e in elements.values() if e.tag == PIXEL_DATA):
            raise Malformed("no transfer syntax is given, and the pixels are compressed by an unknown one")
        syntax = EXPLICIT_VR_LITTLE_ENDIAN if explicit else IMPLICIT_VR_LITTLE_ENDIAN
    of_pixels = [elements[tag] for tag in range(PIXEL_GROUP, PIXEL_DATA + 1) if tag in elements]
    pixels = min(of_pixels, key=attrgetter("start"), default=None)
    end = next(reversed(elements.values())).end  # They were entered in the order of the file.
    _check_header(elements, pixels.start if pixels else end)
    return DataSetLayout(
        *(has_preamble, syntax, data_set, explicit, little, meta, elements, pixels, end),
        is_odd=walker.is_odd,
        mends=tuple(walker.mends),
    )


class _KnownLayouts:
    """The elements of the last files that were walked, by their length: the slices of a series are often alike.

    Where elements begin and end depends on their tags, VRs and lengths alone. A file with these bytes at the same
    places as an earlier one therefore has its elements there, too, and one comparison shows it.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[object, ...], _KnownLayout] = OrderedDict()

    def elements(self, walker: Walker, at: int) -> dict[int, Element]:
        """Return the elements from `at` on, which nobody may change; raises Malformed as the walk does."""
        kind = (type(walker), len(walker.data), at, walker.explicit, walker.little, walker.syntax)
        if (known := self.look_up(kind, walker.data)) is not None:
            return known
        elements = walker.top_level(at)
        if elements and not (walker.is_odd or walker.mends):
            self.keep(kind, walker.data, elements)
        return elements

    def look_up(self, kind: tuple[object, ...], data: Bytes) -> dict[int, Element] | None:
        """Return the elements of the last file of this kind, None if those of `data` are others."""
        known = self._known.get(kind)
        return known.elements if known is not None and known.is_layout_of(data) else None

    def keep(self, kind: tuple[object, ...], data: Bytes, elements: dict[int, Element]) -> None:
        """Remember elements, which stand in `data` without a gap; those of a large header are not remembered."""
        if len(elements) > _MOST_ELEMENTS:
            return
        layout = _KnownLayout(data, elements)
        if layout.is_small:
            self._known[kind] = layout
            if len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)


class _KnownLayout:
    """The elements of one file, and its bytes without long values."""

    def __init__(self, data: Bytes, elements: dict[int, Element]) -> None:
        self.elements = elements
        at = next(iter(elements.values())).start
        self._ranges = []
        for element in elements.values():
            if element.end - element.value > _LONG_VALUE and not element.undefined_length:
                self._ranges.append((at, element.value))
                at = element.end
        self._ranges.append((at, next(reversed(elements.values())).end))
        self.is_small = sum(stop - start for start, stop in self._ranges) <= _MOST_COMPARED
        self._bytes = self._compared_of(data) if self.is_small else b""

    def is_layout_of(self, data: Bytes) -> bool:
        """Tell whether `data` has the same elements at the same places; the value of the last may be cut off."""
        mask, expected = self._masked
        return int.from_bytes(self._compared_of(data), "little") & mask == expected

    def _compared_of(self, data: Bytes) -> bytes:
        return b"".join([data[start:stop] for start, stop in self._ranges])

    @cached_property
    def _masked(self) -> tuple[int, int]:
        """Return a mask without the values whose length is told, and what is left of our bytes behind it."""
        bits = bytearray()
        for _, _, start, value, end, undefined_length in self.elements.values():
            if undefined_length:
                bits += b"\xff" * (end - start)
            else:
                bits += b"\xff" * (value - start)
                bits += bytes(end - value) if end - value <= _LONG_VALUE else b""
        mask = int.from_bytes(bits, "little")
        return mask, int.from_bytes(self._bytes, "little") & mask


_known = _KnownLayouts()
_glanced_at = _KnownLayouts()


def first_values(data: Bytes, at: int, syntax: str, tags: Iterable[int]) -> dict[int, bytes]:
    """Return values of those `tags` that stand before the first unreadable element, within a glance.

    The data set begins at `at`, and `syntax` is what the file meta information says, "" if it says nothing.
    """
    wanted = frozenset(tags)
    encoding = _encoding_of(syntax) if syntax else _guessed_encoding(data, at)
    kind = (at, encoding, wanted)
    elements = _glanced_at.look_up(kind, data)
    if elements is None:
        elements, is_known = _first_elements(Walker(data, *encoding, MOST_GLANCED_AT), at, max(wanted))
        if is_known:
            _glanced_at.keep(kind, data, elements)
    found = [elements[tag] for tag in wanted if tag in elements]
    return {one.tag: bytes(data[one.value : min(one.end, one.value + MOST_OF_A_VALUE)]) for one in found}


def _first_elements(walker: Walker, at: int, last: int) -> tuple[dict[int, Element], bool]:
    """Return the elements up to the first after the tag `last`, and whether that one was found and none twice."""
    elements: dict[int, Element] = {}
    is_single = True
    with suppress(Malformed):
        while at < len(walker.data):
            element = walker.element(at, len(walker.data), 0)
            is_single = is_single and element.tag not in elements
            elements.setdefault(element.tag, element)
            if element.tag > last:
                return elements, is_single
            at = element.end
    return elements, False


def _check_header(elements: dict[int, Element], end: int) -> None:
    """Refuse a header too large to hold as objects; a large value without structure is allowed."""
    if end - next(iter(elements.values())).start <= MAX_HEADER:
        return
    header = (e for e in elements.values() if e.start < end and (e.undefined_length or e.vr not in BULK_VRS))
    if sum(e.end - e.start for e in header) > MAX_HEADER:
        raise Malformed(f"its header is larger than {MAX_HEADER >> 20} MiB")


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
    return is_vr(bytes(data[at + 4 : at + 6])), True


def walk_meta(data: Bytes, start: int) -> tuple[dict[int, Element], int]:
    """Return group 0002 (always Explicit VR Little Endian, PS3.10 7.1) and where the data set begins.

    Some senders pass on the group 0002 of their own file within the data set. The group's length, or a repeated
    element, reveals it; such a group says nothing about this file.
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
