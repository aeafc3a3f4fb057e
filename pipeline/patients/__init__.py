"""Who knows what a patient is called: one file a way to ask, its name the word in `[patients] kind = "..."`.

What comes back is handed to whoever asked and kept nowhere: not in the ledger, not in a log line.
"""

import importlib
import pkgutil
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from pipeline.config.order_tables import PatientsTable
from pipeline.dicom.accession import AccessionNumber
from pipeline.errors import Permanent, Transient
from pipeline.events import Event, emit

FIELDS = ("medrec_id", "reg_id", "patient_name", "modality", "study_description")
WHO = ("medrec_id", "patient_name")  # one of them at least is known, or the patient is not


class PatientUnknown(Permanent):
    """Say that whoever was asked knows no such accession number."""


class MoreThanOnePatient(Permanent):
    """Say that one accession number stands for two patients there: nothing may be made of it."""


class PatientsUnavailable(Transient):
    """Say that there is no answer now; the message holds no patient data."""


@dataclass(frozen=True, slots=True, repr=False)
class Person:
    """What is known under an accession number, None where nothing is; never printed as a whole."""

    accession_number: str
    medrec_id: str | None = None
    reg_id: str | None = None
    patient_name: str | None = None
    modality: str | None = None
    study_description: str | None = None

    def as_json(self) -> dict[str, str | None]:
        """Return the body of `/patient/by-accession`."""
        return asdict(self)


class Patients:
    """A way to ask. `knows_beforehand`: it can be asked before anything is retrieved, and a wrong number found."""

    knows_beforehand: ClassVar[bool] = True

    def __init__(self, table: PatientsTable) -> None:
        self.table = table

    def find(self, accession: AccessionNumber, files: Iterable[Path]) -> Person:
        """Return what is known; `files` are of the retrieved study, where it is retrieved.

        Raises PatientUnknown, MoreThanOnePatient, PatientsUnavailable; Configuration where a person must act.
        """
        raise NotImplementedError


def kinds() -> list[str]:
    """Return the kinds there are: the modules of this room."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def from_table(table: PatientsTable) -> Patients:
    """Return the way to ask that [patients] describes; raises Configuration where it cannot work."""
    patients: Patients = importlib.import_module(f"{__name__}.{table.kind}").PATIENTS(table)
    return patients


def found(patients: Patients, accession: AccessionNumber, files: Iterable[Path] = ()) -> Person:
    """Ask, and write a line where the answer was slow in coming; raises what `find` raises."""
    began = time.monotonic()
    try:
        return patients.find(accession, files)
    finally:
        seconds = time.monotonic() - began
        if seconds > patients.table.slow_after.total_seconds():
            emit(Event.PATIENTS_SLOW, kind=patients.table.kind, seconds=round(seconds, 1))


def text_or_none(value: Any) -> str | None:
    """Return a value as people write it, None where there is nothing; half a character becomes a question mark."""
    text = "" if value is None else str(value).strip(" \0").encode(errors="replace").decode()
    return text or None
