"""Read what a disc needs of one object: its patient, its UIDs, and the keys of its directory record."""

import functools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pipeline.dicom.attributes.character_sets import CharacterSet, reads_as_utf_8
from pipeline.dicom.attributes.elements import TEXT_VRS
from pipeline.dicom.reading import DIRECTORY_STORAGE, UID
from pipeline.disc.model import EXPLICIT
from pipeline.disc.objects import records
from pipeline.disc.objects.raw import LARGEST_FILE, RawObject, raw
from pipeline.disc.objects.records import NoRecord, RecordKey
from pipeline.model import InstanceKey, LeftOutCode

_SAMPLES, _FRAMES, _BITS_ALLOCATED = 0x00280002, 0x00280008, 0x00280100
_GEOMETRY = (_SAMPLES, _FRAMES, records.ROWS, records.COLUMNS, _BITS_ALLOCATED)
WANTED: dict[int, str] = {
    **dict.fromkeys((records.SOP_CLASS, records.SOP_INSTANCE, records.STUDY_UID, records.SERIES_UID), "UI"),
    **{key.tag: key.vr for keys in records.KEYS.values() for key in keys},
    **{key.tag: key.vr for key in (*records.PATIENT, *records.STUDY, *records.SERIES)},
    **dict.fromkeys(records.DATES, "DA"),
    **dict.fromkeys(records.TIMES, "TM"),
    **dict.fromkeys(_GEOMETRY, "US"),
    _FRAMES: "IS",
}


class Unfit(NamedTuple):
    """The reason why an object cannot be on a disc, as a code and in words."""

    code: LeftOutCode
    reason: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One object. `values` are raw, little endian, without padding; sequences only if Explicit VR Little Endian.

    `unfit` says why the object cannot be on a disc. `is_part_10` says that the file meta information is complete
    and agrees with the data set, so that the file may be on a disc unchanged.
    """

    source: Path
    path: Path  # The file for the disc: the source, or its conversion.
    size: int
    source_sha256: str
    sha256: str
    key: InstanceKey
    sop_class_uid: str
    transfer_syntax_uid: str
    is_part_10: bool
    data_set: int  # Offset of the data set in the file, in bytes.
    pixel_bytes: int  # Length of Pixel Data in the file, in bytes.
    values: dict[int, bytes] = field(repr=False)
    kind: str = ""
    unfit: Unfit | None = None
    decoded_from: str | None = None

    def text(self, key: RecordKey | int) -> str:
        """Return a value as text, "" if it is absent; never raises."""
        tag = key if isinstance(key, int) else key.tag
        raw = self.values.get(tag, b"")
        return _text(raw, WANTED[tag], self.values.get(records.CHARACTER_SET.tag, b"")) if raw else ""

    @property
    def native_size(self) -> int:
        """Estimate the size of the file in bytes, once its pixels are decoded."""
        if not self.pixel_bytes or self.transfer_syntax_uid == EXPLICIT:
            return self.size
        samples, rows, columns, bits = (
            int.from_bytes(self.values.get(tag, b""), "little")
            for tag in (_SAMPLES, records.ROWS, records.COLUMNS, _BITS_ALLOCATED)
        )
        frames = number(self.values.get(_FRAMES, b"")) or 1
        return self.size - self.pixel_bytes + rows * columns * max(samples, 1) * frames * bits // 8


class UnreadableObject(Exception):
    """Say in words and by a code why a file is no complete object with valid UIDs."""

    def __init__(self, message: str, code: LeftOutCode = LeftOutCode.DAMAGED) -> None:
        super().__init__(message)
        self.code = code


def read(path: Path, sha256: str, scratch: Path) -> Entry:
    """Return the entry for one file; raises UnreadableObject."""
    return entry_of(path, raw(path, sha256, WANTED, scratch), {})


def entry_of(path: Path, found: RawObject, pool: dict[bytes, bytes]) -> Entry:
    """Return the entry for the file at `path`; `pool` shares equal values between entries, to save memory.

    Raises:
        UnreadableObject: the file is no DICOM object, is incomplete or a DICOMDIR, or lacks a valid UID.
    """
    if found.problem is not None:
        raise UnreadableObject(found.problem)
    if found.meta.get(0x00020002) == DIRECTORY_STORAGE:
        words = "a DICOMDIR is the index of a medium, not an object of a patient"
        raise UnreadableObject(words, LeftOutCode.KIND)
    study, series, instance, sop_class = (
        found.values.get(tag, b"").decode("latin-1").strip(" \0")
        for tag in (records.STUDY_UID, records.SERIES_UID, records.SOP_INSTANCE, records.SOP_CLASS)
    )
    key = InstanceKey(study, series, instance)
    _check_uids(key, sop_class)
    values = {tag: pool.setdefault(value, value) for tag, value in found.values.items()}
    kind, unfit = _kind(sop_class, values, found.size)
    return Entry(
        source=path,
        path=path,
        size=found.size,
        source_sha256=found.sha256,
        sha256=found.sha256,
        key=key,
        sop_class_uid=sop_class,
        transfer_syntax_uid=found.transfer_syntax_uid,
        is_part_10=_is_part_10(found, sop_class, instance),
        data_set=found.data_set,
        pixel_bytes=found.pixel_bytes,
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
            raise UnreadableObject(f"its {name} is {'not valid' if uid else 'missing'}")


def _kind(sop_class: str, values: dict[int, bytes], size: int) -> tuple[str, Unfit | None]:
    try:
        has_picture = records.ROWS in values and records.COLUMNS in values
        kind = records.kind_of(sop_class, has_rows_and_columns=has_picture)
    except NoRecord as reason:
        return "", Unfit(LeftOutCode.KIND, str(reason))
    if size > LARGEST_FILE:
        return kind, Unfit(LeftOutCode.LARGE, "4 GiB or larger, which a disc in ISO 9660 cannot hold as one file")
    return kind, None


def _is_part_10(found: RawObject, sop_class: str, sop_instance: str) -> bool:
    """Tell whether the file meta information is complete and agrees with the data set (PS3.10 7.1)."""
    meta = found.meta
    return (
        found.has_preamble
        and 0x00020000 in meta
        and meta.get(0x00020010) == found.transfer_syntax_uid
        and meta.get(0x00020002) == sop_class
        and meta.get(0x00020003) == sop_instance
    )


def number(value: bytes) -> int | None:
    """Return the first value of an IS attribute, also if it is written as `1.0`; None if it is no integer."""
    found = re.match(rb"\s*([+-]?\d{1,12})(?:[.,]0*)?\s*(?:\\|$)", value)
    return int(found[1]) if found else None


@functools.lru_cache(maxsize=4096)
def _text(raw: bytes, vr: str, character_set: bytes) -> str:
    """Return bytes as text: in the declared character set, else UTF-8 if valid, else ASCII with hex escapes."""
    declared = CharacterSet.of(character_set.decode("latin-1")) if vr in TEXT_VRS else CharacterSet()
    try:
        text = declared.decode(raw, vr)
    except UnicodeDecodeError:
        text = raw.decode("utf-8" if reads_as_utf_8(raw) else "ascii", errors="backslashreplace")
    return text.strip(" \0")
