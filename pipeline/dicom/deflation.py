"""Data sets that were deflated (PS3.5 A.5): told by their file meta information, inflated within bounds."""

import mmap
import zlib
from pathlib import Path
from typing import BinaryIO

from pipeline.dicom.part10 import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, Malformed, text_of, walk_meta

MAX_INFLATED = 1 << 30  # bytes a deflated data set may inflate to


def is_deflated(path: Path) -> bool:
    """Tell whether the file meta information says that the data set is deflated (PS3.5 A.5)."""
    with path.open("rb") as file:
        head = file.read(4096)
    start = 132 if head[128:132] == b"DICM" else 0
    try:
        meta, _ = walk_meta(head, start)
    except Malformed:
        return False
    return text_of(head, meta.get(0x00020010)) == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN


def inflate(path: Path, target: BinaryIO) -> None:
    """Write `path` with its data set inflated to `target`, piece by piece, at most MAX_INFLATED bytes.

    Raises:
        Malformed: the stream is broken or inflates to more (a decompression bomb).
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = 132 if data[128:132] == b"DICM" else 0
        _, offset = walk_meta(data, start)
        target.write(data[:offset])
        inflator = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
        written = 0
        try:
            while offset < len(data) and not inflator.eof:
                rest = data[offset : offset + (1 << 20)]
                offset += len(rest)
                while rest:
                    piece = inflator.decompress(rest, 1 << 22)
                    rest = inflator.unconsumed_tail
                    written += target.write(piece)
                    if written > MAX_INFLATED:
                        raise Malformed(f"the deflated data set inflates to more than {MAX_INFLATED >> 20} MiB")
            target.write(inflator.flush())
        except zlib.error as error:
            raise Malformed(f"the deflated data set cannot be inflated: {error}") from error
        if not inflator.eof:
            raise Malformed("the deflated data set is truncated")
