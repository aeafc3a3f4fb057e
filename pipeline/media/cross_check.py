"""Hold a record of the DICOMDIR against the file it points to: no validator does (docs/adr/0006-disc.md)."""

from collections.abc import Iterator

from pipeline.attributes.character_sets import CharacterSet, reads_as_utf_8
from pipeline.media.claims import Claims
from pipeline.media.directory import Above, Listed
from pipeline.media.guards import UNKNOWN_PATIENT_ID, comparable_name


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
    if not stands_in(listed, claims) and _text(
        listed.above.patient_id, listed.above.character_set
    ) != patient_id_of(claims):
        yield "Patient ID"
    yield from _of_the_patient(listed.above, claims)


def stands_in(listed: Listed, claims: Claims) -> bool:
    """Tell whether the record has our stand-in for the Patient ID that the object does not have."""
    return listed.above.patient_id == UNKNOWN_PATIENT_ID.encode() and not claims.patient_id


def patient_id_of(claims: Claims) -> str:
    """Return the Patient ID as text: the same one may be in Latin-1 here and in UTF-8 there."""
    return _text(claims.patient_id, claims.character_set)


def _of_the_patient(above: Above, claims: Claims) -> Iterator[str]:
    """Yield what the PATIENT record says otherwise; as for the guard, what is empty contradicts nothing."""
    said = _text(above.patient_name, above.character_set)
    found = _text(claims.patient_name, claims.character_set)
    pairs = (
        ("Patient's Name", comparable_name(said), comparable_name(found)),
        (
            "Issuer of Patient ID",
            _text(above.issuer, above.character_set),
            _text(claims.issuer, claims.character_set),
        ),
        ("Patient's Birth Date", _day(above.birth_date), _day(claims.birth_date)),
    )
    yield from (name for name, one, other in pairs if one and other and one != other)


def _day(raw: bytes) -> bytes:
    return raw.replace(b".", b"")  # as written before DICOM 3.0


def _text(raw: bytes, character_set: bytes) -> str:
    try:
        return CharacterSet.of(character_set.decode("latin-1")).decode(raw, "PN").strip(" \0")
    except UnicodeDecodeError:
        return raw.decode("utf-8" if reads_as_utf_8(raw) else "ascii", errors="backslashreplace")
