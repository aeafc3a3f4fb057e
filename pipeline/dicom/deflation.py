"""Inflate deflated data sets (PS3.5 A.5), always within bounds. No other module inflates."""

import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from pipeline.dicom.part10 import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, Bytes, Malformed, text_of
from pipeline.dicom.walk import walk_meta

MAX_INFLATED = 1 << 30  # A deflated data set may inflate to this many bytes.
PIECE = 1 << 22  # Bytes inflated at once.


def is_deflated(data: Bytes) -> bool:
    """Tell whether a file's meta information says that its data set is deflated (PS3.5 A.5)."""
    try:
        meta, _ = walk_meta(data, 132 if data[128:132] == b"DICM" else 0)
    except Malformed:
        return False
    return text_of(data, meta.get(0x00020010)) == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN


def inflate(data: Bytes, target: BinaryIO) -> None:
    """Write a file to `target` with its data set inflated, piece by piece, at most MAX_INFLATED bytes of it.

    Bytes after the end of the stream, mostly padding, are left out.

    Raises:
        Malformed: the stream is broken, or inflates to more (a decompression bomb).
    """
    _, offset = walk_meta(data, 132 if data[128:132] == b"DICM" else 0)
    target.write(data[:offset])
    target.writelines(_inflated(data, offset))


def inflated_head(deflated: bytes, most: int) -> bytes:
    """Return the first `most` bytes that a stream inflates to, fewer if the stream ends or is cut earlier.

    Raises:
        Malformed: the stream is broken.
    """
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(deflated, most)
    except zlib.error as error:
        raise Malformed(f"the deflated data set cannot be inflated: {error}") from error


def bound_inflation(library: object) -> None:
    """Replace the unbounded `zlib.decompress` in a library's module by our bounded inflation.

    pydicom's reader calls it for a deflated data set, and offers no limit.
    """
    vars(library)["zlib"] = _Zlib


class _Zlib:
    """The part of the module zlib that pydicom's reader uses."""

    MAX_WBITS = zlib.MAX_WBITS
    error = zlib.error
    decompress: Callable[..., bytes] = staticmethod(lambda data, _wbits: b"".join(_inflated(data, 0)))


def _inflated(data: Bytes, offset: int) -> Iterator[bytes]:
    inflator = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    written = 0
    try:
        while offset < len(data) and not inflator.eof:
            rest = data[offset : offset + (1 << 20)]
            offset += len(rest)
            while rest and not inflator.eof:  # Bytes after the end of the stream stay "unconsumed" for ever.
                piece = inflator.decompress(rest, PIECE)
                rest = inflator.unconsumed_tail
                written += len(piece)
                if written > MAX_INFLATED:
                    raise Malformed(f"the deflated data set inflates to more than {MAX_INFLATED >> 20} MiB")
                yield piece
        if not inflator.eof:
            yield inflator.decompress(b"", PIECE)  # Output that did not fit into the last piece.
    except zlib.error as error:
        raise Malformed(f"the deflated data set cannot be inflated: {error}") from error
    if not inflator.eof:
        raise Malformed("the deflated data set is truncated")
