"""The one rule for whether two sources speak of one patient; docs/orders.md has it as a table.

Disc, print, forward and send ask this rule before anything leaves. It compares the sources: the HIS, the answers
of the PACS, and the images. It reads no ledger, and knows no peer and no order.

`person_names` tells whether two spellings may be one person's name.
"""

import functools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

from pipeline.dicom.patient import Patient
from pipeline.dicom.person_names import groups_of, is_new_family_name, names_agree, names_equal
from pipeline.dicom.placeholders import PLACEHOLDERS

MOST_WAYS = 500  # Most spellings of one patient within one order or disc; more are refused.


class Attribute(StrEnum):
    """The attributes in which two sources can differ; the values stand in JSON."""

    PATIENT_ID = "patient_id"
    ISSUER = "issuer_of_patient_id"
    NAME = "patient_name"
    BIRTH_DATE = "patient_birth_date"


@dataclass(frozen=True, slots=True)
class PatientComparison:
    """What two patients differ in: `differs` makes them two persons, `noted` does not.

    `is_by_name` says that a Patient ID was a placeholder, so that name and birth date had to decide.
    """

    differs: tuple[Attribute, ...] = ()
    noted: tuple[Attribute, ...] = ()
    is_by_name: bool = False


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two patients that cannot be one person, or one patient whose placeholder ID covers several studies."""

    one: Patient
    other: Patient
    differs: tuple[Attribute, ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on the patients of several studies: one patient, unless there are contradictions."""

    contradictions: tuple[Contradiction, ...] = ()
    noted: tuple[Attribute, ...] = ()
    is_by_name: bool = False

    @property
    def is_one(self) -> bool:
        """Say whether no contradiction was found."""
        return not self.contradictions

    @property
    def differs(self) -> tuple[Attribute, ...]:
        """Return every attribute that contradicts, each once, in the order of `Attribute`."""
        return _ordered(attribute for contradiction in self.contradictions for attribute in contradiction.differs)


UNDISPUTED = Judgement()  # The verdict on a single patient.


def normalised_identifier(identifier: str) -> str:
    """Return a Patient ID without padding and case, in one Unicode form: equal IDs become equal texts."""
    return unicodedata.normalize("NFC", identifier).strip(" \0\t\r\n").casefold()


def unpadded_identifier(identifier: str) -> str:
    """Return a Patient ID without blanks around it, case and leading zeros, as one system may write it twice.

    Separators count: where one system writes 1-23 and 12-3, it means two patients.
    """
    return normalised_identifier(identifier).lstrip("0")


def bare_identifier(identifier: str) -> str:
    """Return a Patient ID without case, blanks, separators and leading zeros, as other systems may write it."""
    plain = re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", identifier).casefold())
    return plain.lstrip("0")


def is_placeholder(identifier: str, placeholders: tuple[str, ...] = PLACEHOLDERS) -> bool:
    """Tell whether a Patient ID proves nothing: it has no letter or digit, or equals a placeholder in any case.

    The placeholder `0` stands for any number of zeros, with separators between them too.
    """
    plain, known = normalised_identifier(identifier), _normalised(placeholders)
    return plain in known or (not bare_identifier(plain) and ("0" in known or "0" not in plain))


@functools.lru_cache(maxsize=16)
def _normalised(placeholders: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(normalised_identifier, placeholders))


def compare(
    one: Patient,
    other: Patient,
    placeholders: tuple[str, ...] = PLACEHOLDERS,
    *,
    is_same_study: bool,
    ignores_case: bool = False,
) -> PatientComparison:
    """Return what two patients differ in; the order of the two does not matter.

    `is_same_study`: both are said of one study. `ignores_case`: the two are different sources, and one may write
    Patient IDs in another case; within one source case counts (LO, PS3.5 6.2).
    """
    if is_placeholder(one.identifier, placeholders) or is_placeholder(other.identifier, placeholders):
        return _by_name(one, other, placeholders, is_same_study=is_same_study)
    a, b = one.identifier, other.identifier
    if ignores_case:
        a, b = normalised_identifier(a), normalised_identifier(b)
    differs = [Attribute.PATIENT_ID] if a != b else []
    if _differ(normalised_identifier(one.issuer), normalised_identifier(other.issuer)):
        differs.append(Attribute.ISSUER)
    noted: list[Attribute] = []
    if _names_differ(one, other):
        kept = not differs and _is_day(one.birth_date) and one.birth_date == other.birth_date
        is_new = kept and is_new_family_name(one.name, other.name)
        (noted if is_new else differs).append(Attribute.NAME)
    if dates_differ(one.birth_date, other.birth_date):
        differs.append(Attribute.BIRTH_DATE)
    return PatientComparison(tuple(differs), tuple(noted))


