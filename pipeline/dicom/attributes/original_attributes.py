"""Original Attributes Sequence (0400,0561): the item that says what was changed here (PS3.3 C.12.1.1.9).

docs/adr/0002-coercion.md has the decisions: what is recorded, in which character set, and what is not.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from struct import pack

from pydicom import Dataset
from pydicom.charset import convert_encodings
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_sequence
from pydicom.tag import BaseTag

from pipeline.dicom.attributes.character_sets import CharacterSet
from pipeline.dicom.attributes.code_extensions import ESC
from pipeline.dicom.attributes.declared_text import declared_by
from pipeline.dicom.attributes.elements import (
    SPECIFIC_CHARACTER_SET,
    UNDEFINED,
    Element,
    bytes_of,
    creator_tag,
    element_of,
    encoded,
    encoding_of,
    put,
    raw_element,
    vr_of,
)
from pipeline.dicom.attributes.widening import UndecodableText, check_element_readable, widened
from pipeline.model import Origin

ORIGINAL_ATTRIBUTES = 0x04000561
MODIFIED_ATTRIBUTES = 0x04000550
NONCONFORMING_MODIFIED_ATTRIBUTES = 0x04000551
NONCONFORMING_DATA_ELEMENT_VALUE = 0x04000552
ATTRIBUTE_MODIFICATION_DATETIME = 0x04000562
MODIFYING_SYSTEM = 0x04000563
SOURCE_OF_PREVIOUS_VALUES = 0x04000564
REASON_FOR_THE_ATTRIBUTE_MODIFICATION = 0x04000565
SELECTOR_ATTRIBUTE = 0x00720026
SELECTOR_VALUE_NUMBER = 0x00720028
ITEM = 0xFFFEE000

Previous = Mapping[int, tuple[str, Element | None]]


def record(dataset: Dataset, origin: Origin, previous: Previous, charset: CharacterSet) -> None:
    """Append one item to Original Attributes Sequence; existing items stay.

    `previous` maps each changed tag to its VR and its former element, None if it was absent; `charset` is the
    character set of their text. The item depends on these alone, so the same input gives the same bytes.
    """
    modified: dict[int, Element] = {}
    nonconforming: dict[int, bytes] = {}
    for tag, (vr, element) in previous.items():
        try:
            modified |= _previous(dataset, tag, vr, element, charset)
        except UndecodableText:
            modified |= _previous(dataset, tag, vr, None, charset)
            nonconforming[tag] = (bytes_of(element) if element is not None else None) or b""
    if SPECIFIC_CHARACTER_SET in modified and not all(_is_plain(element) for element in modified.values()):
        # A Specific Character Set in this item would govern the texts beside it (PS3.5 7.5.3).
        del modified[SPECIFIC_CHARACTER_SET]
    content = _content(dataset, _previous_values(dataset, modified, nonconforming))
    item = _as_item(content + _circumstances_of(origin, dataset), encoding_of(dataset)[1])
    put(dataset, raw_element(dataset, ORIGINAL_ATTRIBUTES, "SQ", _present(dataset) + item))


def _previous(
    dataset: Dataset, tag: int, vr: str, element: Element | None, charset: CharacterSet
) -> dict[int, Element]:
    """Return a previous value, with zero length if it was absent, and with the creator of a private element."""
    creator = element_of(dataset, creator_tag(tag)) if BaseTag(tag).is_private else None
    found = {} if creator is None else {creator_tag(tag): creator}
    if element is None or _breaks_the_encoding(element, dataset):
        return {**found, tag: raw_element(dataset, tag, vr, b"")}
    return {**found, tag: _as_written(element, vr, dataset, charset)}


def _is_plain(element: Element) -> bool:
    raw = bytes_of(element)
    return element.tag == SPECIFIC_CHARACTER_SET or (raw is not None and raw.isascii() and ESC not in raw)


def _as_written(element: Element, vr: str, dataset: Dataset, charset: CharacterSet) -> Element:
    """Return a previous value as it stands in the item: unchanged, or in UTF-8 if the data set is in UTF-8."""
    if isinstance(element, RawDataElement):
        element = element._replace(VR=element.VR or vr, value=element.value or b"")
    if declared_by(dataset) == charset:
        check_element_readable(element, dataset, charset)
        return element
    return widened(element, dataset, charset)


def _previous_values(
    dataset: Dataset, modified: dict[int, Element], nonconforming: dict[int, bytes]
) -> Iterator[Element]:
    yield _sequence_of(dataset, MODIFIED_ATTRIBUTES, [[modified[tag] for tag in sorted(modified)]])
    if nonconforming:
        items = [_nonconforming(dataset, tag, value) for tag, value in sorted(nonconforming.items())]
        yield _sequence_of(dataset, NONCONFORMING_MODIFIED_ATTRIBUTES, items)


def _circumstances_of(origin: Origin, dataset: Dataset) -> bytes:
    about = (
        origin.admitted_at,
        origin.admitted_at.utcoffset(),
    )  # Moments that are equal may be written differently.
    return _circumstances(*about, origin.receiver, origin.calling_ae_title, *encoding_of(dataset))


@functools.lru_cache(maxsize=64)
def _circumstances(
    moment: datetime,
    _offset: timedelta | None,
    receiver: str,
    calling_ae_title: str,
    implicit: bool,
    little: bool,
) -> bytes:
    """Return when, by whom and why attributes were changed, which all instances of an arrival have in common."""
    alike = Dataset()
    alike.set_original_encoding(implicit, little)
    elements = [
        raw_element(alike, tag, vr, text.encode("ascii"))
        for tag, vr, text in (
            (ATTRIBUTE_MODIFICATION_DATETIME, "DT", moment.strftime("%Y%m%d%H%M%S%z")),
            (MODIFYING_SYSTEM, "LO", f"STORESTOW {receiver}"),
            (SOURCE_OF_PREVIOUS_VALUES, "LO", _plain(calling_ae_title)),
            (REASON_FOR_THE_ATTRIBUTE_MODIFICATION, "CS", "COERCE"),
        )
    ]
    return _content(alike, elements)


def _nonconforming(dataset: Dataset, tag: int, value: bytes) -> list[Element]:
    """Return the item that keeps, byte for byte, a value outside its character set."""
    order = "<" if encoding_of(dataset)[1] else ">"
    return [
        raw_element(dataset, SELECTOR_ATTRIBUTE, "AT", pack(order + "HH", tag >> 16, tag & 0xFFFF)),
        raw_element(dataset, SELECTOR_VALUE_NUMBER, "US", pack(order + "H", 1)),
        raw_element(dataset, NONCONFORMING_DATA_ELEMENT_VALUE, "OB", value),
    ]


def _sequence_of(dataset: Dataset, tag: int, items: Iterable[Iterable[Element]]) -> Element:
    return raw_element(dataset, tag, "SQ", b"".join(_item(dataset, item) for item in items))


def _item(dataset: Dataset, elements: Iterable[Element]) -> bytes:
    """Return the bytes of a sequence item in the data set's own encoding."""
    return _as_item(_content(dataset, elements), encoding_of(dataset)[1])


