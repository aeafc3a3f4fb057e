"""Read a file as DICOM in two ways: mapped with its layout, or by a glance at its beginning.

Deflated data sets (PS3.5 A.5) are inflated here, always within bounds; no other module inflates.

This module does without pydicom (see `pydicom_reading`), so that processes which look at many files start in a
tenth of a second.
"""

import errno
import mmap
import os
import re
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, BinaryIO

from pipeline.dicom.inflated_extent import InflatedExtent
from pipeline.dicom.mending import mended
from pipeline.dicom.part10 import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, Bytes, DataSetLayout, Malformed, text_of
from pipeline.dicom.walk import first_values, walk, walk_meta

UID = re.compile(r"(0|[0-9]+)(\.[0-9]+)+")  # Leading zeros are wrong (PS3.5 9.1) but common, so they pass.
DIRECTORY_STORAGE = "1.2.840.10008.1.3.10"  # The class of a DICOMDIR: the index of a medium, not an instance.
MOST_GLANCED_AT = 16 << 20  # Bytes of a deflated data set that a glance inflates.
MAX_INFLATED = 1 << 30  # A deflated data set may inflate to this many bytes.
PIECE = 1 << 22  # Bytes inflated at once.
_POPULATE_READ = 22  # MADV_POPULATE_READ of Linux 5.14; the module mmap has no name for it.


@contextmanager
def data_set_of(path: Path, scratch: Path | None = None) -> Iterator[tuple[mmap.mmap, DataSetLayout]]:
    """Map a file into memory together with its layout.

    A deflated data set is inflated to a file in `scratch`. A file with encoding faults that can be read in one way
    only is copied there in well-formed encoding; the layout's `mends` say what was corrected.

    Raises:
        Malformed: see `walk`.
        OSError: the file cannot be opened or read now.
    """
    with ExitStack() as stack:
        data = stack.enter_context(_mapped(stack.enter_context(path.open("rb"))))
        layout = _layout_of(data)
        may_be_deflated = layout is None or layout.transfer_syntax_uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
        if may_be_deflated and is_deflated(data):
            inflated = stack.enter_context(tempfile.TemporaryFile(dir=scratch))
            inflate(data, inflated)
            inflated.flush()
            data = stack.enter_context(_mapped(inflated))
            layout = _layout_of(data)
        if layout is None or layout.is_odd:
            copy = stack.enter_context(tempfile.TemporaryFile(dir=scratch))
            if mends := mended(data, copy):
                copy.flush()
                data = stack.enter_context(_mapped(copy))
                layout = replace(walk(data), mends=mends)
        yield data, layout or walk(data)


def _layout_of(data: mmap.mmap) -> DataSetLayout | None:
    try:
        return walk(data)
    except Malformed:
        return None


def _mapped(file: IO[bytes]) -> mmap.mmap:
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        _read_in(data, file)
    except OSError:
        data.close()
        raise
    return data


def _read_in(data: mmap.mmap, file: IO[bytes]) -> None:
    """Read the beginning of a mapped file, with its header; raises OSError if the disk cannot read it now.

    Otherwise the first access to such a page would end this process by SIGBUS.
    """
    if sys.platform != "linux":
        return
    try:
        data.madvise(_POPULATE_READ, 0, min(len(data), MOST_GLANCED_AT))
    except OSError as error:
        if error.errno == errno.EFAULT:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(file.name)) from error


def values_of(path: Path, tags: Iterable[int]) -> dict[int, bytes]:
    """Return the values of those `tags` that stand before the first unreadable element, as bytes of the file.

    This takes little time and memory for any file, even for one still being written: use it for a glance, never as
    proof.
    Raises OSError if the file cannot be opened or read now.
    """
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return {}
        with _mapped(file) as data:
            try:
                meta, at = walk_meta(data, 132 if data[128:132] == b"DICM" else 0)
                syntax = text_of(data, meta.get(0x00020010))
                start = _inflated_start(data, at) if syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN else data
                return first_values(start, at, syntax, tags)
            except Malformed:
                return {}


def _inflated_start(data: mmap.mmap, at: int) -> bytes:
    return data[:at] + inflated_head(data[at : at + MOST_GLANCED_AT], MOST_GLANCED_AT)


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
    extent = InflatedExtent(MAX_INFLATED)
    try:
        while offset < len(data) and not inflator.eof:
            rest = data[offset : offset + (1 << 20)]
            offset += len(rest)
            while rest and not inflator.eof:  # Bytes after the end of the stream stay "unconsumed".
                piece = inflator.decompress(rest, PIECE)
                rest = inflator.unconsumed_tail
                yield extent.keep(piece)
        if not inflator.eof:
            yield extent.keep(inflator.decompress(b"", PIECE))  # Output that did not fit into the last piece.
    except zlib.error as error:
        raise Malformed(f"the deflated data set cannot be inflated: {error}") from error
    if not inflator.eof:
        raise Malformed("the deflated data set is truncated")
