"""kind = "dicom": what the retrieved study itself says."""

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from pipeline.dicom.accession import AccessionNumber
from pipeline.patients import Patients, PatientUnknown, Person, text_or_none

_KEYWORDS = ["SpecificCharacterSet", "PatientID", "PatientName", "Modality", "StudyDescription"]


class DicomPatients(Patients):
    """Read the first file that can be read; all are of one patient, or the order would not have been served."""

    knows_beforehand: ClassVar[bool] = False

    def find(self, accession: AccessionNumber, files: Iterable[Path]) -> Person:
        """Return what the study says; raises PatientUnknown where none of its files is kept or readable."""
        for file in files:
            try:
                header = dcmread(file, specific_tags=list(_KEYWORDS), stop_before_pixels=True, force=True)
                return _person(accession, header)
            except (OSError, InvalidDicomError, ValueError, KeyError, LookupError, TypeError, zlib.error):
                continue
        raise PatientUnknown("no file of the study is kept that names the patient")


def _person(accession: AccessionNumber, header: Dataset) -> Person:
    return Person(
        accession,
        medrec_id=text_or_none(header.get("PatientID")),
        patient_name=_name(header.get("PatientName")),
        modality=text_or_none(header.get("Modality")),
        study_description=text_or_none(header.get("StudyDescription")),
    )


def _name(value: Any) -> str | None:
    """Return the first component group that is not empty (PS3.5 6.2.1): letters, else as it is written."""
    groups = (text_or_none(group.strip("^ ")) for group in str(value or "").split("="))
    return next(filter(None, groups), None)


PATIENTS = DicomPatients
