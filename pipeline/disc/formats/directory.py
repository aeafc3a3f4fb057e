"""Read a DICOMDIR back by pydicom, independently of the code that wrote it.

Records are followed by their offsets, as every reader does (PS3.3 F.2.2.2); anything else in the file is reported.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.errors import InvalidDicomError

from pipeline.dicom.pydicom_reading import dcmread
from pipeline.dicom.reading import DIRECTORY_STORAGE
from pipeline.disc.objects.records import KEYS
from pipeline.events import escaped

_UNREADABLE = (InvalidDicomError, OSError, ValueError, TypeError, AttributeError, KeyError, NotImplementedError)
_MOST_LEVELS = 16
_FIRST, _NEXT, _IN_USE, _BELOW, _KIND, _FILE_ID = (  # PS3.3 F.3.2.2
    *(0x00041200, 0x00041400, 0x00041410),
    *(0x00041420, 0x00041430, 0x00041500),
)


# PS3.3 F.3.2.2, including types retired since 1995.
KNOWN_TYPES = frozenset(
    (
        *("PATIENT", "STUDY", "SERIES", *KEYS, "PRIVATE", "MRDR", "HL7 STRUC DOC", "HANGING PROTOCOL", "PALETTE"),
        *("IMPLANT", "IMPLANT GROUP", "IMPLANT ASSY", "INVENTORY", "OVERLAY", "MODALITY LUT", "VOI LUT", "CURVE"),
        *("TOPIC", "VISIT", "RESULTS", "INTERPRETATION", "STUDY COMPONENT", "STORED PRINT", "PRINT QUEUE"),
        *("FILM SESSION", "FILM BOX", "IMAGE BOX"),
    )
)


class NoDirectory(Exception):
    """Say why a file cannot be read as a DICOMDIR."""


@dataclass(frozen=True, slots=True)
class ListedRecord:
    """A record that names a file, with the values of its parents; values are bytes without padding."""

    kind: str
    path: str  # For example DICOM/ST000001/…
    sop_class_uid: bytes
    sop_instance_uid: bytes
    transfer_syntax_uid: bytes
    above: "ParentRecords"


@dataclass(frozen=True, slots=True)
class ParentRecords:
    """The values of the patient, study and series records above a record."""

    patient_id: bytes = b""
    patient_name: bytes = b""
    character_set: bytes = b""  # Specific Character Set of the patient record.
    study_instance_uid: bytes = b""
    series_instance_uid: bytes = b""
    issuer: bytes = b""
    birth_date: bytes = b""


@dataclass(slots=True)
class Directory:
    """A DICOMDIR as read: its File-set ID, its records, and in words the faults of its structure."""

    file_set_id: str = ""
    listed: list[ListedRecord] = field(default_factory=list)
    patients: int = 0
    problems: list[str] = field(default_factory=list)


def read_directory(data: bytes) -> Directory:
    """Return the contents of a DICOMDIR; raises NoDirectory."""
    try:
        dataset = dcmread(BytesIO(data))
        records = {item.seq_item_tell: item for item in dataset.get("DirectoryRecordSequence") or ()}
        walk = _RecordWalk(records, Directory(str(dataset.get("FileSetID") or "")))
        walk.directory.problems.extend(_of_another_class(dataset))
        walk.follow(_number(dataset, _FIRST, 0), ParentRecords(), 0)
    except _UNREADABLE as error:
        raise NoDirectory(f"the DICOMDIR cannot be read ({type(error).__name__})") from error
    if orphans := len(records) - len(walk.seen):
        walk.directory.problems.append(f"{orphans} directory records cannot be reached from the root")
    walk.directory.problems.extend(_of_unknown_types(records.values()))
    return walk.directory


def _of_another_class(dataset: Dataset) -> Iterator[str]:
    said = str(dataset.file_meta.get("MediaStorageSOPClassUID") or "nothing").strip(" \0")
    if said != DIRECTORY_STORAGE:
        yield (
            f"the DICOMDIR says that it is of the class {escaped(said)}, not {DIRECTORY_STORAGE} (PS3.10 8.6): "
            "strict readers refuse the whole disc"
        )


def _of_unknown_types(records: Iterable[Dataset]) -> Iterator[str]:
    found = Counter(_raw(record, _KIND).decode("ascii", "backslashreplace") for record in records)
    if unknown := sorted(found.keys() - KNOWN_TYPES):
        count = sum(found[kind] for kind in unknown)
        yield (
            f"{count} directory records are of no type that DICOM has (PS3.3 F.3.2.2): "
            f"{', '.join(escaped(kind) for kind in unknown[:3])}; strict readers refuse the whole disc, others "
            "show nothing of what they lead to"
        )


@dataclass
class _RecordWalk:
    """One walk through the records, by offset."""

    records: dict[int, Dataset]
    directory: Directory
    seen: set[int] = field(default_factory=set)

    def follow(self, offset: int, above: ParentRecords, level: int) -> None:
        """Visit a chain of records, each with everything below it."""
        while offset:
            if offset not in self.records or offset in self.seen or level > _MOST_LEVELS:
                where = "back to where it was" if offset in self.seen else "nowhere"
                self.directory.problems.append(f"an offset in the DICOMDIR leads {where}")
                return
            self.seen.add(offset)
            record = self.records[offset]
            if _number(record, _IN_USE, 0xFFFF) != 0:  # 0 marks a record to be ignored.
                self._visit(record, above, level)
            offset = _number(record, _NEXT, 0)

    def _visit(self, record: Dataset, above: ParentRecords, level: int) -> None:
        kind = _raw(record, _KIND).decode("ascii", "replace")
        here = _extended(above, kind, record)
        self.directory.patients += kind == "PATIENT"
        if _raw(record, _FILE_ID):
            self.directory.listed.append(_listed(kind, record, here))
        self.follow(_number(record, _BELOW, 0), here, level + 1)


def _listed(kind: str, record: Dataset, above: ParentRecords) -> ListedRecord:
    parts = _raw(record, _FILE_ID).decode("ascii", "replace").split("\\")
    return ListedRecord(
        kind,
        "/".join(part.strip(" \0") for part in parts),
        _raw(record, 0x00041510),
        _raw(record, 0x00041511),
        _raw(record, 0x00041512),
        above,
    )


def _extended(above: ParentRecords, kind: str, record: Dataset) -> ParentRecords:
    if kind == "PATIENT":
        return ParentRecords(
            patient_id=_raw(record, 0x00100020),
            patient_name=_raw(record, 0x00100010),
            character_set=_raw(record, 0x00080005),
            issuer=_raw(record, 0x00100021),
            birth_date=_raw(record, 0x00100030),
        )
    if kind == "STUDY":
        return replace(above, study_instance_uid=_raw(record, 0x0020000D))
    if kind == "SERIES":
        return replace(above, series_instance_uid=_raw(record, 0x0020000E))
    return above


def _raw(record: Dataset, tag: int) -> bytes:
    """Return a value as bytes of the file, without padding; pydicom has found it, but not decoded it."""
    element: Any = record.get_item(tag) if tag in record else None
    value = element.value if element is not None else b""
    return (value if isinstance(value, bytes) else str(value or "").encode()).strip(b" \0")


def _number(record: Dataset, tag: int, missing: int) -> int:
    element: Any = record.get_item(tag) if tag in record else None
    if isinstance(element, RawDataElement):
        return int.from_bytes(element.value or b"", "little" if element.is_little_endian else "big")
    return missing if element is None else int(element.value or 0)
