"""Decode JPEG and JPEG-LS frames for pydicom by imagecodecs, to the same bytes as DCMTK."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
from imagecodecs import jpeg8_decode, jpegls_decode
from pydicom.pixels.decoders.base import DecodeRunner
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

Samples = npt.NDArray[np.generic]

JPEG_LOSSY = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit})
JPEG = JPEG_LOSSY | {JPEGLossless, JPEGLosslessSV1}
JPEG_LS = frozenset({JPEGLSLossless, JPEGLSNearLossless})
DECODER_DEPENDENCIES: Mapping[UID, tuple[str, ...]] = dict.fromkeys(JPEG | JPEG_LS, ("imagecodecs",))

_APP0, _APP14, _SOS, _COD, _SOT = 0xE0, 0xEE, 0xDA, 0x52, 0x90  # ITU-T T.81 table B.1, T.800 table A.2
_MAY_BE_LOSSY = {JPEG2000, HTJ2K}
_YBR = {"YBR_FULL", "YBR_FULL_422"}


def is_available(uid: str) -> bool:
    """Tell pydicom which transfer syntaxes this module decodes."""
    return uid in DECODER_DEPENDENCIES


def decode_frame(frame: bytes, runner: DecodeRunner) -> bytes:
    """Return one frame, colour by pixel, in words as narrow as its samples.

    Frames of lossy processes become RGB, as most readers of uncompressed pixels expect. The caller must then set
    Photometric Interpretation, because a value set here would be taken for the encoding of the next frame. Raises
    ValueError if frame and data set contradict each other.
    """
    array = jpegls_decode(frame) if runner.transfer_syntax in JPEG_LS else _jpeg(frame, runner)
    shape = (runner.rows, runner.columns) + ((runner.samples_per_pixel,) if runner.samples_per_pixel > 1 else ())
    if array.shape != shape:
        raise ValueError(f"a frame is {array.shape}, and Rows, Columns, Samples per Pixel say {shape}")
    bits = 8 * array.dtype.itemsize
    if bits < runner.bits_allocated and runner.pixel_representation:
        raise ValueError(f"nothing says which of {bits} bits is the sign of {runner.bits_allocated}")
    runner.set_option("bits_allocated", bits)
    runner.set_option("planar_configuration", 0)
    return array.tobytes()


def _jpeg(frame: bytes, runner: DecodeRunner) -> Samples:
    if runner.samples_per_pixel == 1:
        gray: Samples = jpeg8_decode(frame)
        return gray
    # The encoder wrote this; Photometric Interpretation often still describes the pixels before encoding.
    said = _colours_said(frame)
    is_ybr = runner.photometric_interpretation in _YBR if said is None else said
    inside = "YCBCR" if is_ybr else "RGB"
    becomes_rgb = runner.transfer_syntax in JPEG_LOSSY
    colours: Samples = jpeg8_decode(frame, colorspace=inside, outcolorspace="RGB" if becomes_rgb else inside)
    return colours


def _colours_said(frame: bytes) -> bool | None:
    """Tell whether markers before the first scan say YCbCr (ITU-T T.871, Adobe TN 5116); None if none says."""
    said: bool | None = None
    for marker, segment in _segments(frame):
        if marker == _APP14 and segment.startswith(b"Adobe"):
            return segment[11:12] == b"\x01"
        if marker == _APP0 and segment.startswith(b"JFIF\0"):
            said = True
    return said


def is_lossy(frame: bytes, transfer_syntax_uid: str) -> bool:
    """Tell whether a frame says that it is lossy, if its transfer syntax allows lossless and lossy.

    A JPEG 2000 codestream with the reversible wavelet may have been truncated; no marker shows that.
    """
    if transfer_syntax_uid in JPEG_LOSSY:
        return True
    segments = dict(_segments(frame))
    if transfer_syntax_uid == JPEGLSNearLossless:
        scan = segments.get(_SOS, b"")
        return scan[1 + 2 * scan[0] : 2 + 2 * scan[0]] > b"\0" if scan else False  # NEAR, ITU-T T.87 C.2.3
    return transfer_syntax_uid in _MAY_BE_LOSSY and segments.get(_COD, b"")[9:10] == b"\0"  # the 9-7 wavelet


def _segments(frame: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of each segment up to the first scan; the three families share this syntax."""
    at = 2
    while at + 4 <= len(frame) and frame[at] == 0xFF:
        marker, length = frame[at + 1], int.from_bytes(frame[at + 2 : at + 4], "big")
        yield marker, frame[at + 4 : at + 2 + length]
        if marker in {_SOS, _SOT}:
            return
        at += 2 + length


def plugin_for(transfer_syntax_uid: str) -> str:
    """Return which of pydicom's plug-ins decodes, so that an instance gives the same bytes on every machine."""
    if transfer_syntax_uid in DECODER_DEPENDENCIES:
        return "imagecodecs"
    return "pydicom" if transfer_syntax_uid == RLELossless else "pylibjpeg"
