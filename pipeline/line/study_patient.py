"""Detect two patients under one Study Instance UID, from a modality that was not told of the next patient.

The Patient ID of the first received instance decides (with the issuer, if both have one), as received and before
coercion; a placeholder neither decides nor contradicts. Different names and birth dates are only noted. The ledger
has keyed hashes only, and the key is in the spool: from the ledger alone nobody can read or guess an ID, or tell
which studies belong to one patient.
"""

import hashlib
import hmac
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.dicom.patient import Patient
from pipeline.dicom.person_names import comparable_name
from pipeline.dicom.same_patient import is_placeholder, normalised_identifier
from pipeline.ledger import study_patients
from pipeline.ledger.scope import Scope
from pipeline.line.identify import IdentifiedFile
from pipeline.site.site import Site
from pipeline.spool.durable import unlink
from pipeline.spool.key_file import key_in
from pipeline.spool.spool import Spool

KEY_FILE = "study-patients.key"  # Name of the file in the spool.
OTHER_PATIENT = "its Patient ID is another one than its study began with"


@dataclass(frozen=True, slots=True)
class PatientHashes:
    """Keyed hashes of an instance's patient attributes; a hash is "" if the attribute has no value."""

    identifier: str
    issuer: str
    name: str
    birth_date: str

    def is_same(self, other: "PatientHashes") -> bool:
        """Tell whether Patient ID and issuer do not contradict each other."""
        return self.identifier == other.identifier and not _differ(self.issuer, other.issuer)


def _differ(one: str, other: str) -> bool:
    return bool(one and other) and one != other


def marks_of(
    study: str, patient: Patient | None, placeholders: tuple[str, ...], spool: Spool
) -> PatientHashes | None:
    """Return a patient's hashes within a study, None if the Patient ID proves nothing; raises as `key_in`."""
    if patient is None or is_placeholder(patient.identifier, placeholders):
        return None
    key = key_in(spool.store / KEY_FILE)

    def mark(what: str, value: str) -> str:
        return hmac.new(key, f"{what}\0{study}\0{value}".encode(), hashlib.sha256).hexdigest() if value else ""

    return PatientHashes(
        mark("patient-id", normalised_identifier(patient.identifier)),
        mark("issuer", normalised_identifier(patient.issuer)),
        mark("name", comparable_name(patient.name)),
        mark("birth-date", patient.birth_date),
    )


def drop_unfinished_key(spool: Spool) -> None:
    """Delete the unfinished file of a worker that was killed while it made the key.

    In a store of several nodes it stays: it is small, and another node may be making it now.
    """
    if not spool.has_store:
        for unfinished in spool.store.glob(f".{KEY_FILE}.*.part"):
            unlink(unfinished, missing_ok=True)


class StudyPatients:
    """The patients of the studies of one arrival: the known ones, and in `new` those that the arrival adds."""

    def __init__(self, arrival: str, scopes: Mapping[Scope, Iterable[str]], site: Site) -> None:
        """Read the known patients of the arrival's studies; `scopes` has the studies by scope."""
        self._arrival = arrival
        self._site = site
        self._accepted: dict[tuple[Scope, str], list[PatientHashes]] = {}
        self._marks: dict[tuple[str, Patient | None], PatientHashes | None] = {}  # Most files are of one patient.
        self.new: list[dict[str, Any]] = []
        self.noted: dict[str, set[str]] = {}
        with site.ledger.reading() as look:
            for scope, studies in scopes.items():
                for row in study_patients.of_studies(look, scope, sorted(set(studies))):
                    marks = PatientHashes(row.identifier, row.issuer, row.name, row.birth_date)
                    self._accepted.setdefault((scope, row.study_instance_uid), []).append(marks)

    def is_another(self, scope: Scope, found: IdentifiedFile) -> bool:
        """Tell whether a sound file is of another patient than its study.

        If the study has no patient yet, the patient in this file decides from now on.
        """
        assert found.key is not None
        study = found.key.study_instance_uid
        who = study, found.patient
        if who not in self._marks:
            placeholders = self._site.settings.site.placeholder_ids
            self._marks[who] = marks_of(study, found.patient, placeholders, self._site.spool)
        marks = self._marks[who]
        if marks is None:
            return False
        accepted = self._accepted.setdefault((scope, study), [])
        if not accepted:
            accepted.append(marks)
            self.new.append({**row_of(scope, study, marks, self._arrival), "is_first": True})
        same = [one for one in accepted if one.is_same(marks)]
        if same:
            self._note(study, marks, same[0])
        return not same

    def _note(self, study: str, marks: PatientHashes, first: PatientHashes) -> None:
        differs = {what for what in ("name", "birth_date") if _differ(getattr(marks, what), getattr(first, what))}
        if differs:
            self.noted.setdefault(study, set()).update(f"patient_{what}" for what in differs)


def row_of(
    scope: Scope, study: str, marks: PatientHashes, arrival: str, reason: str | None = None
) -> dict[str, Any]:
    """Return the row that adds a patient to a study, with the arrival that brought the patient."""
    about = {"scope": scope, "study_instance_uid": study, "is_first": False, "reason": reason, "at": time.time()}
    return {**about, **asdict(marks), "arrival": arrival}
