"""Read a file that is to be on a disc, without judging it.

This module imports little, and no pydicom, because its processes must start at once.
"""

import contextlib
import errno
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.dicom import part10
from pipeline.dicom.mending import WITHOUT_HARM
from pipeline.dicom.part10 import Bytes, DataSetLayout, Element, Malformed, shown
from pipeline.dicom.reading import data_set_of
from pipeline.disc.objects.sequences import is_sound
from pipeline.errors import Transient
from pipeline.events import escaped
from pipeline.spool.hashed_files import FilesByState, FileState, sha256_of, state_of

LARGEST_FILE = (1 << 32) - 2048  # Bytes: a file has one extent in ISO 9660 level 1, of whole sectors below 4 GiB.
_MOST_KEY_BYTES = 0xFFF0  # Bytes of one key in a directory record; a longer value stays in its object only.
_META = (0x00020000, 0x00020002, 0x00020003, 0x00020010)
_NUMBERS = {"US": 2, "UL": 4}
_NOT_HASHED = "not hashed"
_NOT_THE_FILES_FAULT = {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM}


@dataclass(frozen=True, slots=True)
class ReadTask:
    """The files to read, each with its SHA-256 if known, and the wanted attributes by tag with their VR."""

    files: tuple[tuple[Path, str | None], ...]
    wanted: Mapping[int, str]
    scratch: Path


@dataclass(frozen=True, slots=True)
class RawObject:
    """The content of one file: `values` little endian, without padding; `meta` is its group 0002 as text.

    `problem` says why the file is no complete object; no other field is set then. `sha256` is "" if the file is
    too large for a disc and was therefore not hashed.
    """

    size: int = 0
    sha256: str = ""
    has_preamble: bool = False
    transfer_syntax_uid: str = ""
    data_set: int = 0  # Offset of the data set in the file, in bytes.
    pixel_bytes: int = 0
    meta: Mapping[int, str] = field(default_factory=dict)
    values: Mapping[int, bytes] = field(default_factory=dict)
    problem: str | None = None


_MOST_AHEAD = 2000  # Objects of five kilobytes each.
_ahead: FilesByState[RawObject] = FilesByState(_MOST_AHEAD)


def read_ahead(path: Path, wanted: Mapping[int, str], scratch: Path) -> None:
    """Read a file that comes in for a disc, so that `raw` need not; what cannot be read now is left to `raw`."""
    with contextlib.suppress(OSError):
        state = state_of(path.stat())
        found = _read(path, _NOT_HASHED, wanted, scratch)
        if found.problem is None and state == state_of(path.stat()):
            _ahead.keep(state, found)


def forget(state: FileState) -> None:
    """Forget what was read ahead of the file in this state, because the disk may have kept other bytes."""
    _ahead.take(state)


def raws(task: ReadTask) -> list[RawObject]:
    """Return the content of each file; raises OSError if this machine lacks disk or memory for one.

    Raises Transient as `raw` does.
    """
    return [raw(path, sha256, task.wanted, task.scratch) for path, sha256 in task.files]


def raw(path: Path, sha256: str | None, wanted: Mapping[int, str], scratch: Path) -> RawObject:
    """Return the content of a file.

    Raises:
        Transient: the file is missing, or cannot be read now; a disc without it might be wrong, so try later.
        OSError: this machine lacks disk or memory.
    """
    try:
        if sha256 and (found := _ahead.take(state_of(path.stat()))):
            return replace(found, sha256=sha256)
        return _read(path, sha256, wanted, scratch)
    except OSError as error:
        if error.errno in _NOT_THE_FILES_FAULT:
            raise
        shown = escaped(str(path), 300)
        raise Transient(f"{shown} cannot be read: {error.strerror}; no disc is made without it") from error


def _read(path: Path, sha256: str | None, wanted: Mapping[int, str], scratch: Path) -> RawObject:
    try:
        size = path.stat().st_size
        known = sha256 or ("" if size > LARGEST_FILE else sha256_of(path))
        with data_set_of(path, scratch) as (data, layout):
            if wrong := next((mend for mend in layout.mends if mend.correction not in WITHOUT_HARM), None):
                return RawObject(problem=f"{shown(wrong.tag)} is not written as the standard has it")
            return _raw(data, layout, wanted, size, known)
    except Malformed as malformed:
        return RawObject(problem=str(malformed))
    except ValueError:  # The file cannot be mapped into memory.
        return RawObject(problem="the file is empty")


def _raw(data: Bytes, layout: DataSetLayout, wanted: Mapping[int, str], size: int, sha256: str) -> RawObject:
    pixels = layout.pixels
    return RawObject(
        size=size,
        sha256=sha256,
        has_preamble=layout.has_preamble,
        transfer_syntax_uid=layout.transfer_syntax_uid,
        data_set=layout.data_set,
        pixel_bytes=pixels.end - pixels.value if pixels else 0,
        meta={tag: part10.text_of(data, layout.meta[tag]) for tag in _META if tag in layout.meta},
        values={
            tag: value
            for tag, vr in wanted.items()
            if (element := layout.elements.get(tag)) and (value := _value(data, element, layout, vr))
        },
    )


def _value(data: Bytes, element: Element, layout: DataSetLayout, vr: str) -> bytes:
    end = element.end - 8 if element.undefined_length else element.end
    if end - element.value > _MOST_KEY_BYTES:
        return b""
    value = bytes(data[element.value : end])
    if vr == "SQ":
        is_readable = layout.explicit and layout.little_endian and element.vr == b"SQ" and is_sound(value)
        return value if is_readable else b""
    if size := _NUMBERS.get(vr):
        return value[:size] if layout.little_endian else value[:size][::-1]
    return value.rstrip(b" \0")
