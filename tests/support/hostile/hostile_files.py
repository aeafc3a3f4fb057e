"""Make the files an attacker would send: tiny on the wire, enormous or endless for whoever believes them."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from support.sites.receiving import ROOT

EXPLICIT, IMPLICIT, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"
UNDEFINED = 0xFFFFFFFF
LONG = {b"OB", b"OW", b"UN", b"SQ", b"UT", b"UC"}
SEQUENCE = 0x00400275  # Request Attributes Sequence


def element(tag: int, vr: bytes, value: bytes, *, length: int | None = None) -> bytes:
    """Return an Explicit VR LE element, whose length may lie."""
    value += b"\0" * (len(value) % 2)
    size = len(value) if length is None else length
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    return head + (struct.pack("<HI", 0, size) if vr in LONG else struct.pack("<H", size)) + value


def part10(data_set: bytes, sop: str, *, syntax: str = EXPLICIT) -> bytes:
    meta = (
        element(0x00020001, b"OB", b"\0\1")
        + element(0x00020002, b"UI", b"1.2.840.10008.5.1.4.1.1.2")
        + element(0x00020003, b"UI", sop.encode())
        + element(0x00020010, b"UI", syntax.encode())
        + element(0x00020012, b"UI", ROOT.encode())
    )
    return b"\0" * 128 + b"DICM" + element(0x00020000, b"UL", struct.pack("<I", len(meta))) + meta + data_set


def image(
    sop: str,
    *,
    rows: bytes = b"US\x02\0\x04\0",
    columns: bytes = b"US\x02\0\x04\0",
    before_pixels: bytes = b"",
    pixels: bytes | None = None,
) -> bytes:
    """Return a 4 x 4 CT; `rows` and `columns` are VR, length and value as they stand."""
    return (
        element(0x00080016, b"UI", b"1.2.840.10008.5.1.4.1.1.2")
        + element(0x00080018, b"UI", sop.encode())
        + element(0x00080060, b"CS", b"CT")
        + element(0x00100010, b"PN", b"DOE^JANE")
        + element(0x00100020, b"LO", b"4711")
        + element(0x0020000D, b"UI", f"{ROOT}.1".encode())
        + element(0x0020000E, b"UI", f"{ROOT}.3".encode())
        + element(0x00280002, b"US", struct.pack("<H", 1))
        + element(0x00280004, b"CS", b"MONOCHROME2 ")
        + struct.pack("<HH", 0x0028, 0x0010)
        + rows
        + struct.pack("<HH", 0x0028, 0x0011)
        + columns
        + element(0x00280100, b"US", struct.pack("<H", 8))
        + element(0x00280101, b"US", struct.pack("<H", 8))
        + element(0x00280102, b"US", struct.pack("<H", 7))
        + element(0x00280103, b"US", struct.pack("<H", 0))
        + before_pixels
        + (element(0x7FE00010, b"OB", bytes(16)) if pixels is None else pixels)
    )


def nested(depth: int, *, defined: bool) -> bytes:
    """Return a sequence of one item of a sequence of one item …"""
    if not defined:
        opening = element(SEQUENCE, b"SQ", b"", length=UNDEFINED) + struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED)
        closing = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        return opening * depth + closing * depth
    heads, size = [], 0
    for _ in range(depth):  # from the innermost outwards
        heads.append(struct.pack("<HHI", 0xFFFE, 0xE000, size))
        heads.append(element(SEQUENCE, b"SQ", b"", length=size + 8))
        size += 20
    return b"".join(reversed(heads))


def numeric(vr: bytes, value: bytes) -> bytes:
    return vr + struct.pack("<H", len(value)) + value


def deflated(data_set: bytes, filler: int) -> bytes:
    """Return `data_set` followed by an element of `filler` zeros (whole MiB), deflated to a thousandth."""
    deflator = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = data_set + struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, filler & 0xFFFFFFFF)
    first = deflator.compress(head) + deflator.flush(zlib.Z_FULL_FLUSH)
    mebibyte = deflator.compress(bytes(1 << 20)) + deflator.flush(zlib.Z_FULL_FLUSH)  # as good as any other
    return first + mebibyte * (filler >> 20) + deflator.flush()


def hostile(folder: Path) -> dict[str, Path]:
    """Write every hostile file, each under UIDs of its own, and return them by what is wrong with them."""
    makers: dict[str, Callable[[str], bytes]] = {
        "a deflated data set that inflates to 3 GiB": lambda sop: part10(
            deflated(image(sop), 3 << 30), sop, syntax=DEFLATED
        ),
        "a deflated data set with more behind the end of its stream": lambda sop: part10(
            deflated(image(sop), 8 << 20) + b"what follows" * 1000, sop, syntax=DEFLATED
        ),
        "sequences 65535 deep, of undefined length": lambda sop: part10(
            image(sop, before_pixels=nested(65_535, defined=False)), sop
        ),
        "sequences 65535 deep, of defined length": lambda sop: part10(
            image(sop, before_pixels=nested(65_535, defined=True)), sop
        ),
        "Pixel Data that claims 4 GiB": lambda sop: part10(
            image(sop, pixels=element(0x7FE00010, b"OW", bytes(16), length=0xFFFFFFFE)), sop
        ),
        "a sequence that claims 4 GiB": lambda sop: part10(
            image(sop, before_pixels=element(SEQUENCE, b"SQ", b"", length=0xFFFFFFFE)), sop
        ),
        "a sequence item that claims 4 GiB": lambda sop: part10(
            image(sop, before_pixels=element(SEQUENCE, b"SQ", struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFE))),
            sop,
        ),
        "Rows and Columns of 65535": lambda sop: part10(
            image(sop, rows=b"US\x02\0\xff\xff", columns=b"US\x02\0\xff\xff"), sop
        ),
        "Rows of nothing": lambda sop: part10(image(sop, rows=b"US\x00\0"), sop),
        "Rows of three values": lambda sop: part10(image(sop, rows=b"US\x06\0\1\0\2\0\3\0"), sop),
        "negative Rows": lambda sop: part10(image(sop, rows=numeric(b"SS", struct.pack("<h", -4))), sop),
        "Rows that is not a number": lambda sop: part10(image(sop, rows=numeric(b"DS", b"NaN ")), sop),
        "Rows that is infinite": lambda sop: part10(
            image(sop, rows=numeric(b"FD", struct.pack("<d", float("inf")))), sop
        ),
        "Rows of a thousand digits": lambda sop: part10(image(sop, rows=numeric(b"IS", b"9" * 1000)), sop),
        "Columns that are text": lambda sop: part10(image(sop, columns=numeric(b"LO", b"four")), sop),
        "a million empty elements": lambda sop: part10(
            image(sop)
            + b"".join(
                struct.pack("<HH2sH", 0x7FE1 + 2 * (n >> 16), n & 0xFFFF, b"LO", 0) for n in range(1 << 20)
            ),
            sop,
        ),
    }
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for number, (name, make) in enumerate(makers.items()):
        made[name] = folder / f"{number:03}"
        made[name].write_bytes(make(f"{ROOT}.66.{number}"))
    return made
