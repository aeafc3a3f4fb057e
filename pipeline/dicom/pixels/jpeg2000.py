"""Pixel Data as reversible JPEG 2000 codestreams, classic or high-throughput, each proven by decoding it again.

What may be encoded and how it is proven is decided here for every codec of the family (docs/adr/0003); a codec of
`pipeline.dicom.encodings` adds the call of its encoder alone. The main header of a codestream is read as far as
viewers rely on it (ISO/IEC 15444-1 A, 15444-15).
"""

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass

from openjpeg.utils import decode
from pydicom import Dataset
from pydicom.uid import UID

from pipeline.dicom.attributes.elements import numbers_of
from pipeline.dicom.encodings import Encoded, NotEncoded
from pipeline.dicom.pixels.layout import PixelLayout, Samples

MOST_BYTES = 512 * 2**20  # Largest Pixel Data in bytes: it is held in memory together with the frames.
NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"}
ONE_SAMPLE = {"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"}  # PS3.5 table 8.2.4-1
THREE_SAMPLES = {"RGB", "YBR_FULL"}
COLOUR_TRANSFORMED = {"RGB": "YBR_RCT"}  # PS3.3 C.7.6.3.1.2
MOST_OFFSET = 2**32 - 1  # Largest offset in the Basic Offset Table, PS3.5 A.4.
SOC, CAP, SIZ, COD, QCD, SOT, EOC = 0xFF4F, 0xFF50, 0xFF51, 0xFF52, 0xFF5C, 0xFF90, 0xFFD9
COMMENT = 0xFF64
NO_QUANTIZATION = 0  # table A.28, the low five bits
REVERSIBLE_5_3 = 1  # table A.20
HIGH_THROUGHPUT = 0x40  # A code-block style: every block is of 15444-15, none of 15444-1 (15444-15 A.4).
PART_15 = 0x00020000  # The one extension that CAP may announce (15444-15 A.3).
IRREVERSIBLE = 0x0020  # A bit of Ccap15 (15444-15 A.3).
FIRST_COMPONENT = 42  # Offset of its Ssiz: after SOC, the marker and the length of SIZ, and 36 bytes.


@dataclass(frozen=True, slots=True)
class Codec:
    """One member of the family: its transfer syntax, and how it encodes one frame of a layout.

    `encode_frame` raises NotEncoded where the encoder refuses.
    """

    transfer_syntax_uid: str
    encode_frame: Callable[[Samples, PixelLayout], bytes]
    high_throughput: bool = False


@dataclass(frozen=True, slots=True)
class Codestream:
    """What the main header says; `components` are (bits, signed) each."""

    rows: int
    columns: int
    components: tuple[tuple[int, bool], ...]
    reversible: bool
    colour_transform: bool
    high_throughput: bool = False


def why_not(header: Dataset, pixel_length: int, pixel_vr: str | None = None) -> str | None:
    """Tell from the header alone why this instance passes through unchanged, or None if `encode` may try."""
    try:
        _layout(header, pixel_length, pixel_vr)
    except NotEncoded as reason:
        return str(reason)
    return None


def encode(codec: Codec, header: Dataset, pixels: bytes, pixel_vr: str | None = None) -> Encoded:
    """Encode Pixel Data reversibly with `codec`, and prove it by decoding.

    `pixels` is the value as it stands in the file of `header`'s transfer syntax, `pixel_vr` the VR it has there
    (needed for big endian only). Memory: `pixels`, the encoded frames and one decoded frame.

    Raises:
        NotEncoded: the instance passes through unchanged, for this reason. "not reversible:" is the alarm among
            them: encoder and decoder disagree.
    """
    layout = _layout(header, len(pixels), pixel_vr)
    received = layout.unpadded(pixels)
    frames: list[bytes] = []
    offset = 0
    for piece in layout.pieces(layout.in_order(pixels)):
        if layout.fills_unused_bits(piece):
            raise NotEncoded("bits outside Bits Stored are in use")
        frames.append(_proven(codec, piece, layout))
        offset += 8 + len(frames[-1]) + len(frames[-1]) % 2
        if offset > min(MOST_OFFSET, 2 * layout.length + 2**20):
            raise NotEncoded("encoding makes it more than twice as large")
    return Encoded(
        transfer_syntax_uid=codec.transfer_syntax_uid,
        frames=tuple(frames),
        attributes=_following(layout),
        pixel_length=layout.length,
        pixel_md5=hashlib.md5(received, usedforsecurity=False).hexdigest(),
        pixel_sha256=hashlib.sha256(received).hexdigest(),
        pixel_vr=pixel_vr,
    )


