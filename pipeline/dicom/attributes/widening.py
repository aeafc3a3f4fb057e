"""Rewrite a data set's text in UTF-8, if a new value needs characters outside its own character set.

If one text cannot be read without doubt, no text is rewritten: a patient's name is never guessed.
"""

from collections.abc import Iterable, Iterator

from pydicom import Dataset
from pydicom.charset import convert_encodings
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.errors import BytesLengthException
from pydicom.tag import BaseTag

from pipeline.dicom.attributes.character_sets import UTF_8, CharacterSet, reads_as_utf_8
from pipeline.dicom.attributes.code_extensions import ESC
from pipeline.dicom.attributes.declared_text import declared_by
from pipeline.dicom.attributes.elements import (
    SPECIFIC_CHARACTER_SET,
    TEXT_VRS,
    Element,
    bytes_of,
    creator_tag,
    element_of,
    encoding_of,
    named,
    put,
    raw_element,
    vr_of,
)

WIDE = CharacterSet((UTF_8,))
# The tag at the top level, the data set that holds the element, and the element.
Rewritten = tuple[int, Dataset, Element]


class UndecodableText(Exception):  # This is an outcome, which the caller handles.
    """Say which attribute holds bytes outside the character set; the text never contains the bytes."""


def widen(dataset: Dataset, charset: CharacterSet) -> frozenset[int]:
    """Rewrite every text in UTF-8, declare ISO_IR 192, and return the tags of rewritten elements.

    Elements that are decoded already, such as texts that rules propose, are left to the caller. Items with their
    own Specific Character Set (PS3.5 7.5.3) are read with it, and widened if possible, because some readers, such
    as DCMTK, convert an item with the character set of the whole data set.

    Raises:
        UndecodableText: some text is not of `charset`; the data set is unchanged.
    """
    rewritten = list(_rewritten(dataset, charset))
    _put(rewritten)
    put(dataset, _declaration(dataset))
    declare(dataset, WIDE)
    return frozenset(top for top, _, _ in rewritten) | {SPECIFIC_CHARACTER_SET}


def widened(element: Element, dataset: Dataset, charset: CharacterSet) -> Element:
    """Return a detached element with its text rewritten in UTF-8.

    Raises:
        UndecodableText: some of its text is not of `charset`.
    """
    alone = _alone(element, dataset)
    _put(list(_rewritten(alone, charset)))
    return element_of(alone, int(element.tag)) or element


def check_readable(dataset: Dataset, charset: CharacterSet) -> None:
    """Check that every text under the data set's own declaration can be read with `charset`.

    Raises:
        UndecodableText: names the first attribute that cannot be read.
    """
    for _ in _rewritten(dataset, charset):
        pass


def check_element_readable(element: Element, dataset: Dataset, charset: CharacterSet) -> None:
    """Check one detached element as `check_readable` does."""
    if isinstance(element, RawDataElement) and _is_plain(element.value or b""):
        return  # In every character set.
    check_readable(_alone(element, dataset), charset)


def declare(dataset: Dataset, charset: CharacterSet) -> None:
    """Tell pydicom that the raw elements are in `charset`, so that it neither decodes nor rewrites them."""
    encodings = convert_encodings(list(charset.terms))
    implicit, little = dataset.original_encoding
    dataset.set_original_encoding(implicit, little, encodings)
    dataset._parent_encoding = encodings  # noqa: SLF001  # pydicom compares the two before it writes


def _rewritten(dataset: Dataset, charset: CharacterSet) -> Iterator[Rewritten]:
    """Yield each element that will change and the data set it belongs to; nothing is changed yet."""
    for tag in sorted(dataset.keys()):
        element = element_of(dataset, tag)
        if element is None or tag == SPECIFIC_CHARACTER_SET:
            continue
        vr = vr_of(element, dataset)
        if vr == "SQ":
            yield from _sequence(element, dataset, charset)
        elif vr in TEXT_VRS:
            yield from _text(element, vr, dataset, charset)


def _text(element: Element, vr: str, dataset: Dataset, charset: CharacterSet) -> Iterator[Rewritten]:
    raw = bytes_of(element)
    if raw is None or _is_plain(raw):
        return  # pydicom encodes a decoded value with the new declaration.
    name = named(int(element.tag), dataset)
    if not charset.is_utf_8 and reads_as_utf_8(raw):
        raise UndecodableText(name)
    try:
        new = charset.decode(raw, vr).encode("utf-8")
    except UnicodeDecodeError as error:
        raise UndecodableText(name) from error
    if len(new) > 0xFFFE and vr not in {"UC", "UT"}:  # The length has 16 bits, PS3.5 7.1.2.
        raise UndecodableText(name)
    if new != raw:
        yield int(element.tag), dataset, raw_element(dataset, int(element.tag), vr, new)


def _sequence(element: Element, dataset: Dataset, charset: CharacterSet) -> Iterator[Rewritten]:
    if isinstance(element, RawDataElement):
        if _is_plain(element.value or b""):
            return  # An unparsed sequence stays byte for byte.
        parsed = _parsed(element, dataset)
    else:
        parsed = element
    tag = int(element.tag)
    changes = [(tag, holder, inner) for item in parsed.value for _, holder, inner in _item(item, charset)]
    yield from changes
    if changes and parsed is not element:
        yield tag, dataset, parsed


def _item(item: Dataset, inherited: CharacterSet) -> list[Rewritten]:
    if element_of(item, SPECIFIC_CHARACTER_SET) is None:
        return list(_rewritten(item, inherited))
    try:
        changes = list(_rewritten(item, declared_by(item)))
    except UndecodableText:
        return []  # The item declares its own character set, so it stays unchanged.
    return [*changes, (SPECIFIC_CHARACTER_SET, item, _declaration(item))] if changes else []


def _put(rewritten: Iterable[Rewritten]) -> None:
    for _, holder, element in rewritten:
        put(holder, element)
        declare(holder, WIDE)


def _alone(element: Element, dataset: Dataset) -> Dataset:
    alone = Dataset()
    implicit, little = encoding_of(dataset)
    alone.set_original_encoding(implicit, little, dataset.original_character_set)
    put(alone, element)
    if BaseTag(element.tag).is_private and (creator := element_of(dataset, creator_tag(int(element.tag)))):
        put(alone, creator)
    return alone


def _declaration(dataset: Dataset) -> Element:
    return raw_element(dataset, SPECIFIC_CHARACTER_SET, "CS", UTF_8.encode("ascii"))


def _parsed(element: RawDataElement, dataset: Dataset) -> DataElement:
    try:
        return convert_raw_data_element(element, encoding=dataset.original_character_set, ds=dataset)
    except (OSError, ValueError, NotImplementedError, BytesLengthException) as error:
        raise UndecodableText(named(int(element.tag), dataset)) from error


def _is_plain(data: bytes) -> bool:
    return data.isascii() and ESC not in data
