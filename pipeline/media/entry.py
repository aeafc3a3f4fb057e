"""What the disc has to know of one object: whose it is, where it belongs, and the keys of its directory record."""

import functools
import re
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import part10
from pipeline.attributes.character_sets import CharacterSet, reads_as_utf_8
from pipeline.attributes.elements import TEXT_VRS
from pipeline.intake import DIRECTORY_STORAGE, UID, data_set_of
from pipeline.media import records
from pipeline.media.model import EXPLICIT
from pipeline.media.records import Key, NoRecord
from pipeline.model import InstanceKey
from pipeline.part10 import Bytes, Element, Layout, Malformed

LARGEST_FILE = (1 << 32) - 2048  # ISO 9660 level 1 has one extent a file; the last sector must fit, too
MOST_KEY_BYTES = 0xFFF0  # of one key in a directory record; what is longer stays in its object alone
_SAMPLES, _FRAMES, _BITS_ALLOCATED = 0x00280002, 0x00280008, 0x00280100
_GEOMETRY = (_SAMPLES, _FRAMES, records.ROWS, records.COLUMNS, _BITS_ALLOCATED)
_NUMBERS = {"US": 2, "UL": 4}
_WANTED: dict[int, str] = {
    **{key.tag: key.vr for keys in records.KEYS.values() for key in keys},
    **{key.tag: key.vr for key in (*records.PATIENT, *records.STUDY, *records.SERIES)},
    **dict.fromkeys(records.DATES, "DA"),
    **dict.fromkeys(records.TIMES, "TM"),
    **dict.fromkeys(_GEOMETRY, "US"),
    _FRAMES: "IS",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One object. `values` are raw, in little endian, without padding; sequences only of Explicit VR LE.

    `unfit` says why it cannot be on a disc; `is_part_10` that its file meta information is there and says the
    same as its data set, so that the file may be on a disc as it is.
    """

    source: Path
    path: Path  # the file that goes onto the disc: the source, or what was made of it
    size: int
    source_sha256: str
    sha256: str
    key: InstanceKey
    sop_class_uid: str
    transfer_syntax_uid: str
    is_part_10: bool
    data_set: int  # where it begins, in bytes
    pixel_bytes: int  # as Pixel Data lies in the file
    values: dict[int, bytes] = field(repr=False)
    kind: str = ""
    unfit: str | None = None
    decoded_from: str | None = None

    def text(self, key: Key | int) -> str:
        """Return a value as text, "" where it is absent; never raises."""
        tag = key if isinstance(key, int) else key.tag
        raw = self.values.get(tag, b"")
        return _text(raw, _WANTED[tag], self.values.get(records.CHARACTER_SET.tag, b"")) if raw else ""

    @property
    def native_size(self) -> int:
        """Estimate the size of the file once its pixels are decoded, in bytes."""
        if not self.pixel_bytes or self.transfer_syntax_uid == EXPLICIT:
            return self.size
        samples, rows, columns, bits = (
            int.from_bytes(self.values.get(tag, b""), "little")
            for tag in (_SAMPLES, records.ROWS, records.COLUMNS, _BITS_ALLOCATED)
        )
        frames = number(self.values.get(_FRAMES, b"")) or 1
        return self.size - self.pixel_bytes + rows * columns * max(samples, 1) * frames * bits // 8


class Unreadable(Exception):
    """Say why a file is no object that could be told apart from others."""


def read(path: Path, sha256: str, scratch: Path, pool: dict[bytes, bytes]) -> Entry:
    """Return what a disc has to know of the file; `pool` keeps equal values once.

    Raises:
        Unreadable: it is no DICOM object, or not a whole one, or nobody can say which one.
    """
    try:
        with data_set_of(path, scratch) as (data, layout):
            return _entry(path, sha256, data, layout, pool)
    except Malformed as malformed:
        raise Unreadable(_kindly(path, str(malformed))) from malformed
    except ValueError as error:  # what cannot be mapped into memory
        raise Unreadable("the file is empty") from error
    except OSError as error:
        raise Unreadable(f"the file cannot be read: {error.strerror}") from error


def _kindly(path: Path, reason: str) -> str:
    with path.open("rb") as file:
        is_dicom = file.read(132)[128:] == b"DICM"
    return reason if is_dicom else "not a DICOM file"


def _entry(path: Path, sha256: str, data: Bytes, layout: Layout, pool: dict[bytes, bytes]) -> Entry:
    def uid(tag: int) -> str:
        return part10.text_of(data, layout.elements.get(tag))

    if part10.text_of(data, layout.meta.get(0x00020002)) == DIRECTORY_STORAGE:
        raise Unreadable("a DICOMDIR is the index of a medium, not an object of a patient")
    key = InstanceKey(uid(records.STUDY_UID), uid(records.SERIES_UID), uid(records.SOP_INSTANCE))
    sop_class = uid(records.SOP_CLASS)
    _check_uids(key, sop_class)
    values = {
        tag: pool.setdefault(value, value)
        for tag, element in layout.elements.items()
        if tag in _WANTED and (value := _value(data, element, layout))
    }
    pixels = layout.pixels
    size = path.stat().st_size
    kind, unfit = _kind(sop_class, values, size)
    return Entry(
        source=path,
        path=path,
        size=size,
        source_sha256=sha256,
        sha256=sha256,
        key=key,
        sop_class_uid=sop_class,
        transfer_syntax_uid=layout.transfer_syntax_uid,
        is_part_10=_is_part_10(data, layout, sop_class, key.sop_instance_uid),
        data_set=layout.data_set,
        pixel_bytes=pixels.end - pixels.value if pixels else 0,
        values=values,
        kind=kind,
        unfit=unfit,
    )


def _check_uids(key: InstanceKey, sop_class: str) -> None:
    for name, uid in (
        ("SOP Class UID", sop_class),
        ("Study Instance UID", key.study_instance_uid),
        ("Series Instance UID", key.series_instance_uid),
        ("SOP Instance UID", key.sop_instance_uid),
    ):
        if len(uid) > 64 or not UID.fullmatch(uid):
            raise Unreadable(f"its {name} is {'not valid' if uid else 'missing'}")


def _value(data: Bytes, element: Element, layout: Layout) -> bytes:
    vr = _WANTED[element.tag]
    end = element.end - 8 if element.undefined_length else element.end
    if end - element.value > MOST_KEY_BYTES or (vr == "SQ" and not (layout.explicit and layout.little_endian)):
        return b""
    value = bytes(data[element.value : end])
    if size := _NUMBERS.get(vr):
        return value[:size] if layout.little_endian else value[:size][::-1]
    return value if vr == "SQ" else value.rstrip(b" \0")


def _kind(sop_class: str, values: dict[int, bytes], size: int) -> tuple[str, str | None]:
    try:
        has_picture = records.ROWS in values and records.COLUMNS in values
        kind = records.kind_of(sop_class, has_rows_and_columns=has_picture)
    except NoRecord as reason:
        return "", str(reason)
    if size > LARGEST_FILE:
        return kind, "4 GiB or larger, which a disc in ISO 9660 cannot hold as one file"
    return kind, None


def _is_part_10(data: Bytes, layout: Layout, sop_class: str, sop_instance: str) -> bool:
    """Tell whether the file meta information is complete and agrees with the data set (PS3.10 7.1)."""
    meta = layout.meta
    return (
        layout.has_preamble
        and 0x00020000 in meta
        and part10.text_of(data, meta.get(0x00020010)) == layout.transfer_syntax_uid
        and part10.text_of(data, meta.get(0x00020002)) == sop_class
        and part10.text_of(data, meta.get(0x00020003)) == sop_instance
    )


def number(raw: bytes) -> int | None:
    """Return the first value of an integer string, None where it is none."""
    found = re.match(rb"\s*([+-]?\d{1,12})\s*(?:\\|$)", raw)
    return int(found[1]) if found else None


@functools.lru_cache(maxsize=4096)
def _text(raw: bytes, vr: str, character_set: bytes) -> str:
    """Return bytes as text: as declared, else as UTF-8 if they are that, else with hex for what is wrong."""
    declared = CharacterSet.of(character_set.decode("latin-1")) if vr in TEXT_VRS else CharacterSet()
    try:
        text = declared.decode(raw, vr)
    except UnicodeDecodeError:
        text = raw.decode("utf-8" if reads_as_utf_8(raw) else "ascii", errors="backslashreplace")
    return text.strip(" \0")
