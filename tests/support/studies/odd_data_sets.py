"""Data sets as machines write them and the standard does not, as bytes: one oddity each, all else in order."""

import struct

import imagecodecs
import numpy as np
from support.hostile.hostile_files import EXPLICIT, IMPLICIT, UNDEFINED, element, part10

SOP = "1.2.826.0.1.3680043.8.498.7"
JPEG_LS, JPEG_2000, RLE = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"
PIXELS = (np.arange(64, dtype="u1") * 3).reshape(8, 8)
FRAME = bytes(imagecodecs.jpegls_encode(PIXELS)).rstrip(b"\0")
assert np.array_equal(imagecodecs.jpegls_decode(FRAME), PIXELS)
ODD_FRAME = FRAME if len(FRAME) % 2 else b"\xff\xd8\xff\xfe\x00\x03x" + FRAME[2:]  # with a comment of one byte
EVEN_FRAME = ODD_FRAME + b"\0"
ITEM, ITEM_END, SEQUENCE_END = 0xE000, 0xE00D, 0xE0DD


def mark(number: int, length: int = 0) -> bytes:
    return struct.pack("<HHI", 0xFFFE, number, length)


def implicit(tag: int, value: bytes) -> bytes:
    value += b" " * (len(value) % 2)
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value


def with_vr(tag: int, vr: bytes, value: bytes, *, long: bool = False) -> bytes:
    """Return an element whose VR may be none, with a length of 16 bits or, behind two zeros, of 32."""
    length = struct.pack("<HI", 0, len(value)) if long else struct.pack("<H", len(value))
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr + length + value


def file_of(
    *more: bytes,
    syntax: str = EXPLICIT,
    first: bytes = b"",
    pixels: bytes = element(0x7FE00010, b"OB", bytes(64)),
    last: bytes = b"",
    frames: int = 1,
    sop: str = SOP,
) -> bytes:
    """Return a file whose elements `more` stand in the order of their tags among those of a small image."""
    known = {
        0x00080016: (b"UI", b"1.2.840.10008.5.1.4.1.1.7"),
        0x00080018: (b"UI", sop.encode()),
        0x00080060: (b"CS", b"OT"),
        0x00100010: (b"PN", b"ROE^RICHARD "),
        0x00100020: (b"LO", b"P-0815"),
        0x0020000D: (b"UI", f"{sop}.1".encode()),
        0x0020000E: (b"UI", f"{sop}.2".encode()),
        0x00280002: (b"US", b"\1\0"),
        0x00280004: (b"CS", b"MONOCHROME2 "),
        0x00280008: (b"IS", str(frames).encode()),
        0x00280010: (b"US", b"\x08\0"),
        0x00280011: (b"US", b"\x08\0"),
        0x00280100: (b"US", b"\x08\0"),
        0x00280101: (b"US", b"\x08\0"),
        0x00280102: (b"US", b"\x07\0"),
        0x00280103: (b"US", b"\0\0"),
    }
    make = (lambda tag, _, value: implicit(tag, value)) if syntax == IMPLICIT else element
    parts = {tag: make(tag, vr, value) for tag, (vr, value) in known.items()}
    for one in more:
        group, number = struct.unpack_from("<HH", one)
        parts[group << 16 | number] = one
    if syntax == IMPLICIT:
        pixels = pixels[:4] + pixels[8:]
    return part10(first + b"".join(parts[tag] for tag in sorted(parts)) + pixels + last, sop, syntax=syntax)


def fragments(*pieces: bytes, end: bytes = mark(SEQUENCE_END)) -> bytes:
    items = b"".join(mark(ITEM, len(piece)) + piece for piece in (b"", *pieces))
    return struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, UNDEFINED) + items + end


def sequence(tag: int, vr: bytes, content: bytes, *, known: bool) -> bytes:
    """Return a sequence of undefined length with one item."""
    item = mark(ITEM, len(content)) + content if known else mark(ITEM, UNDEFINED) + content + mark(ITEM_END)
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, UNDEFINED) + item + mark(SEQUENCE_END)
