"""Compare two files by what a radiologist sees: the attributes, and the pixels after decoding."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal, InvalidOperation
from io import BytesIO
from itertools import zip_longest
from pathlib import Path

from pydicom import Dataset
from pydicom.errors import BytesLengthException
from pydicom.filereader import read_sequence

from pipeline.dicom.attributes.character_sets import CharacterSet
from pipeline.dicom.attributes.declared_text import declared_by, text_in
from pipeline.dicom.attributes.elements import (
    SPECIFIC_CHARACTER_SET,
    STRING_VRS,
    Element,
    bytes_of,
    element_of,
    vr_of,
)
from pipeline.dicom.decoding import NotDecoded
from pipeline.dicom.encodings import NotEncoded
from pipeline.dicom.header import read_header, rest_of, with_rest
from pipeline.dicom.part10 import Bytes, DataSetLayout, Malformed
from pipeline.dicom.pixels.transcription import transcribed
from pipeline.dicom.reading import data_set_of
from pipeline.dicom.same_pixels import WrittenPixels, are_same_pixels
from pipeline.errors import Permanent

LARGEST = 512 << 20  # Largest compared file in bytes.
# pydicom raises these for malformed attributes.
UNREADABLE = (
    *(ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError),
    *(BytesLengthException, EOFError, MemoryError),
)
# These elements describe the encoding and not the instance. Each is judged together with what it describes: an
# offset table with the fragments, a character set with the texts, the meaning of samples with the samples.
OF_THE_ENCODING = frozenset(
    {
        0x00080001,  # Length to End, a length like every group length (PS3.5 7.2)
        SPECIFIC_CHARACTER_SET,
        0x00280004,  # Photometric Interpretation
        0x00280006,  # Planar Configuration
        0x7FE00001,  # Extended Offset Table
        0x7FE00002,  # Extended Offset Table Lengths
        0x7FE00003,  # Encapsulated Pixel Data Value Total Length
        0xFFFCFFFC,  # Data Set Trailing Padding (PS3.10 7.2)
    }
)


Opened = tuple[Dataset, WrittenPixels]


class Incomparable(Permanent):
    """Say why this program cannot tell whether two files hold the same instance."""


def are_same(pair: tuple[Path, Path]) -> bool:
    """Tell whether two files hold the same instance, whatever their transfer syntaxes.

    Raises:
        Incomparable: one of the two cannot be read or decoded here. Keep both; a person decides.
        OSError: a file is missing, or the disk cannot be read now. This says nothing about the instance.
    """
    with opened(pair) as ((one, first), (other, second)):
        return _are_same(one, other, declared_by(one), declared_by(other)) and are_same_pixels(first, second)


@contextmanager
def opened(pair: tuple[Path, Path]) -> Iterator[tuple[Opened, Opened]]:
    """Open two files, each as its data set without pixels and its pixels.

    Raises as `are_same`, in the block too.
    """
    if any(path.stat().st_size > LARGEST for path in pair):
        raise Incomparable(f"one of them is larger than {LARGEST >> 20} MiB")
    try:
        with ExitStack() as stack:
            one, other = (_read(*stack.enter_context(data_set_of(path))) for path in pair)
            yield one, other
    except (Malformed, NotDecoded, NotEncoded, Permanent) as error:
        raise Incomparable(str(error)) from error
    except (*UNREADABLE, OSError) as error:
        # The system sets a number; an OSError without a number comes from pydicom.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise Incomparable("the attributes of one of them make no sense") from error


def _read(data: Bytes, layout: DataSetLayout) -> Opened:
    """Return the data set without pixels, in little endian and otherwise as received, and the pixels."""
    header = read_header(data, layout)
    return transcribed(with_rest(header, rest_of(data, layout))), WrittenPixels(header, data, layout)


def _are_same(one: Dataset, other: Dataset, charset: CharacterSet, other_charset: CharacterSet) -> bool:
    tags = tags_of(one)
    return tags == tags_of(other) and all(
        is_equal(tag, (one, charset), (other, other_charset)) for tag in sorted(tags)
    )


def tags_of(data_set: Dataset) -> set[int]:
    """Return the tags of the elements that describe the instance."""
    return {
        int(tag)
        for tag in data_set.keys()  # noqa: SIM118  # iterating over the data set would decode its elements
        if tag & 0xFFFF and tag not in OF_THE_ENCODING
    }


def is_equal(tag: int, one: tuple[Dataset, CharacterSet], other: tuple[Dataset, CharacterSet]) -> bool:
    """Tell whether an attribute that both data sets have means the same in both."""
    (a, charset), (b, other_charset) = one, other
    first, second = element_of(a, tag), element_of(b, tag)
    assert first is not None
    assert second is not None
    vrs = {vr_of(first, a), vr_of(second, b)}
    raw, raw_other = bytes_of(first), bytes_of(second)
    if raw is not None and raw == raw_other and len(vrs) == 1 and charset == other_charset:
        return True
    if "SQ" in vrs:
        items, others = _items(tag, first, a), _items(tag, second, b)
        return all(
            x is not None
            and y is not None
            and _are_same(x, y, declared_by(x, charset), declared_by(y, other_charset))
            for x, y in zip_longest(items, others)
        )
    if vrs <= STRING_VRS:
        vr = min(vrs)
        return _text(text_in(first, a, charset), vr) == _text(text_in(second, b, other_charset), vr)
    if raw is None or raw_other is None:  # A decoded value is a number, compared above.
        return bool(a[tag].value == b[tag].value)
    return _without_padding(raw, vrs) == _without_padding(raw_other, vrs)


def _items(tag: int, element: Element, data_set: Dataset) -> list[Dataset]:
    """Return a sequence's items, also those in Implicit VR that UN holds (PS3.5 6.2.2)."""
    raw = bytes_of(element)
    if raw is None or element.VR == "SQ":
        return list(data_set[tag].value)
    charset = data_set.original_character_set or "iso8859"
    return list(read_sequence(BytesIO(raw), True, True, len(raw), charset))


def _text(text: str, vr: str) -> object:
    """Return the meaning of a text: numbers as numbers, names without delimiters of empty components."""
    if vr == "PN":
        names = (name.split("=") for name in text.split("\\"))
        return ["=".join(group.rstrip("^ ") for group in groups).rstrip("= ") for groups in names]
    values = [value.strip(" \0") for value in text.split("\\")]
    if vr in {"DS", "IS"}:
        try:
            return [Decimal(value) if value else None for value in values]
        except InvalidOperation:
            return values
    return values


def _without_padding(value: bytes, vrs: set[str]) -> bytes:
    """Return a value without padding; in implicit VR a private text cannot be told from UN."""
    if vrs & STRING_VRS:
        return value.rstrip(b" \0")
    return value if len(value) % 2 else value.removesuffix(b"\0")
