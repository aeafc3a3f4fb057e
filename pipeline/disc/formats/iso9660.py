"""Read ISO 9660 (ECMA-119) and Joliet: the file names and the position of each file in the image.

This is our own reader of xorriso's images, used for any disc: bounded in depth and count, because a disc to be
verified may come from anybody.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import unpack_from
from typing import BinaryIO

SECTOR = 2048
SHORT_NAME = re.compile(r"[A-Z0-9_]{1,8}(\.[A-Z0-9_]{1,3})?")  # Level 1, PS3.12 F.
_FIRST_DESCRIPTOR = 16
_MOST_DESCRIPTORS = 64
_PIECE = 120 << 10  # Bytes; for larger pieces memory is mapped and cleared anew each time.
_MOST_ENTRIES = 500_000
_MOST_LEVELS = 64
_PRIMARY, _SUPPLEMENTARY, _END = 1, 2, 255
_JOLIET = (b"%/@", b"%/C", b"%/E")  # Escape sequences of UCS-2 levels 1 to 3.
_DIRECTORY, _CONTINUES = 0x02, 0x80


class NoIso(Exception):
    """Say why a file is no readable ISO 9660 image."""


@dataclass(frozen=True, slots=True)
class IsoFile:
    """A file of the image: its extents as (offset, length) in bytes."""

    path: str
    extents: tuple[tuple[int, int], ...]

    @property
    def size(self) -> int:
        """Return its length in bytes."""
        return sum(length for _, length in self.extents)


@dataclass(frozen=True, slots=True)
class IsoTree:
    """One directory tree of an image, primary or Joliet: files by path, in the order of the image."""

    volume_id: str
    volume_size: int  # Bytes, as the descriptor says.
    files: dict[str, IsoFile]
    folders: frozenset[str]


@dataclass(frozen=True, slots=True)
class IsoVolume:
    """Both trees of an image; `joliet` is None if there is none."""

    primary: IsoTree
    joliet: IsoTree | None


def read_volume(path: Path) -> IsoVolume:
    """Return the directory trees of the image at `path`; raises NoIso."""
    with path.open("rb") as file:
        size = path.stat().st_size
        primary, joliet = None, None
        for kind, descriptor in _descriptors(file):
            if kind == _PRIMARY and primary is None:
                primary = _tree(file, descriptor, size, joliet=False)
            elif kind == _SUPPLEMENTARY and descriptor[88:91] in _JOLIET:
                joliet = _tree(file, descriptor, size, joliet=True)
        if primary is None:
            raise NoIso("it has no ISO 9660 volume descriptor: it is no image of a CD or DVD, or in UDF only")
        return IsoVolume(primary, joliet)


def pieces_of(image: BinaryIO, file: IsoFile) -> Iterator[bytes]:
    """Yield the bytes of a file in pieces; fewer than its length if the image is truncated."""
    for offset, length in file.extents:
        image.seek(offset)
        left = length
        while left and (piece := image.read(min(left, _PIECE))):
            left -= len(piece)
            yield piece


def _descriptors(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    for number in range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + _MOST_DESCRIPTORS):
        file.seek(number * SECTOR)
        descriptor = file.read(SECTOR)
        if len(descriptor) < SECTOR or descriptor[1:6] != b"CD001" or descriptor[0] == _END:
            return
        yield descriptor[0], descriptor


def _tree(file: BinaryIO, descriptor: bytes, size: int, *, joliet: bool) -> IsoTree:
    codec = "utf-16-be" if joliet else "latin-1"
    (block,) = unpack_from("<H", descriptor, 128)
    (blocks,) = unpack_from("<L", descriptor, 80)
    if block != SECTOR:
        raise NoIso(f"its logical blocks are {block} bytes, not {SECTOR}")
    volume_id = descriptor[40:72].decode(codec, "replace").strip(" \0")
    files: dict[str, list[tuple[int, int]]] = {}
    folders: set[str] = set()
    waiting = [("", *unpack_from("<L4xL", descriptor, 156 + 2))]
    seen: set[int] = set()
    while waiting:
        folder, extent, length = waiting.pop()
        if extent in seen:
            raise NoIso("its directories form a ring")
        seen.add(extent)
        for name, where, much, flags in _records(file, extent * SECTOR, length, size):
            path = f"{folder}/{_name(name, codec)}" if folder else _name(name, codec)
            if flags & _DIRECTORY:
                folders.add(path)
                waiting.append((path, where, much))
            else:
                files.setdefault(path, []).append((where * SECTOR, much))
            if len(files) + len(folders) > _MOST_ENTRIES or path.count("/") > _MOST_LEVELS:
                raise NoIso("it holds more files or levels than any real disc")
    ordered = sorted(files.items(), key=lambda item: item[1][0])
    found = {path: IsoFile(path, tuple(extents)) for path, extents in ordered}
    return IsoTree(volume_id, blocks * SECTOR, found, frozenset(folders))


def _records(file: BinaryIO, offset: int, length: int, size: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield name, first sector, length and flags of everything in a directory (ECMA-119 9.1)."""
    if offset + length > size:
        raise NoIso("it is truncated: a directory lies beyond its end")
    file.seek(offset)
    data = file.read(length)
    at = 0
    while at < len(data):
        record = data[at]
        if record == 0:  # Records do not cross sectors.
            at = (at // SECTOR + 1) * SECTOR
            continue
        if record < 34 or at + record > len(data) or 33 + data[at + 32] > record:
            raise NoIso("a directory record is garbled")
        where, much = unpack_from("<L4xL", data, at + 2)
        name = data[at + 33 : at + 33 + data[at + 32]]
        if name not in {b"\0", b"\1"}:
            yield name, where, much, data[at + 25]
        at += record


def _name(raw: bytes, codec: str) -> str:
    """Return a name without its version number."""
    name = raw.decode(codec, "replace")
    return name.partition(";")[0].removesuffix(".")
