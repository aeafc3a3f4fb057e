"""Read the text of a data set in the character set it declares (PS3.5 6.1.2.3, 7.5.3)."""

from pydicom import Dataset

from pipeline.dicom.attributes.character_sets import (
    SPECIFIC_CHARACTER_SET,
    STRING_VRS,
    TEXT_VRS,
    CharacterSet,
)
from pipeline.dicom.attributes.elements import (
    Element,
    bytes_of,
    decoded_text,
    element_of,
    significant,
    vr_of,
)


def declared_by(dataset: Dataset, inherited: CharacterSet | None = None) -> CharacterSet:
    """Return the character set the data set declares, otherwise the inherited one (PS3.5 7.5.3)."""
    element = element_of(dataset, SPECIFIC_CHARACTER_SET)
    if element is None:
        return inherited or CharacterSet()
    raw = bytes_of(element)
    return CharacterSet.of(decoded_text(element.value) if raw is None else raw.decode("latin-1"))


def text_of(dataset: Dataset, tag: int) -> str | None:
    r"""Return a value as text without padding, None if it is absent; never raises, changes nothing.

    Bytes outside the declared character set stand as `\xNN`, so such a text equals no other text.
    """
    element = element_of(dataset, tag)
    return None if element is None else text_in(element, dataset, declared_by(dataset))


def text_in(element: Element, dataset: Dataset, charset: CharacterSet) -> str:
    """Return the element's value as text, read with `charset`; a short description if the value is no text."""
    vr, raw = vr_of(element, dataset), bytes_of(element)
    if vr not in STRING_VRS and (raw is not None or vr == "SQ"):
        return f"SQ, {len(element.value or ())} items" if raw is None else f"{vr}, {len(raw)} bytes"
    if raw is None:
        text = decoded_text(element.value)
    else:
        try:
            text = charset.decode(raw, vr) if vr in TEXT_VRS else raw.decode("ascii")
        except UnicodeDecodeError:
            text = raw.decode("ascii", errors="backslashreplace")
    return significant(text, vr)
