"""Make one small picture for each series, so that a person sees what is on the disc.

The page with the pictures says that they are not for diagnosis.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.pixels.utils import pixel_array

from pipeline.dicom.pydicom_reading import dcmread
from pipeline.disc.model import EXPLICIT, SeriesUIDs
from pipeline.disc.objects.arrangement import PatientNode, series_of
from pipeline.errors import Permanent
from pipeline.processes.limits import to_encode
from pipeline.processes.process_pool import ProcessPool

SIDE = 160  # Pixels of the longer side.
_QUALITY = 80
_FLAT = 4.0  # A standard deviation of grey values below this shows nothing.
_INVERTED, _PALETTE = "MONOCHROME1", "PALETTE COLOR"

# pydicom, numpy and Pillow raise these for malformed or unknown objects.
UNSHOWABLE = (ValueError, TypeError, RuntimeError, AttributeError, LookupError, ArithmeticError, OSError)

Samples = npt.NDArray[np.generic]


class NoPicture(Permanent):
    """Say that an object shows nothing that could be a picture."""


@dataclass(frozen=True, slots=True)
class ThumbnailTask:
    """The file of the object to show."""

    path: Path


def thumbnail(task: ThumbnailTask) -> bytes:
    """Return a JPEG of the middle frame of an object, of at most SIDE by SIDE pixels. One frame is in memory.

    Raises:
        NoPicture: the object has no picture, or a malformed one.
    """
    try:
        return _thumbnail(task)
    except UNSHOWABLE as error:
        raise NoPicture(type(error).__name__) from error


def _thumbnail(task: ThumbnailTask) -> bytes:
    header = dcmread(task.path, stop_before_pixels=True)
    if "Rows" not in header or "Columns" not in header:
        raise NoPicture("no rows and columns")
    frames = int(header.get("NumberOfFrames") or 1)
    pixels = pixel_array(task.path, index=frames // 2)
    step = max(1, max(pixels.shape[:2]) // (4 * SIDE))  # Scaling discards the other pixels anyway.
    shown = _shown(pixels[::step, ::step], header)
    picture = Image.fromarray(shown)
    picture.thumbnail((SIDE, SIDE))
    target = BytesIO()
    picture.save(target, "JPEG", quality=_QUALITY)
    return target.getvalue()


def _shown(pixels: Samples, header: Dataset) -> npt.NDArray[np.uint8]:
    """Return pixels as a screen would show them: 8 bits, by the first window or the whole range."""
    if header.SamplesPerPixel > 1:
        return _eight_bits(pixels, 0, (1 << int(header.BitsStored)) - 1)
    if header.PhotometricInterpretation == _PALETTE:
        coloured = apply_color_lut(pixels, header)
        return _eight_bits(coloured, 0, float(np.iinfo(coloured.dtype).max))
    values = apply_modality_lut(pixels, header)
    grey = _eight_bits(values, *_window(header, values))
    if grey.std() < _FLAT:  # The window shows nothing, so it is meant for other values.
        grey = _eight_bits(values, *_nearly_all(values))
    return 255 - grey if header.PhotometricInterpretation == _INVERTED else grey


def _window(header: Dataset, values: Samples) -> tuple[float, float]:
    """Return the values for black and white: the object's first window, otherwise nearly the whole range."""
    center, width = (_first(header.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    if center is not None and width is not None and width > 1:
        return center - width / 2, center + width / 2  # PS3.3 C.11.2.1.2
    return _nearly_all(values)


def _nearly_all(values: Samples) -> tuple[float, float]:
    low, high = np.percentile(values.astype(np.float64), (0.5, 99.5))
    return float(low), float(high)


def _first(value: object) -> float | None:
    if isinstance(value, MultiValue):
        value = value[0] if value else None
    return None if value in {None, ""} else float(str(value))


def _eight_bits(values: Samples, low: float, high: float) -> npt.NDArray[np.uint8]:
    scale = 255 / (high - low) if high > low else 0.0
    scaled = np.clip((values.astype(np.float64) - low) * scale, 0, 255)
    return scaled.astype(np.uint8)


def pictures(patients: Sequence[PatientNode], pool: ProcessPool) -> dict[SeriesUIDs, bytes]:
    """Return a picture of the middle object of every series that has one; the page says where one is missing.

    Compressed pixels are decoded in the pool's processes, so that no codec can end this one.
    """
    found: dict[SeriesUIDs, bytes] = {}
    compressed: dict[SeriesUIDs, ThumbnailTask] = {}
    for series in series_of(patients):
        middle = series.objects[len(series.objects) // 2].entry
        uids, task = (middle.key.study_instance_uid, middle.key.series_instance_uid), ThumbnailTask(middle.path)
        if middle.kind != "IMAGE":
            continue
        if middle.transfer_syntax_uid != EXPLICIT:
            compressed[uids] = task
        elif picture := _native(task):
            found[uids] = picture
    outcomes = pool.each(thumbnail, compressed.values(), lambda task: to_encode(task.path))
    decoded = zip(compressed, outcomes, strict=True)
    return found | {uids: picture for uids, (_, picture) in decoded if isinstance(picture, bytes)}


def _native(task: ThumbnailTask) -> bytes | None:
    try:
        return thumbnail(task)
    except NoPicture:
        return None
