"""Read the main header of a JPEG 2000 codestream, as far as viewers rely on it (ISO/IEC 15444-1 Annex A)."""

import struct
from dataclasses import dataclass

SOC, SIZ, COD, QCD, SOT, EOC = 0xFF4F, 0xFF51, 0xFF52, 0xFF5C, 0xFF90, 0xFFD9
COMMENT = 0xFF64
NO_QUANTIZATION = 0  # table A.28, the low five bits
REVERSIBLE_5_3 = 1  # table A.20


@dataclass(frozen=True, slots=True)
class Codestream:
    """What the main header says; `components` are (bits, signed) each."""

    rows: int
    columns: int
    components: tuple[tuple[int, bool], ...]
    reversible: bool
    colour_transform: bool


def read(data: bytes) -> Codestream:
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
    except (struct.error, LookupError) as error:
        raise ValueError("the main header is cut") from error
    reversible = wavelet == REVERSIBLE_5_3 and quantization == NO_QUANTIZATION
    return Codestream(rows, columns, components, reversible, colour_transform == 1)


def _segments(data: bytes) -> dict[int, bytes]:
    if data[:2] != SOC.to_bytes(2):
        raise ValueError("the codestream does not begin")
    segments: dict[int, bytes] = {}
    position = 2
    while True:
        marker, length = struct.unpack_from(">HH", data, position)
        if marker == SOT:
            return segments
        if marker not in {SIZ, COD, QCD, COMMENT}:
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
