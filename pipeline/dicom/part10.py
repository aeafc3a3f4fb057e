"""The parts of a DICOM file (PS3.10): elements, their VRs and tags, and the layout of a whole file.

pydicom takes longer to import than many files take to read; processes that only look at files do without it.
"""

import mmap
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

Bytes = bytes | mmap.mmap

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"

NATIVE = {
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
}
_COMPRESSED = ("1.2.840.10008.1.2.4.", "1.2.840.10008.1.2.5")  # JPEG and its relatives, video; RLE (PS3.5 10).

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD  # PS3.5 7.5
PIXEL_DATA = 0x7FE00010
FOREIGN_GROUPS = {0x0000, 0x0002}  # Groups of commands (PS3.7 E) and of file meta information (PS3.10 7.1).
PIXEL_GROUP = 0x7FE00008  # Float, Double Float and Pixel Data stand from here on (PS3.6)
LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)  # VRs with a 32-bit length, PS3.5 table 7.1-1.
SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL"}
    | {b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)  # VRs with a 16-bit length, PS3.5 table 7.1-2.
OPAQUE_VRS = frozenset({b"OB", b"OW", b"OF", b"OD", b"OL", b"OV"})
VRS_OF_ITEMS = OPAQUE_VRS | {b"SQ", b"UN", b""}  # A value of undefined length consists of items (PS3.5 7.5).
MAX_DEPTH = 48  # Real objects stay below 10 levels; more is an attack on recursive readers.
MAX_HEADER = 256 << 20  # Bytes of elements before Pixel Data; an enhanced MR of 3,400 frames has some 60 MiB.
MOST_GLANCED_AT = 500_000  # Elements that a glance walks through, nested ones included.
MOST_OF_A_VALUE = 1 << 16  # Bytes of one value that a glance reads.
# A value may be nearly the whole object, as in an encapsulated PDF.
BULK_VRS = OPAQUE_VRS | {b"UN", b"UC", b"UR", b"UT", b""}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SAMPLES, _PHOTOMETRIC, _FRAMES = 0x00280002, 0x00280004, 0x00280008
_ROWS, _COLUMNS, _BITS = 0x00280010, 0x00280011, 0x00280100
_SAMPLES_OF_422 = 2  # Samples a pixel; in other colour spaces there are three (PS3.3 C.7.6.3.1.2).


class Malformed(ValueError):
    """Say why a file is no well-formed DICOM file; the text becomes the reason for quarantine."""


class Element(NamedTuple):
    """Position of a top-level element in the file: tag, header, value; `end` is one past its last byte.

    This is a tuple, because 2,000 slices have half a million elements.
    """

    tag: int
    vr: bytes  # b"" in implicit VR.
    start: int
    value: int
    end: int
    undefined_length: bool


class Correction(StrEnum):
    """A fault of encoding and what was done about it; the value is the sentence that ledger and log have."""

    FOREIGN = "did not belong into a data set and was left out"
    PADDING = "zeros behind the last element were left out"
    UNCOUNTED = "its length did not count its last byte and does now"
    STRAY = "a delimiter behind a sequence of known length was left out"
    END_WITH_LENGTH = "its sequence delimitation item had a length and has none now"
    NO_END = "its sequence delimitation item was missing and was put there"
    ODD_FRAGMENT = "a fragment was of odd length and got a byte of padding"
    NOT_BYTES = "its VR was not OB, which compressed pixels have, and is now"
    NO_VR = "had no valid VR and got one"
    OTHER_VR = "its VR did not say how its items are encoded and does now"
    STALE_LENGTH = "the length of its group did not hold any more and was left out"


class Mend(NamedTuple):
    """Say that `put` replaces the bytes `start` to `stop`, and which fault it corrects."""

    start: int
    stop: int
    put: bytes
    tag: int
    correction: Correction


@dataclass(frozen=True, slots=True)
class DataSetLayout:
    """The top-level structure of one file. Offsets are bytes from the start of the walked bytes."""

    has_preamble: bool
    transfer_syntax_uid: str
    data_set: int
    explicit: bool
    little_endian: bool
    meta: dict[int, Element]
    elements: dict[int, Element]
    pixels: Element | None  # Pixel Data, Float or Double Float Pixel Data.
    end: int  # End of the last element.
    is_odd: bool = False  # A part has no meaning, and other readers may fail on it: see `mending`.
    mends: "tuple[Mend, ...]" = ()  # Corrections made in the copy these bytes come from.

    @property
    def header_end(self) -> int:
        """Return where the header ends: at Pixel Data, else after the last element."""
        return self.pixels.start if self.pixels else self.end

    @property
    def contradiction(self) -> str | None:
        """Say how Pixel Data contradicts the transfer syntax (PS3.5 A.4), None if it does not."""
        pixels, syntax = self.elements.get(PIXEL_DATA), self.transfer_syntax_uid
        if pixels is None or pixels.end == pixels.value:
            return None
        if pixels.undefined_length and syntax in NATIVE:
            return f"its pixels are compressed, and its transfer syntax, {syntax}, is one without compression"
        if not pixels.undefined_length and syntax.startswith(_COMPRESSED):
            return f"its pixels are not compressed, and its transfer syntax, {syntax}, says that they are"
        return None


def text_of(data: Bytes, element: Element | None) -> str:
    """Return an element's value as text without padding, "" if it is absent; never raises."""
    if element is None:
        return ""
    return bytes(data[element.value : element.end]).decode("latin-1").strip(" \0")


def shown(tag: int) -> str:
    """Return a tag as the standard writes it."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def ae_title(value: bytes) -> str:
    """Return the AE title in `value`, "" if there is none.

    A value ends at the first NUL, as it does for programs written in C, or at the first other control
    character: senders fill the 16 bytes from a buffer that still holds what was there before. Blanks around it
    are padding (PS3.5 table 6.2-1). Letters beyond ASCII are no AE title by the standard; they are read as
    UTF-8 where they are that, else as Latin-1, and what cannot be printed becomes `?`.
    """
    value = value.partition(b"\0")[0].strip(b" \t\r\n")
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    text = _CONTROL.split(text, maxsplit=1)[0].strip()
    return "".join(character if character.isprintable() else "?" for character in text)


def lacks_pixels(data: Bytes, layout: DataSetLayout) -> bool:
    """Tell whether native Pixel Data is missing, or shorter or longer than Rows, Columns and the others say.

    An object without Rows is no image; compressed and floating point pixels are not judged.
    """

    def number(tag: int, otherwise: int) -> int:
        element = layout.elements.get(tag)
        value = bytes(data[element.value : element.end]) if element else b""
        return int.from_bytes(value, "little" if layout.little_endian else "big") if value else otherwise

    pixels = layout.pixels
    if layout.transfer_syntax_uid not in NATIVE or not (number(_ROWS, 0) and number(_COLUMNS, 0)):
        return False
    if pixels is None or pixels.tag != PIXEL_DATA or pixels.undefined_length:
        return pixels is None
    is_422 = text_of(data, layout.elements.get(_PHOTOMETRIC)) == "YBR_FULL_422"
    samples = _SAMPLES_OF_422 if is_422 else number(_SAMPLES, 1)
    frames = text_of(data, layout.elements.get(_FRAMES))
    bits = number(_ROWS, 0) * number(_COLUMNS, 0) * samples * number(_BITS, 8)
    described = (bits * (int(frames) if frames.isdecimal() else 1) + 7) // 8
    return pixels.end - pixels.value not in {described, described + described % 2}
