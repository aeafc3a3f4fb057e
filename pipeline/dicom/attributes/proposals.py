"""Constructors for the changes that coercion rules propose: set a value, or remove an element."""

import unicodedata

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

from pipeline.dicom.attributes.character_sets import text_of
from pipeline.dicom.attributes.elements import bytes_of, element_of, named
from pipeline.model import Change


def value(keyword: str, text: str, rule: str) -> Change:
    """Propose that the attribute gets `text`; backslashes separate several values."""
    return Change(tag_of(keyword), keyword, text, None, text, rule)


def removal(tag: int, dataset: Dataset, rule: str) -> Change:
    """Propose to remove the element."""
    return Change(tag, named(tag, dataset), None, None, None, rule)


def is_empty(dataset: Dataset, tag: int) -> bool:
    r"""Tell whether the attribute is absent, of zero length, or without meaning.

    Blanks, control characters and the delimiters `^`, `=` and `\` have no meaning (PS3.5 6.2.1). Two quotes have
    none either: HL7 uses them to ask for deletion, and some modalities copy them from the order.
    """
    element = element_of(dataset, tag)
    if element is None or not (bytes_of(element) or (not element.is_raw and element.value)):
        return True
    text = (text_of(dataset, tag) or "").replace('""', "")
    return all(character in "^=\\" or _is_blank(character) for character in text)


def _is_blank(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in {"Cc", "Cf"}


def tag_of(keyword: str) -> int:
    """Return the tag of a keyword in the data dictionary; raises KeyError if there is none."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return tag
