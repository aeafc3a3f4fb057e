"""Describe how Pixel Data lies in its data set, from the header, and check it against the real length."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.errors import BytesLengthException
from pydicom.uid import ExplicitVRBigEndian

from pipeline.dicom.attributes.elements import element_of
from pipeline.dicom.encodings import NotEncoded

Samples = npt.NDArray[np.generic]

# pydicom raises these for a value that its VR does not allow.
UNREADABLE = (BytesLengthException, ValueError, TypeError, OverflowError, NotImplementedError)
_KEYWORDS = (
    *("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PlanarConfiguration", "PhotometricInterpretation"),
)
_TAGS = {keyword: tag_for_keyword(keyword) or 0 for keyword in _KEYWORDS}
_VRS = {keyword: dictionary_VR(tag) for keyword, tag in _TAGS.items()}
_ONE_WORD = re.compile(rb"[A-Z0-9_ ]+")
LARGEST_ROWS = 65535  # Rows and Columns are US, PS3.5 6.2; a codestream could hold more.


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """The layout of native Pixel Data (PS3.5 8.1.1, 8.2).

    `big_endian`: samples of 16 bits have the high byte first. `swapped`: samples of 8 bits lie in 16-bit words
    with the high byte first (VR OW in big endian), so that neighbours have changed places.
    """

    rows: int
    columns: int
    samples: int
    frames: int
    bits_allocated: int  # 8 or 16
    bits_stored: int
    signed: bool
    photometric_interpretation: str
    planar: bool  # colour by plane
    big_endian: bool
    swapped: bool

    @classmethod
    def of(cls, header: Dataset, pixel_vr: str | None) -> "PixelLayout":
        """Read the layout from `header`.

        Raises:
            NotEncoded: an attribute is missing or absurd, or describes a layout that is not supported.
        """
        bits_allocated = _bits_allocated(header)
        bits_stored = _bits_stored(header, bits_allocated)
        samples = _number(header, "SamplesPerPixel", at_most=3)
        big_endian = header.file_meta.get("TransferSyntaxUID") == ExplicitVRBigEndian
        if big_endian and pixel_vr not in ({"OB", "OW"} if bits_allocated == 8 else {"OW"}):
            # Nothing says whether the bytes of 16-bit samples in OB were swapped: both kinds exist.
            raise NotEncoded(
                f"big endian Pixel Data of {bits_allocated}-bit samples in VR {pixel_vr or 'unknown'}"
            )
        return cls(
            rows=_number(header, "Rows", at_most=LARGEST_ROWS),
            columns=_number(header, "Columns", at_most=LARGEST_ROWS),
            samples=samples,
            frames=_number(header, "NumberOfFrames", at_most=2**31 - 1, missing=1),
            bits_allocated=bits_allocated,
            bits_stored=bits_stored,
            signed=_number(header, "PixelRepresentation", at_least=0, at_most=1) == 1,
            photometric_interpretation=_photometric_interpretation(header),
            planar=samples > 1 and _number(header, "PlanarConfiguration", at_least=0, at_most=1) == 1,
            big_endian=big_endian and bits_allocated == 16,
            swapped=big_endian and bits_allocated == 8 and pixel_vr == "OW",
        )

    @property
    def frame_length(self) -> int:
        """Return the length of one frame in bytes."""
        return self.rows * self.columns * self.samples * self.bits_allocated // 8

    @property
    def length(self) -> int:
        """Return the length of all frames in bytes, without the padding byte of an odd length."""
        return self.frame_length * self.frames

    def check_length(self, pixel_length: int) -> None:
        """Refuse a value that is longer or shorter than the frames the header promises and a padding byte.

        Raises:
            NotEncoded: frames are missing, or encoding would drop bytes that no attribute describes.
        """
        padded = self.length + self.length % 2
        if pixel_length != padded and (self.swapped or pixel_length != self.length):
            raise NotEncoded(f"Pixel Data is {pixel_length} bytes, its attributes describe {self.length}")

    def unpadded(self, pixels: bytes) -> bytes:
        """Return the value without its padding byte; in swapped words the padding is the last byte but one."""
        if len(pixels) == self.length:
            return pixels
        return pixels[:-2] + pixels[-1:] if self.swapped else pixels[: self.length]

    def in_order(self, pixels: bytes) -> memoryview:
        """Return the value in natural order, with swapped words undone, so that frames can be cut from it."""
        if self.swapped:
            pixels = np.frombuffer(pixels, "<u2").byteswap().tobytes()
        return memoryview(pixels)[: self.length]

    def pieces(self, pixels: memoryview) -> Iterator[memoryview]:
        """Cut Pixel Data, in order, into frames."""
        return (pixels[start : start + self.frame_length] for start in range(0, self.length, self.frame_length))

    def array(self, piece: memoryview) -> Samples:
        """Return one frame as (rows, columns) or (rows, columns, samples) in this machine's byte order."""
        values = np.frombuffer(piece, self._received_type)
        if self.samples == 1:
            values = values.reshape(self.rows, self.columns)
        elif self.planar:
            values = values.reshape(self.samples, self.rows, self.columns).transpose(1, 2, 0)
        else:
            values = values.reshape(self.rows, self.columns, self.samples)
        return np.ascontiguousarray(values, self._received_type.newbyteorder("="))

    def piece(self, array: Samples) -> bytes:
        """Return the bytes of one frame as received: the inverse of `array`."""
        if self.planar:
            array = np.moveaxis(array, -1, 0)
        return array.astype(self._received_type).tobytes()

    def fills_unused_bits(self, piece: memoryview) -> bool:
        """Tell whether the bits above Bits Stored hold more than the sign.

        Encoding would lose them (PS3.5 8.1.1).
        """
        if self.bits_stored == self.bits_allocated:
            return False
        values = np.frombuffer(piece, self._received_type)
        low = -(1 << self.bits_stored - 1) if self.signed else 0
        return int(values.min()) < low or int(values.max()) >= low + (1 << self.bits_stored)

    @property
    def _received_type(self) -> np.dtype[np.generic]:
        order = ">" if self.big_endian else "<"
        return np.dtype(f"{order}{'i' if self.signed else 'u'}{self.bits_allocated // 8}")


