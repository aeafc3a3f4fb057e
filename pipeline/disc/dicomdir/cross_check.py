"""Hold a record of the DICOMDIR against the file it points to: no validator does (docs/adr/0006-disc.md)."""

from collections.abc import Iterator

from pipeline.dicom.attributes.character_sets import CharacterSet, reads_as_utf_8
from pipeline.disc.formats.claims import Claims
from pipeline.disc.formats.directory import Above, Listed
from pipeline.disc.objects.guards import UNKNOWN_PATIENT_ID, Identity, comparable_name


def mismatches(listed: Listed, claims: Claims) -> Iterator[str]:
    """Yield the name of every attribute in which the record, or one above it, and the file disagree."""
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
    yield from _of_the_patient(listed, claims)


def stands_in(listed: Listed, claims: Claims) -> bool:
    """Tell whether the record has our stand-in for the Patient ID that the object does not have."""
    return listed.above.patient_id == UNKNOWN_PATIENT_ID.encode() and not claims.patient_id


def identity_of(told: Claims | Above) -> Identity:
    """Return whose an object says it is, or a record: the same may be in Latin-1 here and in UTF-8 there."""
    return Identity(
        patient_id=_text(told.patient_id, told.character_set),
        issuer=_text(told.issuer, told.character_set),
        name=comparable_name(_text(told.patient_name, told.character_set)),
        birth_date=told.birth_date.decode("latin-1").replace(".", ""),  # as written before DICOM 3.0
    )


def _of_the_patient(listed: Listed, claims: Claims) -> Iterator[str]:
    """Yield what the PATIENT record says otherwise; as for the guard, what is empty contradicts nothing."""
    said, found = identity_of(listed.above), identity_of(claims)
    if said.patient_id != found.patient_id and not stands_in(listed, claims):
        yield "Patient ID"
    pairs = (
        ("Patient's Name", said.name, found.name),
        ("Issuer of Patient ID", said.issuer, found.issuer),
        ("Patient's Birth Date", said.birth_date, found.birth_date),
    )
    yield from (name for name, one, other in pairs if one and other and one != other)


def _text(raw: bytes, character_set: bytes) -> str:
    try:
        return CharacterSet.of(character_set.decode("latin-1")).decode(raw, "PN").strip(" \0")
    except UnicodeDecodeError:
        return raw.decode("utf-8" if reads_as_utf_8(raw) else "ascii", errors="backslashreplace")
