"""Check that all objects of a disc are of one patient; no tool for discs does (docs/adr/0006-disc.md).

DCMTK's dcmmkdir lists two patients under one study, and one patient under two names, and ends with exit code 0.
The rule itself is `dicom.same_patient`, as for everything that is sent; this module adds what only discs need.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from pipeline.dicom.patient import Patient
from pipeline.dicom.placeholders import PLACEHOLDERS
from pipeline.dicom.same_patient import Attribute, Judgement, is_placeholder, judge
from pipeline.disc.errors import NoPatientID, PatientDifference, SeveralPatients
from pipeline.disc.objects import records
from pipeline.disc.objects.entry import Entry
from pipeline.disc.verify.findings import counted

_MOST_EXAMPLES = 3
# Patient ID in the directory record of an object that may be on a disc without one.
UNKNOWN_PATIENT_ID = "UNKNOWN"
WORDS = {
    Attribute.PATIENT_ID: "Patient ID",
    Attribute.ISSUER: "Issuer of Patient ID",
    Attribute.NAME: "Patient's Name",
    Attribute.BIRTH_DATE: "Patient's Birth Date",
}
_OF_PATIENT = (records.PATIENT_ID, records.ISSUER, records.BIRTH_DATE, records.PATIENT_NAME)


def patient_of(entry: Entry) -> Patient:
    """Return the patient that an object names."""
    character_set = entry.values.get(records.CHARACTER_SET.tag, b"").decode("latin-1")
    identifier, issuer, birth_date, name = (entry.values.get(tag, b"") for tag in _OF_PATIENT)
    return Patient.read(identifier, issuer, birth_date, name, character_set)


def check_patient(
    entries: Sequence[Entry],
    *,
    placeholders: tuple[str, ...] = PLACEHOLDERS,
    allow_several_patients: bool = False,
    allow_no_patient_id: bool = False,
) -> Judgement:
    """Refuse objects of more than one patient, or without patient; return differences that are only noted.

    Raises:
        NoPatientID: some objects have no Patient ID, and `allow_no_patient_id` is False.
        SeveralPatients: its message has the attributes that differ and the accession numbers, not the values.
    """
    nameless = [entry for entry in entries if not patient_of(entry).identifier]
    if nameless and not allow_no_patient_id:
        have = "has" if len(nameless) == 1 else "have"
        raise NoPatientID(
            f"{len(nameless)} of {counted(len(entries), 'object', 'objects')} {have} no Patient ID, so that "
            f"nobody can say whose they are (accession {_listed(_accessions(nameless))})",
            [entry.source for entry in nameless[:_MOST_EXAMPLES]],
        )
    noted: dict[Attribute, None] = {}
    is_by_name = False
    for group in _by_study(entries) if allow_several_patients else [entries]:
        said = [(entry.key.study_instance_uid, patient_of(entry)) for entry in group]
        found = judge(said, placeholders)
        if not found.is_one:
            of_patient: dict[Patient, list[Entry]] = defaultdict(list)
            for (_, patient), entry in zip(said, group, strict=True):
                of_patient[patient].append(entry)
            differences = _differences(found, of_patient, placeholders)
            raise SeveralPatients(_message(differences, within_a_study=allow_several_patients), differences)
        noted |= dict.fromkeys(found.noted)
        is_by_name = is_by_name or found.is_by_name
    return Judgement((), tuple(noted), is_by_name)


def _by_study(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Group the objects by study: even if several patients are allowed, each study must belong to one."""
    studies: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        studies[entry.key.study_instance_uid].append(entry)
    return list(studies.values())


def _differences(
    found: Judgement, of_patient: Mapping[Patient, Sequence[Entry]], placeholders: tuple[str, ...]
) -> list[PatientDifference]:
    """Return each attribute in which objects contradict each other, with accession numbers and a file a side."""
    differences = []
    for attribute in found.differs:
        sides: dict[str, list[Entry]] = defaultdict(list)
        patients = dict.fromkeys(
            patient
            for contradiction in found.contradictions
            if attribute in contradiction.differs
            for patient in (contradiction.one, contradiction.other)
        )
        for patient in patients:
            is_unproven = attribute is Attribute.PATIENT_ID and is_placeholder(patient.identifier, placeholders)
            for entry in of_patient[patient]:
                sides[entry.key.study_instance_uid if is_unproven else _value(patient, attribute)].append(entry)
        differences.append(
            PatientDifference(
                WORDS[attribute],
                tuple(tuple(_accessions(side)) for side in sides.values()),
                tuple(sides),
                tuple(side[0].source for side in sides.values()),
                is_unproven=len(sides) < 2
                or any(is_placeholder(patient.identifier, placeholders) for patient in patients),
            )
        )
    return differences


def _value(patient: Patient, attribute: Attribute) -> str:
    return {
        Attribute.PATIENT_ID: patient.identifier,
        Attribute.ISSUER: patient.issuer,
        Attribute.NAME: patient.name,
        Attribute.BIRTH_DATE: patient.birth_date,
    }[attribute]


def _accessions(entries: Iterable[Entry]) -> list[str]:
    return list(dict.fromkeys(entry.text(records.ACCESSION) or "none" for entry in entries))


def _listed(accessions: Sequence[str], limit: int = 5) -> str:
    shown = ", ".join(accessions[:limit])
    return f"{shown} and {len(accessions) - limit} more" if len(accessions) > limit else shown


def _message(differences: Sequence[PatientDifference], *, within_a_study: bool) -> str:
    sentences = []
    for difference in differences:
        sides = " and accession ".join(_listed(side) for side in difference.accession_numbers[:3])
        if not difference.is_unproven:
            sentences.append(f"{difference.attribute} differs between accession {sides}")
        else:
            sentences.append(
                f"{difference.attribute} of accession {sides} does not prove that they are of one patient"
            )
    where = "one study holds more than one patient" if within_a_study else "more than one patient"
    return f"{where}: {'; '.join(sentences)}"
