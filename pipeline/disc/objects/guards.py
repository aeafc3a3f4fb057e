"""Whose disc it is: decided before any tool sees a file, because no tool decides it (docs/adr/0006-disc.md).

DCMTK's dcmmkdir lists two patients under one study, and one patient under two names, and ends with exit code 0.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.disc.errors import Difference, NoPatientID, SeveralPatients
from pipeline.disc.objects import records
from pipeline.disc.objects.entry import Entry
from pipeline.disc.verify.findings import counted

_ACCENTS = re.compile("([A-Za-z])[\u0300-\u036f]+")  # the block of combining marks, behind a Latin letter
_MOST_EXAMPLES = 3
UNKNOWN_PATIENT_ID = "UNKNOWN"  # in the directory record, where a person allowed a disc without Patient ID


@dataclass(frozen=True, slots=True)
class Identity:
    """The patient as one object tells it, made comparable; empty where it does not tell."""

    patient_id: str
    issuer: str
    name: str
    birth_date: str

    @classmethod
    def of(cls, entry: Entry) -> "Identity":
        """Return the identity an object claims."""
        return cls(
            patient_id=entry.text(records.PATIENT_ID),
            issuer=entry.text(records.ISSUER),
            name=comparable_name(entry.text(records.PATIENT_NAME)),
            birth_date=entry.text(records.BIRTH_DATE).replace(".", ""),  # as written before DICOM 3.0
        )


def comparable_name(name: str) -> str:
    """Return a person name so that spellings of the same name are equal: case, accents, blanks, `^` at the end.

    Accents are those of Latin letters; in other scripts the marks make other letters.
    The alphabetic group alone is compared where there is one: the others are not sent by every machine.
    """
    group = next((group for group in name.split("=") if group.strip(" ^")), "")
    letters = unicodedata.normalize("NFKD", group)
    plain = _ACCENTS.sub(r"\1", letters)
    return " ".join(re.split(r"[\^\s,]+", plain.casefold())).strip()


def check_patient(
    entries: Sequence[Entry], *, allow_several_patients: bool = False, allow_no_patient_id: bool = False
) -> None:
    """Refuse objects of more than one patient, or of nobody's.

    An empty issuer, name or birth date contradicts nothing; an empty Patient ID does, for it is all that
    ties objects to a person.

    Raises:
        NoPatientID: objects without Patient ID, unless allowed.
        SeveralPatients: naming the attributes that differ and the accession numbers concerned, not the values.
    """
    nameless = [entry for entry in entries if not entry.text(records.PATIENT_ID)]
    if nameless and not allow_no_patient_id:
        raise NoPatientID(
            f"{_of(nameless, entries)} no Patient ID, so that nobody can say whose they are "
            f"(accession {_listed(_accessions(nameless))})",
            _examples(nameless),
        )
    groups = _by_study(entries) if allow_several_patients else [list(entries)]
    for group in groups:
        without = [entry for entry in group if not entry.text(records.PATIENT_ID)]
        if without and len(without) < len(group):
            raise NoPatientID(
                f"{_of(without, group)} no Patient ID, and the others have one: nobody can "
                f"say that they are of the same patient (accession {_listed(_accessions(without))})",
                _examples(without),
            )
        differences = list(_differences(group))
        if differences:
            raise SeveralPatients(_message(differences, within_a_study=allow_several_patients), differences)


def _by_study(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Group by study: even where several patients are allowed, a study is of one."""
    studies: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        studies[entry.key.study_instance_uid].append(entry)
    return list(studies.values())


_CLAIMS: tuple[tuple[str, Callable[[Identity], str]], ...] = (
    ("Patient ID", lambda identity: identity.patient_id),
    ("Issuer of Patient ID", lambda identity: identity.issuer),
    ("Patient's Name", lambda identity: identity.name),
    ("Patient's Birth Date", lambda identity: identity.birth_date),
)


def _differences(entries: Sequence[Entry]) -> Iterator[Difference]:
    identities = [(Identity.of(entry), entry) for entry in entries]
    for attribute, claim in _CLAIMS:
        sides: dict[str, list[Entry]] = defaultdict(list)
        for identity, entry in identities:
            if value := claim(identity):
                sides[value].append(entry)
        if len(sides) > 1:
            accessions = tuple(tuple(_accessions(side)) for side in sides.values())
            examples = tuple(side[0].source for side in sides.values())
            yield Difference(attribute, accessions, tuple(sides), examples)


def _accessions(entries: Sequence[Entry]) -> list[str]:
    return list(dict.fromkeys(entry.text(records.ACCESSION) or "none" for entry in entries))


def _of(some: Sequence[Entry], group: Sequence[Entry]) -> str:
    return f"{len(some)} of {counted(len(group), 'object', 'objects')} {'has' if len(some) == 1 else 'have'}"


def _examples(entries: Sequence[Entry]) -> list[Path]:
    return [entry.source for entry in entries[:_MOST_EXAMPLES]]


def _listed(accessions: Sequence[str], limit: int = 5) -> str:
    shown = ", ".join(accessions[:limit])
    return f"{shown} and {len(accessions) - limit} more" if len(accessions) > limit else shown


def _message(differences: Sequence[Difference], *, within_a_study: bool) -> str:
    sentences = []
    for one in differences:
        sides = " and accession ".join(_listed(side) for side in one.accession_numbers[:3])
        sentences.append(f"{one.attribute} differs between accession {sides}")
    where = "one study holds more than one patient" if within_a_study else "more than one patient"
    return f"{where}: {'; '.join(sentences)}"
