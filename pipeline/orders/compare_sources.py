"""Compare what the sources of an order say of its patient: the HIS, the PACS, the images.

All functions here are pure. A result has accession numbers, sources and attributes, never a value: it is for the
ledger, for JSON and for a page that says whom to ask.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Self

from pipeline.dicom.patient import Patient
from pipeline.dicom.same_patient import Attribute, PatientComparison, compare, judge


class IdentitySource(StrEnum):
    """A source that names a study's patient; the values appear in JSON."""

    HIS = "his"
    PACS = "pacs"
    IMAGES = "images"


class HisAnswer(StrEnum):
    """Whether the HIS was asked whose an order's studies are; the values stand in the ledger."""

    ASKED = "asked"
    NOT_ASKED = "not asked"  # It could not be asked, and the order went on without.
    UNKNOWN = "unknown"  # It knows no patient for the accession number, and the order went on without.

    @classmethod
    def read(cls, row: Mapping[str, Any] | None) -> Self | None:
        """Return what the ledger has of an order, None if there is no HIS to ask, or nobody has asked yet."""
        written = (row or {}).get("his")
        return None if written is None else cls(written)


class SourceStatement(NamedTuple):
    """The patient whom one source names for one study, under the accession number that was requested."""

    accession_number: str
    study_instance_uid: str
    patient: Patient


@dataclass(frozen=True, slots=True)
class SourceDifference:
    """The attributes in which sources differ about an accession number.

    If `between` has one source only, this source contradicts itself: the order is about two patients.
    """

    accession_number: str
    between: tuple[IdentitySource, ...]
    attributes: tuple[Attribute, ...]

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Self:
        """Return the difference from its form in the ledger."""
        return cls(row["accession_number"], tuple(row["between"]), tuple(row["attributes"]))

    def as_row(self) -> dict[str, Any]:
        """Return the difference in its form for the ledger and JSON."""
        return {
            "accession_number": self.accession_number,
            "between": [str(source) for source in self.between],
            "attributes": [str(attribute) for attribute in self.attributes],
        }


@dataclass(frozen=True, slots=True)
class Findings:
    """The result of a comparison: `differing` are contradictions, `noted` are differences that stop nothing."""

    differing: tuple[SourceDifference, ...] = ()
    noted: tuple[SourceDifference, ...] = ()

    def __or__(self, more: "Findings") -> "Findings":
        """Return the differences of both findings, each once."""
        return Findings(
            tuple(dict.fromkeys((*self.differing, *more.differing))),
            tuple(dict.fromkeys((*self.noted, *more.noted))),
        )

    @classmethod
    def read(cls, row: Mapping[str, Any] | None) -> Self:
        """Return the findings that the ledger has for an order, empty if there are none yet."""
        found = row or {}
        differing, noted = (
            tuple(map(SourceDifference.read, found.get(key, ()))) for key in ("differing", "noted")
        )
        return cls(differing, noted)

    def as_row(self, row: Mapping[str, Any] | None, more: Mapping[str, Any]) -> dict[str, Any]:
        """Return the new value for the ledger: these findings, `more` facts, and the rest of `row`."""
        mine = {
            "differing": [difference.as_row() for difference in self.differing],
            "noted": [difference.as_row() for difference in self.noted],
        }
        return {**(row or {}), **mine, **more}

    @property
    def may_be_allowed(self) -> bool:
        """Say whether a person may accept the contradictions, because no source contradicts itself."""
        return all(len(difference.between) > 1 for difference in self.differing)


def within(source: IdentitySource, said: Sequence[SourceStatement], placeholders: tuple[str, ...]) -> Findings:
    """Compare all statements of one source with each other."""
    judgement = judge([(statement.study_instance_uid, statement.patient) for statement in said], placeholders)
    numbers: dict[Patient, dict[str, None]] = {}
    for statement in said:
        numbers.setdefault(statement.patient, {})[statement.accession_number] = None
    differs: dict[str, set[Attribute]] = {}
    for found in judgement.contradictions:
        for number in (*numbers[found.one], *numbers[found.other]):
            differs.setdefault(number, set()).update(found.differs)
    noted = {*judgement.noted, *({Attribute.PATIENT_ID} if judgement.is_by_name else ())}
    everything = dict.fromkeys(statement.accession_number for statement in said) if noted else {}
    return Findings(
        tuple(_difference(number, (source,), attributes) for number, attributes in differs.items()),
        tuple(_difference(number, (source,), noted) for number in everything),
    )


def pacs_and_images(
    named: Mapping[str, Iterable[Patient]],
    came: Iterable[SourceStatement],
    placeholders: tuple[str, ...],
    *,
    by_patient_id: bool,
) -> Findings:
    """Compare the patient in every image with the patients that the PACS names for its study, in `named`.

    `by_patient_id` is for a PACS that corrects names and birth dates in its database only: then only the Patient
    ID must agree; if it proves nothing, the other attributes decide.
    """
    differs: dict[str, set[Attribute]] = {}
    noted: dict[str, set[Attribute]] = {}
    for number, study, patient in dict.fromkeys(came):
        for one in named.get(study, ()):
            found = compare(one, patient, placeholders, is_same_study=True, ignores_case=True)
            if by_patient_id and not found.is_by_name:
                found = _by_patient_id(found)
            differs.setdefault(number, set()).update(found.differs)
            noted.setdefault(number, set()).update(found.noted)
    between = (IdentitySource.PACS, IdentitySource.IMAGES)
    return Findings(
        tuple(_difference(number, between, attributes) for number, attributes in differs.items() if attributes),
        tuple(_difference(number, between, attributes) for number, attributes in noted.items() if attributes),
    )


def _by_patient_id(found: PatientComparison) -> PatientComparison:
    ids = (Attribute.PATIENT_ID, Attribute.ISSUER)
    rest = tuple(attribute for attribute in (*found.differs, *found.noted) if attribute not in ids)
    return PatientComparison(tuple(attribute for attribute in found.differs if attribute in ids), rest)


def _difference(
    number: str, between: tuple[IdentitySource, ...], attributes: Iterable[Attribute]
) -> SourceDifference:
    found = set(attributes)
    return SourceDifference(number, between, tuple(attribute for attribute in Attribute if attribute in found))


_SOURCES = {
    IdentitySource.HIS: "the information system",
    IdentitySource.PACS: "the PACS",
    IdentitySource.IMAGES: "the images",
}
_ATTRIBUTES = {
    Attribute.PATIENT_ID: "Patient ID",
    Attribute.ISSUER: "issuer of the Patient ID",
    Attribute.NAME: "name",
    Attribute.BIRTH_DATE: "birth date",
}
_MOST_SENTENCES = 5


def sentence(findings: Findings) -> str:
    """Return the first contradictions as a sentence for a log and for technical support, without values."""
    parts = []
    for difference in findings.differing[:_MOST_SENTENCES]:
        sources = " and ".join(_SOURCES[source] for source in difference.between)
        attributes = ", ".join(_ATTRIBUTES[attribute] for attribute in difference.attributes)
        verb = (
            "differ"
            if len(difference.between) > 1 or difference.between[0] is IdentitySource.IMAGES
            else "names two patients, who differ"
        )
        parts.append(f"{sources} {verb} in {attributes} ({difference.accession_number})")
    more = len(findings.differing) - _MOST_SENTENCES
    return "; ".join([*parts, *([f"and {more} more"] if more > 0 else [])])
