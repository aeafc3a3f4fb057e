"""Whose disc it is: one patient's, or nobody's, and then there is none."""

from pathlib import Path

import pytest

from pipeline.dicom.person_names import comparable_name
from pipeline.disc.errors import NoPatientID, SeveralPatients
from pipeline.disc.objects import records
from pipeline.disc.objects.entry import Entry
from pipeline.disc.objects.one_patient import check_patient
from pipeline.model import InstanceKey


def entry(
    number: int = 1,
    *,
    patient_id: str = "P1",
    name: str = "Doe^Jane",
    issuer: str = "",
    birth_date: str = "19700101",
    accession: str = "A1",
    study: str = "1.2.1",
    character_set: str = "ISO_IR 192",
) -> Entry:
    texts = {
        records.CHARACTER_SET.tag: character_set,
        records.PATIENT_ID: patient_id,
        records.PATIENT_NAME: name,
        records.ISSUER: issuer,
        records.BIRTH_DATE: birth_date,
        records.ACCESSION: accession,
    }
    codec = {"ISO_IR 192": "utf-8", "ISO_IR 100": "latin-1"}[character_set]
    return Entry(
        source=Path("a"),
        path=Path("a"),
        size=1,
        source_sha256="",
        sha256="",
        key=InstanceKey(study, f"{study}.1", f"{study}.1.{number}"),
        sop_class_uid="",
        transfer_syntax_uid="",
        is_part_10=True,
        data_set=0,
        pixel_bytes=0,
        values={tag: text.encode(codec) for tag, text in texts.items() if text},
    )


def test_objects_of_one_patient_pass():
    check_patient([entry(1), entry(2, accession="B2", study="1.2.2")])


@pytest.mark.parametrize(
    ("attribute", "other"),
    [
        ("Patient ID", {"patient_id": "P2"}),
        ("Patient ID", {"patient_id": "p1"}),
        ("Patient's Name", {"name": "Doe^John"}),
        ("Patient's Birth Date", {"birth_date": "19700102"}),
    ],
)
def test_two_patients_are_refused_and_the_accession_numbers_that_differ_are_named(attribute, other):
    with pytest.raises(SeveralPatients) as refusal:
        check_patient([entry(1), entry(2, accession="B2", study="1.2.2", **other)])
    assert f"{attribute} differs between accession A1 and accession B2" in str(refusal.value)
    assert refusal.value.kind == "more than one patient"
    (difference,) = refusal.value.differences
    assert difference.accession_numbers == (("A1",), ("B2",))
    for value in ("P1", "P2", "Doe", "doe", "1970"):
        assert value not in str(refusal.value)


def test_two_issuers_of_the_same_patient_id_are_two_patients():
    with pytest.raises(SeveralPatients, match="Issuer of Patient ID"):
        check_patient([entry(1, issuer="A"), entry(2, issuer="B")])


def test_two_patient_ids_under_one_study_are_refused_even_where_several_patients_are_allowed():
    mixed = [entry(1), entry(2, patient_id="P2")]
    with pytest.raises(SeveralPatients, match="one study holds more than one patient"):
        check_patient(mixed, allow_several_patients=True)


def test_several_patients_may_be_allowed_each_with_studies_of_their_own():
    check_patient([entry(1), entry(2, patient_id="P2", name="Roe^R", study="1.2.2")], allow_several_patients=True)


def test_an_object_without_patient_id_is_refused_unless_allowed():
    nameless = [entry(1), entry(2, patient_id="", accession="B2")]
    with pytest.raises(NoPatientID, match=r"1 of 2 objects has no Patient ID.*accession B2"):
        check_patient(nameless)
    check_patient(nameless[1:], allow_no_patient_id=True)


def test_an_object_without_patient_id_that_is_allowed_is_of_the_patient_its_study_names_or_refused():
    mixed = [entry(1), entry(2, patient_id="", accession="B2")]
    for several in (False, True):
        assert check_patient(mixed, allow_no_patient_id=True, allow_several_patients=several).is_by_name
        another = [*mixed, entry(3, patient_id="", name="Roe^R")]
        with pytest.raises(SeveralPatients, match="Patient's Name"):
            check_patient(another, allow_no_patient_id=True, allow_several_patients=several)


@pytest.mark.parametrize("placeholder", ["", "W/I", "0000", "SIN DNI"])
def test_two_studies_under_a_placeholder_are_one_patient_s_only_by_name_and_birth_date(placeholder):
    def of(*others, **more):
        entries = [entry(1, patient_id=placeholder, **more)]
        entries += [entry(2, patient_id=placeholder, study="1.2.2", accession="B2", **other) for other in others]
        return check_patient(entries, placeholders=("0", "w/i", "SIN DNI"), allow_no_patient_id=True)

    assert of({}).is_by_name
    for other, more in (
        ({"birth_date": ""}, {}),
        ({"birth_date": ""}, {"birth_date": ""}),
        ({"name": "Roe^R"}, {}),
    ):
        with pytest.raises(SeveralPatients, match="Patient ID of accession A1 and accession B2 does not prove"):
            of(other, **more)


def test_objects_with_and_without_patient_id_in_two_studies_may_be_two_patients_where_that_is_allowed():
    apart = [entry(1), entry(2, patient_id="", study="1.2.2")]
    check_patient(apart, allow_no_patient_id=True, allow_several_patients=True)


def test_an_empty_issuer_name_or_birth_date_contradicts_nothing():
    check_patient([entry(1, issuer="H"), entry(2, name="", birth_date=""), entry(3, birth_date="1970.01.01")])


@pytest.mark.parametrize(
    "same",
    ["DOE^JANE", "Doe^Jane^^^", "doe^jane ", "Doe Jane", "Doe, Jane", "Doe^Jane=山田^太郎", "Döe^Jané"],
)
def test_spellings_of_the_same_name_are_one_patient(same):
    check_patient([entry(1), entry(2, name=same)])


def test_the_same_name_in_two_character_sets_is_one_patient():
    check_patient([entry(1, name="Müller^Jörg"), entry(2, name="Müller^Jörg", character_set="ISO_IR 100")])


def test_names_without_romanised_group_are_compared_too():
    with pytest.raises(SeveralPatients):
        check_patient([entry(1, name="Петров^Иван"), entry(2, name="Сидоров^Пётр")])


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("Müller^Jörg", "MULLER^JORG", True),
        ("Nguyễn^Văn", "Nguyen^Van", True),
        ("かき^たろう", "がき^たろう", False),
        ("Иванов^Андрей", "Иванов^Андреи", False),
    ],
)
def test_accents_of_latin_letters_make_no_other_name_but_marks_of_other_scripts_do(one, other, is_same):
    assert (comparable_name(one) == comparable_name(other)) == is_same
