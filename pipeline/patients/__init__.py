"""Sources of a patient's name and ID: one file for each kind, named as in `[patients] kind = "..."`.

The answer goes to the caller and is kept nowhere: not in the ledger, not in a log line.
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
from pipeline.dicom.person_names import groups_of
from pipeline.dicom.same_patient import is_placeholder
from pipeline.errors import Permanent, Transient
from pipeline.events import Event, emit

FIELDS = ("medrec_id", "reg_id", "patient_name", "modality", "study_description")
WHO = ("medrec_id", "patient_name")  # A known patient has at least one of these.
# What programs write where they know nothing, besides the placeholders of a Patient ID.
_NOTHING = frozenset({"false", "nil", "undefined", "not found", "no data", "no encontrado", "tidak ditemukan"})


class PatientUnknown(Permanent):
    """Say that the source knows no such accession number."""


class MoreThanOnePatient(Permanent):
    """Say that one accession number stands for two patients there; nothing may be made from it."""


class PatientsUnavailable(Transient):
    """Say that there is no answer now; the message holds no patient data."""


@dataclass(frozen=True, slots=True, repr=False)
class Person:
    """What is known under an accession number, None if unknown; never printed as a whole."""

    accession_number: str
    medrec_id: str | None = None
    reg_id: str | None = None
    patient_name: str | None = None
    modality: str | None = None
    study_description: str | None = None

    def as_json(self) -> dict[str, str | None]:
        """Return the JSON body of `/patient/by-accession`."""
        return asdict(self)


class Patients:
    """A source of patient names. `knows_beforehand`: it can be asked before any study is retrieved."""

    knows_beforehand: ClassVar[bool] = True

    def __init__(self, table: PatientsTable) -> None:
        self.table = table

    def find(self, accession: AccessionNumber, files: Iterable[Path]) -> Person:
        """Return what is known; `files` are files of the study, if it has been retrieved.

        Raises PatientUnknown, MoreThanOnePatient, PatientsUnavailable; Configuration if a person must act.
        """
        raise NotImplementedError


def kinds() -> list[str]:
    """Return the names of the kinds: the modules of this room."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def from_table(table: PatientsTable) -> Patients:
    """Return the source that [patients] describes; raises Configuration if it cannot work."""
    patients: Patients = importlib.import_module(f"{__name__}.{table.kind}").PATIENTS(table)
    return patients


def found(patients: Patients, accession: AccessionNumber, files: Iterable[Path] = ()) -> Person:
    """Ask, and log a line if the answer was slow; raises as `find` does."""
    began = time.monotonic()
    try:
        return patients.find(accession, files)
    finally:
        seconds = time.monotonic() - began
        if seconds > patients.table.slow_after.total_seconds():
            emit(Event.PATIENTS_SLOW, kind=patients.table.kind, seconds=round(seconds, 1))


def told(field: str, value: Any) -> str | None:
    """Return a field of an answer as `text_or_none` does; None too if it is one of WHO and says nothing."""
    text = None if value is False else text_or_none(value)
    if text is None or field not in WHO:
        return text
    is_nothing = is_placeholder(text) or text.casefold() in _NOTHING or not groups_of(text)
    return None if is_nothing else text


def text_or_none(value: Any) -> str | None:
    """Return a value as people write it, None if it is empty; half a character becomes a question mark."""
    text = "" if value is None else str(value).strip(" \0").encode(errors="replace").decode()
    return text or None
