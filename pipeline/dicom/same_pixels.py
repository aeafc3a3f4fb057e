"""Compare the pixels of two instances: the bytes as written if they suffice, otherwise the decoded frames."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.encaps import generate_frames

from pipeline.dicom.decoding import LITTLE_NATIVE, UNDECODABLE, Samples, frames_of
from pipeline.dicom.part10 import PIXEL_DATA, Bytes, DataSetLayout, Element

# The decoder turns these Photometric Interpretations into RGB (PS3.3 C.7.6.3.1.2).
COLOURS = {"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"}


@dataclass(frozen=True, slots=True)
class WrittenPixels:
    """The pixels of one instance as they lie in its file; `header` describes them."""

    header: Dataset
    data: Bytes
    layout: DataSetLayout

    @property
    def element(self) -> Element | None:
        """Return where the pixels lie, None if there are none."""
        return self.layout.pixels

    @property
    def value(self) -> bytes:
        """Return the value of Pixel Data, fragments with their item headers included."""
        assert self.element is not None
        return self.data[self.element.value : self.element.end]

    @property
    def photometric_interpretation(self) -> str:
        """Return Photometric Interpretation."""
        return str(self.header.get("PhotometricInterpretation", "")).strip()

    @property
    def manner(self) -> tuple[str, str, int]:
        """Return the values that decide what the bytes mean, except attributes that are compared separately."""
        syntax = self.layout.transfer_syntax_uid
        little = "little endian" if syntax in LITTLE_NATIVE else syntax
        return little, self.photometric_interpretation, int(self.header.get("PlanarConfiguration") or 0)


def are_same_pixels(one: WrittenPixels, other: WrittenPixels) -> bool:
    """Tell whether two instances, whose other attributes are the same, have the same pixels.

    Raises:
        NotDecoded: the pixels of one cannot be decoded here, and the two are written differently.
    """
    if one.element is None or other.element is None:
        return one.element is other.element
    if one.element.tag != other.element.tag:
        return False
    if one.element.tag != PIXEL_DATA:
        return _words(one) == _words(other)
    meanings = {one.photometric_interpretation, other.photometric_interpretation}
    if len(meanings) > 1 and not meanings <= COLOURS:
        return False
    if one.manner == other.manner and _are_written_alike(one, other):
        return True
    frames, others = (frames_of(side.header, side.data, side.layout) for side in (one, other))
    pairs = zip_longest(frames, others)
    return all(a is not None and b is not None and _are_equal(a, b, one) for a, b in pairs)


def _are_written_alike(one: WrittenPixels, other: WrittenPixels) -> bool:
    """Tell whether the bytes are the same, or the bytes of the frames, however fragments divide them."""
    if one.value == other.value:
        return True
    assert one.element is not None
    if not one.element.undefined_length:
        return one.value.rstrip(b"\0") == other.value.rstrip(b"\0") and abs(len(one.value) - len(other.value)) == 1
    try:
        pairs = list(zip_longest(_compressed(one), _compressed(other)))
    except UNDECODABLE:
        return False
    return all(a == b for a, b in pairs)


def _compressed(side: WrittenPixels) -> Iterator[bytes]:
    frames = int(side.header.get("NumberOfFrames") or 1)
    return (frame.rstrip(b"\0") for frame in generate_frames(side.value, number_of_frames=frames))


def _words(side: WrittenPixels) -> bytes:
    """Return floating-point pixels in little endian."""
    assert side.element is not None
    size = 4 if side.element.tag == 0x7FE00008 else 8  # Float and Double Float Pixel Data
    order = "<" if side.layout.little_endian else ">"
    return np.frombuffer(side.value, f"{order}u{size}").astype(f"<u{size}").tobytes()


def _are_equal(one: Samples, other: Samples, described: WrittenPixels) -> bool:
    if np.array_equal(one, other):
        return True
    return one.shape == other.shape and np.array_equal(_values(one, described), _values(other, described))


def _values(frame: Samples, described: WrittenPixels) -> Samples:
    """Return the numbers in Bits Stored, if only their sign lies above them.

    Compressed samples have no more than these bits; uncompressed samples often have an extended sign.
    """
    header = described.header
    stored = int(header.BitsStored)
    wide: npt.NDArray[Any] = frame.astype(np.int64 if frame.dtype.itemsize > 2 else np.int32)
    if int(header.HighBit) != stored - 1:
        return wide
    low = wide & ((1 << stored) - 1)
    value = low - ((low >> (stored - 1)) << stored) if header.PixelRepresentation else low
    return value if bool(np.all((wide == low) | (wide == value))) else wide