def transforms_colour(layout: PixelLayout) -> bool:
    """Tell whether the samples of a frame go through the reversible colour transform."""
    return layout.photometric_interpretation in COLOUR_TRANSFORMED


def _layout(header: Dataset, pixel_length: int, pixel_vr: str | None) -> PixelLayout:
    _check_transfer_syntax(header)
    if "FloatPixelData" in header or "DoubleFloatPixelData" in header:
        raise NotEncoded("floating point pixels")
    if pixel_length <= 0:
        raise NotEncoded("no Pixel Data")
    if pixel_length > MOST_BYTES:
        raise NotEncoded(
            f"Pixel Data of {pixel_length >> 20} MiB is over the {MOST_BYTES >> 20} MiB held in memory"
        )
    _check_nothing_is_tied_to_the_bytes(header)
    layout = PixelLayout.of(header, pixel_vr)
    _check_photometric_interpretation(layout)
    layout.check_length(pixel_length)
    return layout


def _check_transfer_syntax(header: Dataset) -> None:
    uid = UID(str(header.file_meta.get("TransferSyntaxUID", "")))
    if not uid:
        raise NotEncoded("no transfer syntax is given")
    if uid not in NATIVE:
        known = uid.is_transfer_syntax and uid.is_compressed
        raise NotEncoded(f"already encapsulated: {uid.name}" if known else f"unknown transfer syntax {uid}")


def _check_nothing_is_tied_to_the_bytes(header: Dataset) -> None:
    if "MACParametersSequence" in header or "DigitalSignaturesSequence" in header:  # PS3.15 C
        raise NotEncoded("digitally signed")
    groups = {tag >> 16 for tag in numbers_of(header) if tag >> 16 & 0xFF01 == 0x6000}
    if any((group, 0x0102) in header and (group, 0x3000) not in header for group in groups):
        raise NotEncoded("an overlay lies in the unused bits of the pixels")  # PS3.3 C.9.2, retired


def _check_photometric_interpretation(layout: PixelLayout) -> None:
    name = layout.photometric_interpretation
    if name not in (ONE_SAMPLE if layout.samples == 1 else THREE_SAMPLES if layout.samples == 3 else ()):
        raise NotEncoded(f"{name} of {layout.samples} samples per pixel is not carried")
    if layout.signed and name not in {"MONOCHROME1", "MONOCHROME2"}:
        raise NotEncoded(f"signed {name}")  # PS3.5 table 8.2.4-1


def _proven(codec: Codec, piece: memoryview, layout: PixelLayout) -> bytes:
    array = layout.array(piece)
    frame = codec.encode_frame(array, layout)
    try:
        said = read_codestream(frame)
        decoded: Samples = decode(frame, j2k_format=0)
    except (ValueError, RuntimeError) as error:
        raise NotEncoded(f"not reversible: {error}") from error
    if said != _promised(codec, layout):
        raise NotEncoded(f"not reversible: the codestream says {said}")
    if decoded.shape != array.shape or layout.piece(decoded) != bytes(piece):  # a memoryview compares one by one
        raise NotEncoded("not reversible: decoded pixels differ")
    return frame


