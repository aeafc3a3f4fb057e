"""Write a DICOMDIR (PS3.10 8.6, PS3.3 F): the objects' values, as far as a record allows them.

This is our own code, because no available tool lists every object of a hospital: docs/adr/0006-disc.md has the
measurements.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from struct import pack

from pipeline.dicom.header import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from pipeline.dicom.reading import DIRECTORY_STORAGE
from pipeline.disc.dicomdir.values import code_item, element, right, right_values
from pipeline.disc.model import EXPLICIT
from pipeline.disc.objects import records
from pipeline.disc.objects.arrangement import ObjectPath, PatientNode, SeriesNode, StudyNode
from pipeline.disc.objects.entry import Entry
from pipeline.disc.objects.one_patient import UNKNOWN_PATIENT_ID
from pipeline.disc.objects.records import RecordKey

# Type 1 keys of objects without any date; DCMTK uses the same values.
UNKNOWN_DATE, UNKNOWN_TIME = "19000101", "000000"
_ANY_BYTES = "application/octet-stream"
_IN_USE = 0xFFFF
_ITEM = b"\xfe\xff\x00\xe0"


@dataclass
class _Record:
    """One directory record: its elements after the offsets, and the records below it."""

    kind: str
    elements: bytes
    children: list["_Record"] = field(default_factory=list)
    offset: int = 0

    @property
    def length(self) -> int:
        return 8 + len(self._head(0, 0)) + len(self.elements)

    def _head(self, following: int, below: int) -> bytes:
        return b"".join(
            (
                element(0x00041400, "UL", pack("<L", following)),
                element(0x00041410, "US", pack("<H", _IN_USE)),
                element(0x00041420, "UL", pack("<L", below)),
                element(0x00041430, "CS", self.kind.encode()),
            )
        )

    def written(self, following: "_Record | None") -> bytes:
        below = self.children[0].offset if self.children else 0
        body = self._head(following.offset if following else 0, below) + self.elements
        return _ITEM + pack("<L", len(body)) + body


def dicomdir(patients: Sequence[PatientNode], file_set_id: str) -> bytes:
    """Return the DICOMDIR of the arranged objects, whose files must be in Explicit VR encoding."""
    roots = [_patient(patient) for patient in patients]
    in_order = list(_flattened(roots))
    meta = _file_meta(file_set_id, [record for record, _ in in_order])
    sequence = 12  # Length of (0004,1220): tag, VR and length.
    offset = len(_opening(meta, file_set_id, 0, 0)) + sequence
    for record, _ in in_order:
        record.offset = offset
        offset += record.length
    opening = _opening(meta, file_set_id, roots[0].offset, roots[-1].offset)
    body = b"".join(record.written(following) for record, following in in_order)
    return opening + pack("<HH2s2sL", 0x0004, 0x1220, b"SQ", b"", len(body)) + body


def _flattened(siblings: Sequence[_Record]) -> Iterator[tuple[_Record, _Record | None]]:
    """Yield every record with its next sibling, parents before the records below them."""
    for record, following in zip_longest(siblings, siblings[1:]):
        yield record, following
        yield from _flattened(record.children)


def _opening(meta: bytes, file_set_id: str, first: int, last: int) -> bytes:
    """Return the bytes before the records; their length does not depend on the offsets `first` and `last`."""
    head = b"".join(
        (
            element(0x00041130, "CS", file_set_id.encode()),
            element(0x00041200, "UL", pack("<L", first)),
            element(0x00041202, "UL", pack("<L", last)),
            element(0x00041212, "US", pack("<H", 0)),  # File-set Consistency Flag: no known inconsistencies
        )
    )
    return b"\0" * 128 + b"DICM" + meta + head


def _file_meta(file_set_id: str, in_order: Sequence[_Record]) -> bytes:
    """Return file meta information; equal objects under an equal File-set ID get an equal UID (PS3.5 B.2)."""
    digest = hashlib.sha256(file_set_id.encode())
    for record in in_order:
        digest.update(record.elements)
    uid = f"2.25.{int.from_bytes(digest.digest()[:16], 'big')}"
    body = b"".join(
        (
            element(0x00020001, "OB", b"\0\1"),
            element(0x00020002, "UI", DIRECTORY_STORAGE.encode()),
            element(0x00020003, "UI", uid.encode()),
            element(0x00020010, "UI", EXPLICIT.encode()),
            element(0x00020012, "UI", IMPLEMENTATION_CLASS_UID.encode()),
            element(0x00020013, "SH", IMPLEMENTATION_VERSION_NAME.encode()),
        )
    )
    return element(0x00020000, "UL", pack("<L", len(body))) + body


def _patient(node: PatientNode) -> _Record:
    elements = _keys(node.first, records.PATIENT, {"patient id": UNKNOWN_PATIENT_ID})
    return _Record("PATIENT", elements, [_study(study) for study in node.studies])


def _study(node: StudyNode) -> _Record:
    accession = right_values(node.first.values, records.STUDY).get(records.ACCESSION, b"")
    instead = {"study id": accession.decode("ascii") if accession.isascii() and accession else "1"}
    return _Record("STUDY", _keys(node.first, records.STUDY, instead), [_series(series) for series in node.series])


def _series(node: SeriesNode) -> _Record:
    first = node.objects[0].entry
    instead = {"number": str(node.ordinal)}
    return _Record(
        "SERIES", _keys(first, records.SERIES, instead), [_leaf(placed_object) for placed_object in node.objects]
    )


def _leaf(placed: ObjectPath) -> _Record:
    entry = placed.entry
    references = b"".join(
        (
            element(0x00041500, "CS", "\\".join(placed.file_id).encode()),
            element(0x00041510, "UI", entry.sop_class_uid.encode()),
            element(0x00041511, "UI", entry.key.sop_instance_uid.encode()),
            element(0x00041512, "UI", entry.transfer_syntax_uid.encode()),
        )
    )
    instead = {"number": str(placed.ordinal), "mime": records.MIME_TYPES.get(entry.sop_class_uid, _ANY_BYTES)}
    keys = [
        key
        for key in records.KEYS[entry.kind]
        if key.tag != records.HL7_INSTANCE or entry.sop_class_uid == records.CLINICAL_DOCUMENT
    ]
    return _Record(entry.kind, references + _keys(entry, keys, instead))


def _keys(entry: Entry, keys: Sequence[RecordKey], instead: dict[str, str]) -> bytes:
    values = right_values(entry.values, keys)
    written = []
    for key in keys:
        if value := values.get(key.tag):
            written.append(element(key.tag, key.vr, value))
        elif key.otherwise != "leave out":
            written.append(element(key.tag, key.vr, _substitute(key, entry, instead)))
    return b"".join(written)


def _substitute(key: RecordKey, entry: Entry, instead: dict[str, str]) -> bytes:
    """Return the substitute for a key that has no value; for a date or time, another one of the object if any."""
    if key.otherwise in {"date", "time"}:
        tags, unknown = (records.DATES, UNKNOWN_DATE) if key.otherwise == "date" else (records.TIMES, UNKNOWN_TIME)
        said = (right(tag, key.vr, entry.values.get(tag, b"").decode("latin-1")) for tag in tags)
        return next(filter(None, said), unknown).encode("ascii")
    if key.otherwise == "title":
        return code_item(*records.TITLES[entry.kind])
    return (instead.get(key.otherwise) or key.stand_in).encode("ascii")
