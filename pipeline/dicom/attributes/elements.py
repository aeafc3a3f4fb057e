"""Read elements of a data set without changing what will be written.

pydicom decodes an element when its value is read, and then writes the decoded value: bytes outside the declared
character set would become question marks. This module therefore reads raw values only, and received bytes are
written unchanged.
"""

from collections.abc import Iterable, MutableSequence
from struct import Struct
from typing import Any

from pydicom import Dataset
from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_VR, keyword_for_tag, private_dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.tag import BaseTag

from pipeline.dicom.attributes import character_sets
from pipeline.dicom.attributes.unread_elements import UnreadElements
from pipeline.dicom.part10 import LONG_VRS

Element = RawDataElement | DataElement

SPECIFIC_CHARACTER_SET = character_sets.SPECIFIC_CHARACTER_SET
UNDEFINED = 0xFFFFFFFF
TEXT_VRS, STRING_VRS = character_sets.TEXT_VRS, character_sets.STRING_VRS
ONE_TEXT_VRS = character_sets.ONE_TEXT_VRS

LONGEST_SHORT = 0xFFFF  # Bytes of a value whose length has 16 bits, PS3.5 7.1.2.
_IMPLICIT, _SHORT, _LONG = (
    {order: Struct(order + header) for order in "<>"} for header in ("HHL", "HH2sH", "HH2s2xL")
)  # Headers of elements by byte order, PS3.5 7.1.


def element_of(dataset: Dataset, tag: int) -> Element | None:
    """Return the element unchanged: raw if pydicom has not decoded it, None if it is absent."""
    return dataset._dict.get(tag)  # type: ignore[call-overload, no-any-return]  # noqa: SLF001  # `get_item` takes five times as long


def elements_of(dataset: Dataset) -> list[tuple[int, Element]]:
    """Return the elements unchanged in the order of their tags, each with its tag as a plain number."""
    # `elements` takes ten times as long: pydicom compares its tags in Python.
    return sorted((int(tag), element) for tag, element in dataset._dict.items())  # noqa: SLF001


def unread_of(dataset: Dataset) -> UnreadElements | None:
    """Return the elements of a data set if it keeps them as the walk found them, otherwise None."""
    elements = dataset._dict  # noqa: SLF001  # iterating over the data set would decode its elements
    return elements if isinstance(elements, UnreadElements) else None


def put(dataset: Dataset, element: Element) -> None:
    """Put `element` into the data set unchanged."""
    # Dataset.__setitem__ would decode a raw private element, and its creator with it.
    dataset._dict[BaseTag(element.tag)] = element  # noqa: SLF001


def drop(dataset: Dataset, tag: int) -> None:
    """Take the element out of the data set, if it is there."""
    if BaseTag(tag) in dataset:
        del dataset[BaseTag(tag)]


def raw_element(dataset: Dataset, tag: int, vr: str, value: bytes) -> RawDataElement:
    """Return an element in the data set's own encoding, with `value` padded to even length."""
    implicit, little = encoding_of(dataset)
    if len(value) % 2:
        value += b"\0" if vr in {"UI", "OB", "UN"} else b" "  # PS3.5 6.2
    return RawDataElement(BaseTag(tag), None if implicit else vr, len(value), value, 0, implicit, little)


def encoded(
    element: Element, implicit: bool, little: bool, encodings: str | MutableSequence[str] | None = None
) -> bytes:
    """Return the bytes of an element with its header; `encodings` are Python's, for text that is not raw."""
    if isinstance(element, RawDataElement) and element.length != UNDEFINED:
        value, vr, number = element.value or b"", element.VR, int(element.tag)
        order, group, tag = "<" if little else ">", number >> 16, number & 0xFFFF
        if implicit:
            return _IMPLICIT[order].pack(group, tag, len(value)) + value
        name = vr.encode("ascii") if vr else b""
        if name in LONG_VRS:
            return _LONG[order].pack(group, tag, name, len(value)) + value
        if len(name) == 2 and len(value) <= LONGEST_SHORT:
            return _SHORT[order].pack(group, tag, name, len(value)) + value
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, little
    write_data_element(buffer, element, convert_encodings(encodings))
    return buffer.getvalue()


def encoding_of(dataset: Dataset) -> tuple[bool, bool]:
    """Return (implicit VR, little endian); Explicit VR Little Endian for a data set that was never read."""
    implicit, little = dataset.original_encoding
    return bool(implicit), True if little is None else little


def bytes_of(element: Element) -> bytes | None:
    """Return the value's bytes as received, None if pydicom has decoded it."""
    if isinstance(element, RawDataElement):
        return element.value or b""
    return element.value if isinstance(element.value, bytes) else None


def vr_of(element: Element, dataset: Dataset) -> str:
    """Return the VR a reader will see: UN and implicit VR are looked up; UN if the dictionary has no entry."""
    if element.VR and element.VR != "UN":
        return str(element.VR)
    tag = BaseTag(element.tag)
    try:
        if not tag.is_private:
            return dictionary_VR(tag)
        if tag.is_private_creator:
            return "LO"
        return private_dictionary_VR(tag, creator_of(dataset, tag) or "")
    except KeyError:
        return "UN"


def creator_of(dataset: Dataset, tag: int) -> str | None:
    """Return the private creator that reserved the block of `tag` (PS3.5 7.8.1), None if no creator did."""
    return _creator_at(dataset, creator_tag(tag))


def creator_tag(tag: int) -> int:
    """Return the tag of the private creator of the private element `tag`."""
    return (tag & 0xFFFF0000) | (tag >> 8 & 0xFF)


def private_tags(dataset: Dataset, group: int, creator: str, number: int) -> list[int]:
    """Return the tags of element `number` in every block that `creator` reserved in `group`."""
    first = group << 16
    creators = [tag for tag in numbers_of(dataset) if first + 0x10 <= tag <= first + 0xFF]
    return [(t & 0xFFFF0000) | (t & 0xFF) << 8 | number for t in creators if _creator_at(dataset, t) == creator]


def numbers_of(dataset: Dataset) -> Iterable[int]:
    """Return the tags of a data set, as plain numbers if that is quicker."""
    unread = unread_of(dataset)
    return dataset._dict if unread is None else unread.numbers()  # noqa: SLF001  # `keys` takes longer


def _creator_at(dataset: Dataset, tag: int) -> str | None:
    element = element_of(dataset, tag)
    if element is None:
        return None
    raw = bytes_of(element)
    return (str(element.value) if raw is None else raw.decode("latin-1")).strip(" \0")


def named(tag: int, dataset: Dataset | None = None) -> str:
    """Return the keyword, `"gggg,CREATOR,ee"` for an element of a reserved private block, else `ggggeeee`."""
    if keyword := keyword_for_tag(BaseTag(tag)):
        return keyword
    if dataset is not None and BaseTag(tag).is_private and tag & 0xFF00:
        creator = creator_of(dataset, tag)
        if creator:
            return f"{tag >> 16:04x},{creator},{tag & 0xFF:02x}"
    return f"{tag:08x}"


def significant(text: str, vr: str) -> str:
    """Return `text` without padding: blanks at both ends, or only at the end for texts of lines (PS3.5 6.2)."""
    return text.rstrip(" \0") if vr in ONE_TEXT_VRS else text.strip(" \0")


def decoded_text(value: Any) -> str:
    """Return a value that pydicom decoded as one text; backslashes join several values, as in the file."""
    if value is None:
        return ""
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return "\\".join(str(v) for v in value)
