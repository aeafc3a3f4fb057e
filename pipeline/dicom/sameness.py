"""Compare two files as a radiologist would mean it: the same attributes and, decoded, the same pixels."""

import errno
from itertools import zip_longest
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.errors import BytesLengthException
from pydicom.pixels.utils import iter_pixels

from pipeline.dicom.reading import dcmread

LARGEST = 512 << 20  # bytes of a file, or of a frame, that is compared; larger ones count as different
# What pydicom and the decoders raise for attributes and pixels that make no sense.
UNREADABLE = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    BytesLengthException,
)
OF_THE_CONTENT = {None, errno.EINVAL, errno.EOVERFLOW}  # pydicom's own, and what seeking to nonsense raises
FOLLOW_THE_ENCODING = frozenset(
    {
        0x00280004,  # Photometric Interpretation
        0x00280006,  # Planar Configuration
        0x7FE00001,  # Extended Offset Table
        0x7FE00002,  # Extended Offset Table Lengths
        0x7FE00010,  # Pixel Data
    }
)


def are_same(pair: tuple[Path, Path]) -> bool:
    """Tell whether two files hold the same instance, whatever transfer syntax each is in.

    Whatever cannot be read or decoded counts as different: then both are kept and a person decides.
    Raises OSError where a file is not there, or the disk cannot be read now: that says nothing of the instance.
    """
    if any(path.stat().st_size > LARGEST for path in pair):
        return False
    try:
        one, other = (dcmread(path, force=True) for path in pair)
        return _attributes(one) == _attributes(other) and _same_pixels(one, other)
    except OSError as error:
        if error.errno not in OF_THE_CONTENT:
            raise
        return False
    except (*UNREADABLE, EOFError, MemoryError):
        return False


def _attributes(data_set: Dataset) -> Dataset:
    kept = Dataset()
    for element in data_set:
        is_group_length = element.tag.element == 0
        if element.tag not in FOLLOW_THE_ENCODING and not is_group_length:
            kept.add(element)
    return kept


def _same_pixels(one: Dataset, other: Dataset) -> bool:
    if "PixelData" not in one and "PixelData" not in other:
        return True
    if max(_pixel_bytes(one), _pixel_bytes(other)) > LARGEST:
        return False
    frames = zip_longest(iter_pixels(one), iter_pixels(other))
    return all(a is not None and b is not None and np.array_equal(a, b) for a, b in frames)


def _pixel_bytes(data_set: Dataset) -> int:
    """Return how large one frame says that it is, decoded."""
    samples = data_set.Rows * data_set.Columns * data_set.get("SamplesPerPixel", 1)
    return int(samples) * int(data_set.BitsAllocated) // 8
