"""Read the main header of a JPEG 2000 codestream, as far as viewers rely on it (ISO/IEC 15444-1 A, 15444-15)."""

import struct
from dataclasses import dataclass

SOC, CAP, SIZ, COD, QCD, SOT, EOC = 0xFF4F, 0xFF50, 0xFF51, 0xFF52, 0xFF5C, 0xFF90, 0xFFD9
COMMENT = 0xFF64
NO_QUANTIZATION = 0  # table A.28, the low five bits
REVERSIBLE_5_3 = 1  # table A.20
HIGH_THROUGHPUT = 0x40  # of the code-block style: every block is of 15444-15, none of 15444-1 (there, A.4)
PART_15 = 0x00020000  # the one extension CAP may announce (there, A.3)
IRREVERSIBLE = 0x0020  # of Ccap15
FIRST_COMPONENT = 42  # offset of its Ssiz in a codestream: after SOC, marker and length of SIZ, and 36 bytes


@dataclass(frozen=True, slots=True)
class Codestream:
    """What the main header says; `components` are (bits, signed) each."""

    rows: int
    columns: int
    components: tuple[tuple[int, bool], ...]
    reversible: bool
    colour_transform: bool
    high_throughput: bool = False


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
        high_throughput = _is_high_throughput(segments)
    except (struct.error, LookupError) as error:
        raise ValueError("the main header is cut") from error
    reversible = wavelet == REVERSIBLE_5_3 and quantization == NO_QUANTIZATION
    return Codestream(rows, columns, components, reversible, colour_transform == 1, high_throughput)


def with_precision(data: bytes, bits: int, *, signed: bool) -> bytes:
    """Return the codestream with `bits` for the precision of every component.

    Right only where the samples need no more bits, and unsigned ones were moved from the middle of the narrower
    range to that of the wider one before they were encoded: `read` and a decoder prove it.
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
