"""Describe the patient, studies and series of a disc in words, for its page, its README and its result."""

import re
from collections.abc import Sequence

from pipeline.disc.model import DiscPatient, InstanceOnDisc, SeriesOnDisc, StudyOnDisc
from pipeline.disc.objects import records
from pipeline.disc.objects.arrangement import PatientNode, SeriesNode, StudyNode, placed
from pipeline.disc.objects.entry import Entry


def patient_of(entry: Entry) -> DiscPatient:
    """Return the patient that one object names."""
    return DiscPatient(
        name=entry.text(records.PATIENT_NAME),
        patient_id=entry.text(records.PATIENT_ID),
        issuer=entry.text(records.ISSUER),
        birth_date=entry.text(records.BIRTH_DATE),
        sex=entry.text(records.SEX),
    )


def study_of(node: StudyNode) -> StudyOnDisc:
    """Return a study of the disc."""
    entries = [one.entry for series in node.series for one in series.objects]
    return StudyOnDisc(
        study_instance_uid=node.first.key.study_instance_uid,
        accession_number=_told(entries, records.ACCESSION),
        date=_told(entries, records.STUDY_DATE),
        description=_told(entries, records.STUDY_DESCRIPTION),
        institution=_told(entries, records.INSTITUTION),
        series=tuple(series_of(series) for series in node.series),
    )


def series_of(node: SeriesNode) -> SeriesOnDisc:
    """Return a series of the disc."""
    first = node.objects[0].entry
    return SeriesOnDisc(
        series_instance_uid=first.key.series_instance_uid,
        number=first.text(records.SERIES_NUMBER),
        modality=first.text(records.MODALITY),
        description=first.text(records.SERIES_DESCRIPTION),
        instances=len(node.objects),
    )


def instances_of(patients: Sequence[PatientNode]) -> tuple[InstanceOnDisc, ...]:
    """Return every object of the disc, in order."""
    return tuple(
        InstanceOnDisc(
            key=one.entry.key,
            path=one.path,
            sha256=one.entry.sha256,
            source_sha256=one.entry.source_sha256,
            transfer_syntax_uid=one.entry.transfer_syntax_uid,
            decoded_from=one.entry.decoded_from,
        )
        for one in placed(patients)
    )


def _told(entries: Sequence[Entry], tag: int) -> str:
    """Return the first value that is not empty: reports and derived objects often leave it empty."""
    return next((text for entry in entries if (text := entry.text(tag))), "")


def readable_name(name: str) -> str:
    """Return a person name as people write it: `DOE^JOHN` is `DOE, JOHN`; further groups in brackets."""
    groups = [[part.strip() for part in group.split("^") if part.strip()] for group in name.split("=")]
    first, *rest = [group for group in groups if group] or [[]]
    plain = ", ".join(filter(None, (" ".join(first[:1]), " ".join(first[1:]))))
    return f"{plain} ({', '.join(' '.join(group) for group in rest)})" if rest else plain


def readable_date(date: str) -> str:
    """Return a DICOM date with dashes, other text unchanged."""
    found = re.fullmatch(r"(\d{4})\.?(\d{2})\.?(\d{2})", date)
    return "-".join(found.groups()) if found else date