def _promised(codec: Codec, layout: PixelLayout) -> Codestream:
    return Codestream(
        rows=layout.rows,
        columns=layout.columns,
        components=((layout.bits_stored, layout.signed),) * layout.samples,
        reversible=True,
        colour_transform=transforms_colour(layout),
        high_throughput=codec.high_throughput,
    )


def _following(layout: PixelLayout) -> dict[str, object]:
    if layout.samples == 1:
        return {}
    name = layout.photometric_interpretation
    return {"PhotometricInterpretation": COLOUR_TRANSFORMED.get(name, name), "PlanarConfiguration": 0}


def read_codestream(data: bytes) -> Codestream:
    """Read the main header of a raw codestream (no JP2 boxes, PS3.5 A.4.4).

    Raises:
        ValueError: it is cut, is not one image of one origin without subsampling, or holds a marker that
            changes the meaning of the others.
    """
    if data[-2:] != EOC.to_bytes(2):
        raise ValueError("the codestream does not end")
    try:
        segments = _segments(data)
        rows, columns, components = _siz(segments[SIZ])
        colour_transform, wavelet = segments[COD][4], segments[COD][9]  # table A.12
        quantization = segments[QCD][0] & 0x1F
        high_throughput = _is_high_throughput(segments)
    except (struct.error, LookupError) as error:
        raise ValueError("the main header is cut") from error
    reversible = wavelet == REVERSIBLE_5_3 and quantization == NO_QUANTIZATION
    return Codestream(rows, columns, components, reversible, colour_transform == 1, high_throughput)


def with_precision(data: bytes, bits: int, *, signed: bool) -> bytes:
    """Return the codestream with `bits` for the precision of every component.

    Right only where the samples need no more bits, and unsigned ones were moved from the middle of the narrower
    range to that of the wider one before they were encoded: `read_codestream` and a decoder prove it.
    """
    (count,) = struct.unpack_from(">H", data, FIRST_COMPONENT - 2)
    changed = bytearray(data)
    changed[FIRST_COMPONENT : FIRST_COMPONENT + 3 * count : 3] = bytes([bits - 1 | (signed << 7)]) * count
    return bytes(changed)


def _is_high_throughput(segments: dict[int, bytes]) -> bool:
    """Tell by the style of the code blocks; CAP must say the same, and no other extension.

    Raises ValueError where they differ, or the blocks are of both kinds.
    """
    style, capabilities = segments[COD][8] & 0xC0, segments.get(CAP)
    if capabilities is None and not style:
        return False
    extensions, part_15 = struct.unpack(">IH", capabilities) if capabilities else (0, 0)
    if style != HIGH_THROUGHPUT or extensions != PART_15 or part_15 >> 14 or part_15 & IRREVERSIBLE:
        raise ValueError("the codestream is not what its capabilities say")
    return True


def _segments(data: bytes) -> dict[int, bytes]:
    if data[:2] != SOC.to_bytes(2):
        raise ValueError("the codestream does not begin")
    segments: dict[int, bytes] = {}
    position = 2
    while True:
        marker, length = struct.unpack_from(">HH", data, position)
        if marker == SOT:
            return segments
        if marker not in {CAP, SIZ, COD, QCD, COMMENT}:
            raise ValueError(f"the main header holds marker {marker:04X}")
        segments[marker] = data[position + 4 : position + 2 + length]
        position += 2 + length


def _siz(segment: bytes) -> tuple[int, int, tuple[tuple[int, bool], ...]]:
    columns, rows, left, top, *tile, count = struct.unpack_from(">8IH", segment, 2)  # table A.9
    if (left, top) != (0, 0) or tile[2:] != [0, 0]:
        raise ValueError("the image does not begin at its origin")
    components = [segment[at : at + 3] for at in range(36, 36 + 3 * count, 3)]
    if any(component[1:] != b"\x01\x01" for component in components):
        raise ValueError("components are subsampled")
    return rows, columns, tuple(((c[0] & 0x7F) + 1, c[0] >= 0x80) for c in components)