def _by_name(
    one: Patient, other: Patient, placeholders: tuple[str, ...], *, is_same_study: bool
) -> PatientComparison:
    """Compare by name and birth date if a Patient ID proves nothing; over several studies both must be equal."""
    differs = []
    if _names_differ(one, other) or not (is_same_study or names_equal(one.name, other.name, placeholders)):
        differs.append(Attribute.NAME)
    dates = one.birth_date, other.birth_date
    if dates_differ(*dates) or not (is_same_study or (_is_day(dates[0]) and dates[0] == dates[1])):
        differs.append(Attribute.BIRTH_DATE)
    if differs and not is_same_study:
        differs.insert(0, Attribute.PATIENT_ID)
    return PatientComparison(tuple(differs), is_by_name=True)


def judge(said: Iterable[tuple[str, Patient]], placeholders: tuple[str, ...] = PLACEHOLDERS) -> Judgement:
    """Return whether all these patients are one person; each comes with its Study Instance UID.

    A patient with a placeholder belongs to its study's patient if another instance of that study has a Patient ID,
    and must not contradict it. Otherwise it must be proven equal to the patient of every other study.
    """
    studies: dict[Patient, set[str]] = defaultdict(set)
    for study, patient in said:
        studies[patient].add(study)
    patients = list(studies)
    if len(patients) > MOST_WAYS:
        return Judgement((Contradiction(patients[0], patients[-1], tuple(Attribute)),))
    nameless = {patient for patient in patients if is_placeholder(patient.identifier, placeholders)}
    identified = {study for patient in patients if patient not in nameless for study in studies[patient]}
    unproven = {patient for patient in nameless if not studies[patient] <= identified}
    pairs = [*((patient, patient) for patient in patients if patient in unproven), *combinations(patients, 2)]
    contradictions, noted = [], set[Attribute]()
    for one, other in pairs:
        needs_proof = len(studies[one] | studies[other]) > 1 and bool(unproven & {one, other})
        found = compare(one, other, placeholders, is_same_study=not needs_proof)
        noted.update(found.noted)
        if found.differs:
            contradictions.append(Contradiction(one, other, found.differs))
    return Judgement(tuple(contradictions), _ordered(noted), bool(nameless))


def _ordered(attributes: Iterable[Attribute]) -> tuple[Attribute, ...]:
    found = set(attributes)
    return tuple(attribute for attribute in Attribute if attribute in found)


def _differ(one: str, other: str) -> bool:
    return bool(one and other) and one != other


_DATE = re.compile(r"(\d{4})(\d\d)?(\d\d)?")


def dates_differ(one: str, other: str) -> bool:
    """Tell whether two birth dates cannot be one day; an empty one contradicts nothing.

    A year, a month (also written with zeros for the rest) and a range stand for each of their days.
    """
    if not (one and other) or one == other:
        return False
    a, b = _days(one), _days(other)
    return a is None or b is None or max(a[0], b[0]) > min(a[1], b[1])


def _days(date: str) -> tuple[str, str] | None:
    """Return the first and the last day a date may be, None if it cannot be read."""
    first, _, last = date.partition("-")
    ends = [_DATE.fullmatch(end) for end in (first, last or first)]
    if None in ends:
        return None
    known = [tuple("" if part in {None, "00"} else part for part in end.groups()) for end in ends if end]
    begin, end = (
        "".join(part or least for part, least in zip(parts, limits, strict=True))
        for parts, limits in zip(known, (("", "01", "01"), ("", "12", "31")), strict=True)
    )
    return begin, end


def _is_day(date: str) -> bool:
    return bool(_DATE.fullmatch(date)) and _days(date) == (date, date)


def _names_differ(one: Patient, other: Patient) -> bool:
    is_told = groups_of(one.name) and groups_of(other.name)
    return bool(is_told) and not names_agree(one.name, other.name)