def _bits_allocated(header: Dataset) -> int:
    bits = _number(header, "BitsAllocated", at_most=64)
    if bits not in {8, 16}:
        raise NotEncoded(f"{bits}-bit pixels")
    return bits


def _bits_stored(header: Dataset, bits_allocated: int) -> int:
    bits = _number(header, "BitsStored", at_most=bits_allocated)
    if _number(header, "HighBit", at_least=0, at_most=63) != bits - 1:
        raise NotEncoded("High Bit is not Bits Stored - 1")  # PS3.5 8.1.1 has not allowed it since 2011
    if bits <= 8 < bits_allocated:
        raise NotEncoded("at most 8 of 16 bits are stored, and decoders disagree about that")  # docs/adr/0003
    return bits


def _photometric_interpretation(header: Dataset) -> str:
    text = _value(header, "PhotometricInterpretation")
    if not isinstance(text, str) or not text.strip():
        raise NotEncoded("Photometric Interpretation is missing or not one word")
    return text.strip()


def _number(header: Dataset, keyword: str, *, at_least: int = 1, at_most: int, missing: int | None = None) -> int:
    value = _value(header, keyword)
    if missing is not None and value in (None, ""):
        return missing
    if not isinstance(value, int) or not at_least <= value <= at_most:
        raise NotEncoded(f"{keyword} is missing or absurd")
    return int(value)


def _value(header: Dataset, keyword: str) -> object:
    element = element_of(header, _TAGS[keyword])
    if isinstance(element, RawDataElement) and element.VR in {_VRS[keyword], None}:
        # As pydicom would decode it, which takes ten times as long, and as long again when the header is written.
        value = element.value or b""
        if _VRS[keyword] == "US" and len(value) == 2:
            return int.from_bytes(value, "little" if element.is_little_endian else "big")
        if _VRS[keyword] == "CS" and _ONE_WORD.fullmatch(value):
            return value.decode("ascii")
    try:
        return header.get(keyword)
    except UNREADABLE:
        return None
