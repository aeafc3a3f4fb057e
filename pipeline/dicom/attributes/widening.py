"""Rewrite a data set's text in UTF-8, when a value must be written that its own character set has not.

Either every text is read without doubt, or nothing is rewritten: a patient's name is never guessed.
"""

from collections.abc import Iterable, Iterator

from pydicom import Dataset
from pydicom.charset import convert_encodings
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.errors import BytesLengthException
from pydicom.tag import BaseTag

from pipeline.dicom.attributes.character_sets import UTF_8, CharacterSet, declared_by, reads_as_utf_8
from pipeline.dicom.attributes.code_extensions import ESC
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
Rewritten = tuple[int, Dataset, Element]  # the tag at the top level, the data set that holds the element, it


class UndecodableText(Exception):  # an outcome: the caller knows what it means
    """Say which attribute holds bytes that are not of the character set; never the bytes themselves."""


def widen(dataset: Dataset, charset: CharacterSet) -> frozenset[int]:
    """Rewrite every text in UTF-8, declare ISO_IR 192, and return the tags rewritten.

    What is decoded already, as the texts that rules propose, is left to the caller. Items with a Specific
    Character Set of their own (PS3.5 7.5.3) are read with that, and widened too where they can be: some
    readers, DCMTK among them, convert an item with the set of the whole data set.

    Raises:
        Unreadable: some text is not of `charset`; the data set is unchanged.
    """
    rewritten = list(_rewritten(dataset, charset))
    _put(rewritten)
    put(dataset, _declaration(dataset))
    declare(dataset, WIDE)
    return frozenset(top for top, _, _ in rewritten) | {SPECIFIC_CHARACTER_SET}


def widened(element: Element, dataset: Dataset, charset: CharacterSet) -> Element:
    """Return an element that is not in the data set any more, its text rewritten in UTF-8.

    Raises:
        Unreadable: some of its text is not of `charset`.
    """
    alone = _alone(element, dataset)
    _put(list(_rewritten(alone, charset)))
    return element_of(alone, int(element.tag)) or element


def check_readable(dataset: Dataset, charset: CharacterSet) -> None:
    """Check that every text the data set's own declaration governs can be read with `charset`.

    Raises:
        Unreadable: naming the first attribute that cannot.
    """
    for _ in _rewritten(dataset, charset):
        pass


def check_element_readable(element: Element, dataset: Dataset, charset: CharacterSet) -> None:
    """Check one element that is not in the data set any more, as `check_readable` does."""
    check_readable(_alone(element, dataset), charset)


def declare(dataset: Dataset, charset: CharacterSet) -> None:
    """Tell pydicom that the raw elements are of `charset`, so that it neither decodes nor rewrites them."""
    encodings = convert_encodings(list(charset.terms))
    implicit, little = dataset.original_encoding
    dataset.set_original_encoding(implicit, little, encodings)
    dataset._parent_encoding = encodings  # noqa: SLF001  # pydicom compares the two before it writes


def _rewritten(dataset: Dataset, charset: CharacterSet) -> Iterator[Rewritten]:
    """Yield each element that changes and where it belongs; nothing is changed yet."""
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
        return  # what pydicom has decoded it will encode with the new declaration
    name = named(int(element.tag), dataset)
    if not charset.is_utf_8 and reads_as_utf_8(raw):
        raise UndecodableText(name)
    try:
        new = charset.decode(raw, vr).encode("utf-8")
    except UnicodeDecodeError as error:
        raise UndecodableText(name) from error
    if len(new) > 0xFFFE and vr not in {"UC", "UT"}:  # a 16-bit length, PS3.5 7.1.2
        raise UndecodableText(name)
    if new != raw:
        yield int(element.tag), dataset, raw_element(dataset, int(element.tag), vr, new)


def _sequence(element: Element, dataset: Dataset, charset: CharacterSet) -> Iterator[Rewritten]:
    if isinstance(element, RawDataElement):
        if _is_plain(element.value or b""):
            return  # it is not even parsed, and stays byte for byte
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
        return []  # it says itself which set it is of, so it stays as it is
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
