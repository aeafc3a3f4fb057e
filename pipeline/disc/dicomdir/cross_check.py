"""Compare a DICOMDIR record with the file it points to: no validator does (docs/adr/0006-disc.md)."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace

from pipeline.dicom.patient import Patient
from pipeline.dicom.placeholders import PLACEHOLDERS
from pipeline.dicom.same_patient import compare
from pipeline.disc.dicomdir.values import right
from pipeline.disc.formats.directory import Directory, ListedRecord, ParentRecords
from pipeline.disc.formats.independent_reader import ObjectIdentity
from pipeline.disc.objects import records
from pipeline.disc.objects.one_patient import UNKNOWN_PATIENT_ID, WORDS


def mismatches(
    listed: ListedRecord, claims: ObjectIdentity, placeholders: tuple[str, ...] = PLACEHOLDERS
) -> Iterator[str]:
    """Yield the name of every attribute in which the file contradicts its record or a record above it."""
    pairs = (
        ("SOP Class UID", listed.sop_class_uid, claims.sop_class_uid),
        ("SOP Instance UID", listed.sop_instance_uid, claims.sop_instance_uid),
        ("SOP Class UID of the file meta information", listed.sop_class_uid, claims.media_class),
        ("SOP Instance UID of the file meta information", listed.sop_instance_uid, claims.media_instance),
        ("Transfer Syntax UID", listed.transfer_syntax_uid, claims.transfer_syntax_uid),
        ("Study Instance UID", listed.above.study_instance_uid, claims.study_instance_uid),
        ("Series Instance UID", listed.above.series_instance_uid, claims.series_instance_uid),
    )
    for name, said, found in pairs:
        if said != found:
            yield name
    yield from _of_the_patient(listed, claims, placeholders)


def stands_in(listed: ListedRecord, claims: ObjectIdentity) -> bool:
    """Tell whether the record has our placeholder for a Patient ID that the object lacks."""
    return listed.above.patient_id == UNKNOWN_PATIENT_ID.encode() and not claims.patient_id


def patient_of(told: ObjectIdentity | ParentRecords) -> Patient:
    """Return the patient of an object or of a record, decoded: the same name may be in another character set."""
    character_set = told.character_set.decode("latin-1")
    return Patient.read(told.patient_id, told.issuer, told.birth_date, told.patient_name, character_set)


def names_of_nobody(directory: Directory, claims: Mapping[str, ObjectIdentity]) -> list[str]:
    """Return the path of one object for each PATIENT record whose Patient's Name none of its objects has.

    The objects of one patient may have several names; the record must have one of these names.
    """
    told: dict[ParentRecords, set[str]] = defaultdict(set)
    files: dict[ParentRecords, str] = {}
    for listed in directory.listed:
        patient = replace(listed.above, study_instance_uid=b"", series_instance_uid=b"")
        found = patient_of(claims[listed.path])
        told[patient] |= {found.name, _as_recorded(found).name}
        files.setdefault(patient, listed.path)
    said = {patient: patient_of(patient).name for patient in told}
    return [files[patient] for patient, name in said.items() if name and name not in told[patient]]


def _of_the_patient(listed: ListedRecord, claims: ObjectIdentity, placeholders: tuple[str, ...]) -> Iterator[str]:
    """Yield the attributes by which the PATIENT record names another person than the object, by `same_patient`.

    The record may have shortened values: it has 64 characters of a Patient ID of 70.
    """
    said, found = patient_of(listed.above), patient_of(claims)
    if stands_in(listed, claims):
        said = replace(said, identifier="")
    differs = compare(said, found, placeholders, is_same_study=True).differs
    if differs:
        differs = compare(said, _as_recorded(found), placeholders, is_same_study=True).differs
    yield from map(WORDS.__getitem__, differs)


def _as_recorded(patient: Patient) -> Patient:
    return Patient.of(
        right(records.PATIENT_ID, "LO", patient.identifier),
        right(records.ISSUER, "LO", patient.issuer),
        patient.birth_date,
        right(records.PATIENT_NAME, "PN", patient.name),
    )
