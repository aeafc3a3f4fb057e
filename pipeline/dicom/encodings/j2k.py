"""encode = "j2k": JPEG 2000 lossless, 1.2.840.10008.1.2.4.90 (docs/adr/0003)."""

from imagecodecs import Jpeg2kError, jpeg2k_encode
from pydicom import Dataset
from pydicom.uid import JPEG2000Lossless

from pipeline.dicom.encodings import Encoded, NotEncoded
from pipeline.dicom.pixels import jpeg2000
from pipeline.dicom.pixels.jpeg2000 import transforms_colour, why_not
from pipeline.dicom.pixels.layout import PixelLayout, Samples

__all__ = ["TRANSFER_SYNTAX_UID", "encode", "why_not"]

TRANSFER_SYNTAX_UID = JPEG2000Lossless


def encode(header: Dataset, pixels: bytes, pixel_vr: str | None = None) -> Encoded:
    """Encode with OpenJPEG, proven by another build of it; see `jpeg2000.encode` for what it takes and raises."""
    return jpeg2000.encode(CODEC, header, pixels, pixel_vr)


def _frame(array: Samples, layout: PixelLayout) -> bytes:
    try:
        return bytes(
            jpeg2k_encode(
                array,
                level=0,
                codecformat="J2K",
                reversible=True,
                bitspersample=layout.bits_stored,
                mct=transforms_colour(layout),
                numthreads=1,
            )
        )
    except Jpeg2kError as error:
        raise NotEncoded(f"the encoder refused: {error}") from error


CODEC = jpeg2000.Codec(TRANSFER_SYNTAX_UID, _frame)
