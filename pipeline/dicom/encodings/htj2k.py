"""encode = "htj2k": High-Throughput JPEG 2000 lossless, 1.2.840.10008.1.2.4.201 (docs/adr/0003)."""

import numpy as np
from imagecodecs import Htj2kError, htj2k_encode
from pydicom import Dataset
from pydicom.uid import HTJ2KLossless

from pipeline.dicom.encodings import Encoded, NotEncoded
from pipeline.dicom.pixels import jpeg2000
from pipeline.dicom.pixels.jpeg2000 import transforms_colour, why_not
from pipeline.dicom.pixels.layout import PixelLayout, Samples

__all__ = ["TRANSFER_SYNTAX_UID", "encode", "why_not"]

TRANSFER_SYNTAX_UID = HTJ2KLossless


def encode(header: Dataset, pixels: bytes, pixel_vr: str | None = None) -> Encoded:
    """Encode with OpenJPH, proven by OpenJPEG; see `jpeg2000.encode` for what it takes and raises."""
    return jpeg2000.encode(CODEC, header, pixels, pixel_vr)


def _frame(array: Samples, layout: PixelLayout) -> bytes:
    """Encode one frame in Bits Stored bits, which the encoder takes from the width of the array's type.

    The encoder takes the distance of an unsigned sample from the middle of the range (ISO/IEC 15444-1 G.1). So the
    samples are moved to the middle of the wider range, and the header of the codestream gets the narrower one.
    """
    bits_missing = layout.bits_allocated - layout.bits_stored
    if bits_missing and not layout.signed:
        array = np.add(array, (1 << layout.bits_allocated - 1) - (1 << layout.bits_stored - 1), dtype=array.dtype)
    try:
        frame = bytes(htj2k_encode(array, reversible=True, rgb=transforms_colour(layout)))
    except Htj2kError as error:
        raise NotEncoded(f"the encoder refused: {error}") from error
    return jpeg2000.with_precision(frame, layout.bits_stored, signed=layout.signed) if bits_missing else frame


CODEC = jpeg2000.Codec(TRANSFER_SYNTAX_UID, _frame, high_throughput=True)
