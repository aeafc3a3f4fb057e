"""kind = "dicom": read the patient from the retrieved study itself."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from pipeline.dicom.accession import AccessionNumber
from pipeline.dicom.attributes.character_sets import CharacterSet
from pipeline.dicom.reading import values_of
from pipeline.patients import Patients, PatientUnknown, Person, text_or_none

_CHARACTER_SET, _PATIENT_ID, _PATIENT_NAME = 0x00080005, 0x00100020, 0x00100010
_MODALITY, _STUDY_DESCRIPTION = 0x00080060, 0x00081030
_TAGS = (_CHARACTER_SET, _MODALITY, _STUDY_DESCRIPTION, _PATIENT_NAME, _PATIENT_ID)


class DicomPatients(Patients):
    """Read the first readable file; all files are of one patient, or the order would have failed."""

    knows_beforehand: ClassVar[bool] = False

    def find(self, accession: AccessionNumber, files: Iterable[Path]) -> Person:
        """Return the patient of the study; raises PatientUnknown if none of its files is kept and readable."""
        for file in files:
            with suppress(OSError):
                if values := values_of(file, _TAGS):
                    return _person(accession, values)
        raise PatientUnknown("no file of the study is kept that names the patient")


def _person(accession: AccessionNumber, values: Mapping[int, bytes]) -> Person:
    character_set = CharacterSet.of(values.get(_CHARACTER_SET, b"").decode("latin-1").strip(" \0"))

    def text(tag: int, vr: str) -> str:
        raw = values.get(tag, b"")
        try:
            return character_set.decode(raw, vr)
        except UnicodeDecodeError:
            return raw.decode("latin-1")

    return Person(
        accession,
        medrec_id=text_or_none(text(_PATIENT_ID, "LO")),
        patient_name=_name(text(_PATIENT_NAME, "PN")),
        modality=text_or_none(text(_MODALITY, "CS")),
        study_description=text_or_none(text(_STUDY_DESCRIPTION, "LO")),
    )


def _name(value: str) -> str | None:
    """Return the first component group that is not empty (PS3.5 6.2.1): letters, or else as written."""
    groups = (text_or_none(group.strip("^ \0")) for group in value.split("="))
    return next(filter(None, groups), None)


PATIENTS = DicomPatients