def _content(dataset: Dataset, elements: Iterable[Element]) -> bytes:
    encoding, encodings = encoding_of(dataset), dataset.original_character_set
    return b"".join(encoded(element, *encoding, encodings) for element in elements)


def _as_item(content: bytes, little: bool) -> bytes:
    return pack("<HHL" if little else ">HHL", ITEM >> 16, ITEM & 0xFFFF, len(content)) + content


def _breaks_the_encoding(element: Element, dataset: Dataset) -> bool:
    """Tell whether a value holds encapsulated pixels, which only an encapsulated transfer syntax may (PS3.5 A.4).

    Such an attribute is recorded with zero length, as C.12.1.1.9 asks for nonconforming values.
    """
    if isinstance(element, RawDataElement):
        if element.length == UNDEFINED:
            return True
        return vr_of(element, dataset) in {"SQ", "UN"} and _holds_fragments(element.value or b"")
    if element.VR == "SQ":
        return any(_item_breaks_the_encoding(item) for item in element.value)
    return bool(element.is_undefined_length)


def _item_breaks_the_encoding(item: Dataset) -> bool:
    elements = (element_of(item, tag) for tag in item.keys())  # noqa: SIM118  # a data set iterates over decoded elements
    return any(_breaks_the_encoding(element, item) for element in elements if element is not None)


def _holds_fragments(data: bytes) -> bool:
    """Tell whether Pixel Data of undefined length seems to begin somewhere in `data`; if in doubt, yes."""
    return any(
        mark in data
        for mark in (
            b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff",
            b"\xe0\x7f\x10\x00OW\0\0\xff\xff\xff\xff",
            b"\xe0\x7f\x10\x00\xff\xff\xff\xff",
            b"\x7f\xe0\x00\x10OB\0\0\xff\xff\xff\xff",
            b"\x7f\xe0\x00\x10OW\0\0\xff\xff\xff\xff",
        )
    )


def _present(dataset: Dataset) -> bytes:
    """Return the existing items, byte for byte if pydicom has not parsed them."""
    element = element_of(dataset, ORIGINAL_ATTRIBUTES)
    if element is None:
        return b""
    if isinstance(element, RawDataElement):
        if element.VR in {None, "SQ"}:
            return element.value or b""
        element = convert_raw_data_element(element, encoding=dataset.original_character_set, ds=dataset)
    buffer = _buffer(dataset)
    write_sequence(buffer, element, list(convert_encodings(dataset.original_character_set)))
    return buffer.getvalue()


def _buffer(dataset: Dataset) -> DicomBytesIO:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = encoding_of(dataset)
    return buffer


def _plain(ae_title: str) -> str:
    """Return an AE title as one ASCII value, because a peer may choose any characters."""
    return "".join(c if " " <= c <= "~" and c != "\\" else "?" for c in ae_title.strip())[:64]
