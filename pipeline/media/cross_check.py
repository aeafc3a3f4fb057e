"""Hold a record of the DICOMDIR against the file it points to: no validator does (docs/adr/0006-disc.md)."""

from collections.abc import Iterator

from pipeline.attributes.character_sets import CharacterSet, reads_as_utf_8
from pipeline.media.claims import Claims
from pipeline.media.directory import Listed
from pipeline.media.guards import comparable_name


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
    said_id = _text(listed.above.patient_id, listed.above.character_set)
    if said_id != _text(claims.patient_id, claims.character_set):
        yield "Patient ID"
    said_name = comparable_name(_text(listed.above.patient_name, listed.above.character_set))
    found_name = comparable_name(_text(claims.patient_name, claims.character_set))
    if found_name and said_name and said_name != found_name:
        yield "Patient's Name"


def _text(raw: bytes, character_set: bytes) -> str:
    try:
        return CharacterSet.of(character_set.decode("latin-1")).decode(raw, "PN").strip(" \0")
    except UnicodeDecodeError:
        return raw.decode("utf-8" if reads_as_utf_8(raw) else "ascii", errors="backslashreplace")
