"""Ask the HIS for the patient of each accession number of an order, and compare its answers with the PACS's.

The answers are compared in memory and never stored: only the names of attributes are kept.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

from pipeline import patients
from pipeline.config.order_tables import PatientsTable
from pipeline.dicom.accession import AccessionNumber
from pipeline.dicom.patient import Patient
from pipeline.dicom.person_names import groups_of, names_agree, names_are_enough
from pipeline.dicom.same_patient import (
    Attribute,
    PatientComparison,
    bare_identifier,
    is_placeholder,
    unpadded_identifier,
)
from pipeline.orders.compare_sources import Findings, IdentitySource, SourceDifference, SourceStatement
from pipeline.patients import MoreThanOnePatient, Person

# Responses to these verbs name no patient, so their orders go on if the HIS is unavailable.
GO_ON_WITHOUT = frozenset({"download", "forward"})


def is_asked_beforehand(table: PatientsTable) -> bool:
    """Say whether there is a HIS to ask: some sites get the patient's name from the images."""
    return patients.from_table(table).knows_beforehand


def ask(
    verb: str, accessions: Sequence[AccessionNumber], table: PatientsTable
) -> tuple[dict[str, Person], Findings]:
    """Return the person whom the HIS names for each accession number, and contradictions among its answers.

    If the order can go on without an answer, the HIS is asked without retries, because a person waits. Raises
    PatientUnknown, PatientsUnavailable and Configuration as `Patients.find` does.
    """
    source = patients.from_table(table.model_copy(update={"retries": 0}) if verb in GO_ON_WITHOUT else table)
    people: dict[str, Person] = {}
    findings = Findings()
    for accession in accessions:
        try:
            people[accession] = patients.found(source, accession)
        except MoreThanOnePatient:
            findings |= Findings((SourceDifference(accession, (IdentitySource.HIS,), (Attribute.PATIENT_ID,)),))
    return people, findings | among(people, table)


def among(people: Mapping[str, Person], table: PatientsTable) -> Findings:
    """Compare the answers of the HIS about several accession numbers with each other."""
    differs: dict[str, set[Attribute]] = {}
    for first, other in combinations(people.items(), 2):
        if attribute := in_what_two(first[1], other[1], table):
            for number in (first[0], other[0]):
                differs.setdefault(number, set()).add(attribute)
    return Findings(
        tuple(
            SourceDifference(number, (IdentitySource.HIS,), tuple(sorted(found)))
            for number, found in differs.items()
        )
    )


def in_what_two(one: Person, other: Person, table: PatientsTable) -> Attribute | None:
    """Return the attribute that shows that two answers of the HIS are of two persons, None if none does.

    The HIS writes its own IDs in one way, so the IDs decide if both are there; otherwise the names decide.
    """
    if one.medrec_id and other.medrec_id:
        is_another = unpadded_identifier(one.medrec_id) != unpadded_identifier(other.medrec_id)
        return Attribute.PATIENT_ID if is_another else None
    return Attribute.NAME if _names(one.patient_name, other.patient_name, table) is False else None


def his_and_pacs(
    people: Mapping[str, Person],
    named: Sequence[SourceStatement],
    table: PatientsTable,
    placeholders: tuple[str, ...],
) -> Findings:
    """Compare the person whom the HIS names for each accession number with the patients whom the PACS names."""
    differing, noted = [], []
    for statement in dict.fromkeys(named):
        if statement.accession_number in people:
            found = _compare(people[statement.accession_number], statement.patient, table, placeholders)
            between = (IdentitySource.HIS, IdentitySource.PACS)
            if found.differs:
                differing.append(SourceDifference(statement.accession_number, between, found.differs))
            if found.noted:
                noted.append(SourceDifference(statement.accession_number, between, found.noted))
    return Findings(tuple(differing), tuple(noted))


def _compare(
    person: Person, patient: Patient, table: PatientsTable, placeholders: tuple[str, ...]
) -> PatientComparison:
    """Compare one answer of the HIS with one of the PACS; the HIS gives no birth date, so none is compared.

    Different IDs may be one person's, written differently or by another system, if the names have enough in
    common; different names may be one person's if the IDs agree. Otherwise the answers are of two persons.
    """
    ids = _ids(person.medrec_id or "", patient.identifier, table, placeholders)
    names = _names(person.patient_name, patient.name, table)
    other_name = (Attribute.NAME,) if names is False else ()
    if ids:
        return PatientComparison((), other_name)
    if ids is None:
        return PatientComparison(other_name)
    if names_are_enough(person.patient_name or "", patient.name, table.titles):
        return PatientComparison((), (Attribute.PATIENT_ID,))
    return PatientComparison((Attribute.PATIENT_ID, *other_name))


def _ids(one: str, other: str, table: PatientsTable, placeholders: tuple[str, ...]) -> bool | None:
    """Tell whether two IDs are the same, None if they cannot be compared."""
    if table.patient_id == "other" or is_placeholder(one, placeholders) or is_placeholder(other, placeholders):
        return None
    return bare_identifier(one) == bare_identifier(other)


def _names(one: str | None, other: str | None, table: PatientsTable) -> bool | None:
    """Tell whether two names agree, None if one of them is empty."""
    if not (groups_of(one or "") and groups_of(other or "")):
        return None
    return names_agree(one or "", other or "", table.titles)
