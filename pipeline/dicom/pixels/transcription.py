"""Write a data set in Explicit or Implicit VR Little Endian, value for value; encapsulated pixels are explicit.

pydicom would decode and encode every value again, change values it finds wrong, and leave words of Other VRs in
their former byte order. This module decodes no value: it swaps bytes if the VR says so, and looks up implicit VRs
(PS3.5 A.1, A.4).
"""

from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass

import numpy as np
from pydicom import DataElement, Dataset, Sequence
from pydicom.datadict import dictionary_VR, private_dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag

from pipeline.dicom.attributes.elements import put, unread_of
from pipeline.dicom.encodings import NotEncoded
from pipeline.dicom.pixels.layout import UNREADABLE

Element = DataElement | RawDataElement

UNDEFINED = 0xFFFFFFFF
WORDS = {
    **dict.fromkeys(("US", "SS", "OW", "AT"), 2),  # AT: two numbers of 16 bits
    **dict.fromkeys(("UL", "SL", "FL", "OL", "OF"), 4),
    **dict.fromkeys(("FD", "OD", "SV", "UV", "OV"), 8),
}  # Bytes that byte order swaps together, PS3.5 7.3; other VRs are bytes or texts.


@dataclass(frozen=True, slots=True)
class _Context:
    dataset: Dataset
    implicit: bool
    little: bool
    signed: bool  # Pixel Representation of the data set, or of the nearest one around it that has it.


def transcribed(dataset: Dataset, *, signed: bool = False) -> Dataset:
    """Return a data set that pydicom writes in Explicit VR Little Endian without touching a value.

    `dataset` stays unchanged; unchanged elements are shared with it.

    Raises:
        NotEncoded: a value cannot be swapped: it is no whole number of words, or programs disagree how.
    """
    implicit, little = dataset.original_encoding
    if implicit is None or little is None:
        implicit, little = False, True  # This element was made here: it holds values, not bytes.
    if not little and "PixelData" in dataset and _bits_allocated(dataset) > WORDS["OW"] * 8:
        # Some programs order the two words of a sample as words, others as bytes: two readings, two doses.
        raise NotEncoded("big endian pixels of more than 16 bits are read in two ways by different programs")
    context = _Context(dataset, implicit, little, _signed(dataset, signed))
    character_set = dataset.original_character_set
    unread = unread_of(dataset)
    elements: MutableMapping[BaseTag, Element]
    if unread is not None and (implicit, little) == unread.encoding == (False, True):
        elements = unread.copied()  # They are as they must be; only what somebody has decoded may not.
        received: Iterable[Element] = unread.asked_for()
    else:
        elements, received = {}, dataset.elements()
    elements.update((element.tag, element) for element in _elements(received, context))
    written = Dataset(elements, parent_encoding=character_set or "iso8859")
    written.set_original_encoding(is_implicit_vr=False, is_little_endian=True, character_encoding=character_set)
    return written


def _bits_allocated(dataset: Dataset) -> int:
    try:
        return int(dataset.get("BitsAllocated", 0) or 0)
    except UNREADABLE:
        return 0  # The caller that needs a value says so.


def _elements(received: Iterable[Element], context: _Context) -> Iterator[Element]:
    for element in received:
        if isinstance(element, RawDataElement) and not context.implicit and context.little:
            yield element
            continue
        vr = _vr(element, context)
        if vr == "SQ":
            yield _sequence(context.dataset[element.tag], context)
        elif isinstance(element, RawDataElement) or isinstance(element.value, bytes):
            yield _turned(element, vr, context)
        else:
            yield element


def _sequence(element: DataElement, context: _Context) -> DataElement:
    items = Sequence(transcribed(item, signed=context.signed) for item in element.value)
    written = DataElement(element.tag, "SQ", items)
    written.is_undefined_length = element.is_undefined_length
    return written


def _turned(element: Element, vr: str, context: _Context) -> RawDataElement:
    value = element.value or b""
    undefined = _is_of_undefined_length(element)
    size = 1 if context.little else WORDS.get(vr, 1)
    if len(value) % size or (undefined and not context.little):
        raise NotEncoded(f"the big endian value of {element.tag} is not whole words")
    turned = np.frombuffer(value, f">u{size}").astype(f"<u{size}").tobytes() if size > 1 else value
    length = UNDEFINED if undefined else len(turned)
    return RawDataElement(element.tag, vr, length, turned, 0, is_implicit_VR=False, is_little_endian=True)


def _is_of_undefined_length(element: Element) -> bool:
    if isinstance(element, RawDataElement):
        return element.length == UNDEFINED
    return element.is_undefined_length


def _vr(element: Element, context: _Context) -> str:
    vr = element.VR or _looked_up(element, context)
    if " or " not in vr:
        return vr
    if vr == "US or SS":
        return "SS" if context.signed else "US"
    return "OB" if _is_of_undefined_length(element) else "OW"  # PS3.5 A.1: in implicit VR, OB or OW means OW.


def _looked_up(element: Element, context: _Context) -> str:
    tag = element.tag
    if tag.is_private_creator:
        return "LO"
    if tag.element == 0:
        return "UL"  # A group length, which pydicom does not write.
    try:
        if not tag.is_private:
            return dictionary_VR(tag)
        vr = private_dictionary_VR(tag, _creator(context.dataset, tag.group, tag.element >> 8))
    except KeyError:
        return "UN"  # PS3.5 6.2.2
    return "UN" if vr == "SQ" else vr  # UN means that the items are in implicit VR.


def _creator(dataset: Dataset, group: int, block: int) -> str:
    creator = dataset.get_item((group, block)) if (group, block) in dataset else None
    value = creator.value if creator is not None else None
    return value.decode("latin-1").strip(" \0") if isinstance(value, bytes) else str(value)


def _signed(dataset: Dataset, around: bool) -> bool:
    try:
        representation = dataset.get("PixelRepresentation")
    except UNREADABLE:
        return around
    return bool(representation) if isinstance(representation, int) else around


def without_vr(dataset: Dataset) -> Dataset:
    """Return a data set that pydicom writes in Implicit VR Little Endian without touching a value.

    `dataset` is in Explicit VR Little Endian and stays unchanged.
    """
    written = Dataset(parent_encoding=dataset.original_character_set or "iso8859")
    for element in dataset.elements():
        if element.VR == "SQ":
            whole = dataset[element.tag]
            sequence = DataElement(element.tag, "SQ", Sequence(without_vr(item) for item in whole.value))
            sequence.is_undefined_length = whole.is_undefined_length
            put(written, sequence)
        else:
            put(written, element)  # The bytes are the same, and the writer leaves the VR out.
    written.set_original_encoding(True, True, dataset.original_character_set)
    return written
