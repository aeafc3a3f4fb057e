"""Read a file as DICOM in two ways: mapped with its layout, or by a glance at its beginning.

This module does without pydicom (see `pydicom_reading`), so that processes which look at many files start in a
tenth of a second.
"""

import mmap
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

from pipeline.dicom.deflation import inflate, inflated_head, is_deflated
from pipeline.dicom.mending import mended
from pipeline.dicom.part10 import DataSetLayout, Malformed
from pipeline.dicom.walk import first_values, walk, walk_meta

UID = re.compile(r"(0|[0-9]+)(\.[0-9]+)+")  # leading zeros are wrong (PS3.5 9.1) and common, so they pass
DIRECTORY_STORAGE = "1.2.840.10008.1.3.10"  # a DICOMDIR: the index of a medium, not an instance
MOST_GLANCED_AT = 16 << 20  # Bytes of a deflated data set that a glance inflates.


@contextmanager
def data_set_of(path: Path, scratch: Path | None = None) -> Iterator[tuple[mmap.mmap, DataSetLayout]]:
    """Map a file into memory together with its layout.

    A deflated data set is inflated to a file in `scratch`. A file with encoding faults that can be read in one way
    only is copied there in well-formed encoding; the layout's `mends` say what was corrected.

    Raises:
        Malformed: see `walk`.
    """
    with ExitStack() as stack:
        data = stack.enter_context(_mapped(stack.enter_context(path.open("rb"))))
        if is_deflated(data):
            inflated = stack.enter_context(tempfile.TemporaryFile(dir=scratch))
            inflate(data, inflated)
            inflated.flush()
            data = stack.enter_context(_mapped(inflated))
        layout = _walked(data)
        if layout is None or layout.is_odd:
            copy = stack.enter_context(tempfile.TemporaryFile(dir=scratch))
            if mends := mended(data, copy):
                copy.flush()
                data = stack.enter_context(_mapped(copy))
                layout = replace(walk(data), mends=mends)
        yield data, layout or walk(data)


def _walked(data: mmap.mmap) -> DataSetLayout | None:
    try:
        return walk(data)
    except Malformed:
        return None


def _mapped(file: IO[bytes]) -> mmap.mmap:
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def values_of(path: Path, tags: Iterable[int]) -> dict[int, bytes]:
    """Return the values of those `tags` that stand before the first unreadable element, as bytes of the file.

    Needs little time and memory for any file, even one still being written: use it for a glance, never as proof.
    Raises OSError if the file cannot be opened.
    """
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return {}
        with _mapped(file) as data:
            try:
                if is_deflated(data):
                    return first_values(_inflated_start(data), tags)
                return first_values(data, tags)
            except Malformed:
                return {}


def _inflated_start(data: mmap.mmap) -> bytes:
    _, offset = walk_meta(data, 132 if data[128:132] == b"DICM" else 0)
    return data[:offset] + inflated_head(data[offset : offset + MOST_GLANCED_AT], MOST_GLANCED_AT)
