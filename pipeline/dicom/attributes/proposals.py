"""What a rule says: this attribute gets this value, or goes."""

import unicodedata

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

from pipeline.dicom.attributes.character_sets import text_of
from pipeline.dicom.attributes.elements import bytes_of, element_of, named
from pipeline.model import Change


def value(keyword: str, text: str, rule: str) -> Change:
    """Propose that the attribute gets `text`, several values joined by backslashes."""
    return Change(tag_of(keyword), keyword, text, None, text, rule)


def removal(tag: int, dataset: Dataset, rule: str) -> Change:
    """Propose that the element goes."""
    return Change(tag, named(tag, dataset), None, None, None, rule)


def is_empty(dataset: Dataset, tag: int) -> bool:
    r"""Tell whether the attribute is absent, of zero length, or says nothing.

    Blanks, control characters and the delimiters `^`, `=` and `\` say nothing (PS3.5 6.2.1), nor do two quotes,
    by which HL7 asks for a value to be deleted and which some modalities copy from the order.
    """
    element = element_of(dataset, tag)
    if element is None or not (bytes_of(element) or (not element.is_raw and element.value)):
        return True
    text = (text_of(dataset, tag) or "").replace('""', "")
    return all(character in "^=\\" or _is_blank(character) for character in text)


def _is_blank(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in {"Cc", "Cf"}


def tag_of(keyword: str) -> int:
    """Return the tag of a keyword of the dictionary; raises KeyError where there is none."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return tag
