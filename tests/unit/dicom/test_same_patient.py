"""Whose images these are: one patient unless something speaks against it."""

import pytest

from pipeline.dicom.patient import Patient
from pipeline.dicom.same_patient import (
    MOST_WAYS,
    PLACEHOLDERS,
    Attribute,
    bare_identifier,
    compare,
    is_placeholder,
    judge,
)

ANN = Patient("P1", "", "19700101", "DOE^ANN")
ID, ISSUER, NAME, BIRTH = Attribute


def of_studies(*patients):
    return [(f"1.2.{number}", patient) for number, patient in enumerate(patients)]


@pytest.mark.parametrize(
    "other",
    [
        ANN,
        Patient("P1", "hospital", "19700101", "DOE^ANN"),
        Patient("P1", "", "", ""),
        Patient("P1", "", "", "Doe^Ann^Mary"),
        Patient("P1", "", "19700101", "ANN DOE"),
    ],
)
def test_nothing_speaks_against_one_patient(other):
    found = judge(of_studies(ANN, other))
    assert found.is_one
    assert not found.noted


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        (Patient("P2", "", "19700101", "DOE^ANN"), [ID]),
        (Patient("p1", "", "19700101", "DOE^ANN"), [ID]),
        (Patient("P1", "", "19710101", "DOE^ANN"), [BIRTH]),
        (Patient("P1", "", "", "DOE^BOB"), [NAME]),
        (Patient("P1", "", "19700101", "DOE^BOB"), [NAME]),
        (Patient("P1", "", "", "ROE^ANN"), [NAME]),
        (Patient("P3", "", "19700102", "ROE^BOB"), [ID, NAME, BIRTH]),
    ],
)
def test_something_speaks_against_one_patient_and_is_named(other, differs):
    assert list(judge(of_studies(ANN, other)).differs) == differs


def test_another_family_name_with_the_same_first_name_and_birth_date_is_noted():
    married = Patient("P1", "", "19700101", "SMITH^ANN")
    found = judge(of_studies(ANN, married))
    assert found.is_one
    assert found.noted == (NAME,)


@pytest.mark.parametrize(
    ("one", "other"),
    [("ROE^BABY A", "ROE^BABY B"), ("ROE^TWIN 1", "ROE^TWIN 2"), ("ROE POE^ANN MARY", "ROE^ANN SUE")],
)
def test_twins_under_their_mother_s_id_are_two_patients_although_their_names_begin_alike(one, other):
    patients = [Patient("P1", "", "19700101", name) for name in (one, other)]
    assert judge(of_studies(*patients)).differs == (NAME,)


@pytest.mark.parametrize(
    "written",
    [
        *("1970.1.1", "1970/01/01", "01.01.1970", "19700101-19700101", "19700101000000", "1970-01-01T00:00:00"),
        *("1970", "197001", "19700000", "19700100", "19690101-19711231", "UNKNOWN", "N/A", '""', "00000000"),
    ],
)
def test_a_birth_date_that_is_otherwise_written_or_not_a_day_contradicts_nothing_it_may_be(written):
    assert judge(of_studies(ANN, Patient.of("P1", "", written, "DOE^ANN"))).is_one


@pytest.mark.parametrize(
    "written",
    [
        "1970.01.02",
        "13.01.1970",
        "1971",
        "197002",
        "19710000",
        "19710101-19711231",
        "19700102000000",
        "05.03.1970",
    ],
)
def test_a_birth_date_that_cannot_be_the_same_day_is_another_person_s(written):
    assert judge(of_studies(ANN, Patient.of("P1", "", written, "DOE^ANN"))).differs == (BIRTH,)


def test_two_birth_years_are_not_the_one_birth_date_that_placeholders_need():
    assert not judge(of_studies(unknown(birth_date="1970"), unknown(birth_date="1970"))).is_one


def test_two_issuers_are_two_patients_although_each_may_be_a_third():
    here, there = Patient("P1", "here"), Patient("P1", "there")
    assert judge(of_studies(here, Patient("P1"))).is_one
    assert judge(of_studies(here, Patient("P1"), there)).differs == (ISSUER,)


def test_within_one_source_the_case_of_a_patient_id_counts_between_two_it_does_not():
    other = Patient("p1", "", "19700101", "DOE^ANN")
    assert compare(ANN, other, is_same_study=True).differs == (ID,)
    assert not compare(ANN, other, is_same_study=True, ignores_case=True).differs


@pytest.mark.parametrize(
    "identifier",
    ["", "0", "0000", "w/i", "Unknown", "N/A", "anonymous", "-", ".", " none ", "--", '""', "?", "0-0"],
)
def test_a_placeholder_proves_nothing(identifier):
    assert is_placeholder(identifier)
    assert not is_placeholder("007")
    assert not is_placeholder("UNKNOWN-17")


def test_a_site_has_placeholders_of_its_own_and_the_empty_one_is_always_one():
    assert is_placeholder("sin dni", ("SIN DNI",))
    assert is_placeholder("", ())
    assert not is_placeholder("000", ())


def unknown(name="DOE^ANN", birth_date="19700101", identifier="W/I"):
    return Patient(identifier, "", birth_date, name)


def test_one_study_under_a_placeholder_is_one_patient_s_if_nothing_else_differs_and_that_is_noted():
    found = judge([("1.2", unknown()), ("1.2", unknown("doe^ann^mary", "")), ("1.2", unknown("", "", "0"))])
    assert found.is_one
    assert found.is_by_name
    assert judge([("1.2", unknown()), ("1.2", unknown("ROE^ANN"))]).differs == (NAME,)
    assert judge([("1.2", unknown()), ("1.2", unknown(birth_date="19700102"))]).differs == (BIRTH,)
    assert judge([("1.2", Patient())]).is_one


@pytest.mark.parametrize(
    "others",
    [
        [unknown(), unknown("ROE^BOB")],
        [unknown(birth_date=""), unknown(birth_date="")],
        [unknown(), unknown(birth_date="")],
        [unknown(), unknown("DOE^ANN^MARY")],
        [unknown(""), unknown("")],
        [Patient(), Patient()],
        [ANN, unknown(birth_date="")],
        [ANN, Patient()],
    ],
)
def test_several_studies_of_which_one_has_a_placeholder_are_not_one_patient_s(others):
    assert ID in judge(of_studies(*others)).differs


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("?????? ANNA", "???????? ANNA"),
        ("?????? ANNA", "ANNA"),
        ("M?LLER^ANNA", "M?LLER^ANNA"),
        ("M\ufffdLLER^ANNA", "M\ufffdLLER^ANNA"),
        ("UNKNOWN", "UNKNOWN"),
        ("UNKNOWN^UNKNOWN", "Unknown"),
        ("N/A", "n/a"),
        ("ANONYMOUS^PATIENT", "PATIENT ANONYMOUS"),
        ("INCONNUE", "Inconnue"),
        ("XXX^000", "XXX^000"),
        ("BABY^BOY", "BABY^BOY"),
        ("BABY^B", "BABY^B"),
        ("不明", "不明"),
        ("SIN^DNI", "SIN^DNI"),
    ],
)
def test_a_name_that_may_be_anybodys_does_not_prove_that_several_studies_are_one_patient_s(one, other):
    placeholders = (*PLACEHOLDERS, "SIN DNI")
    said = unknown(one), unknown(other)
    assert NAME in judge(of_studies(*said), placeholders).differs
    assert judge([("1.2", patient) for patient in said], placeholders).is_one


@pytest.mark.parametrize("name", ["ROE^UNKNOWN", "SUPARTI", "BABY^ROE", "山田^不明", "A1"])
def test_a_name_of_which_one_word_is_a_name_proves_it(name):
    assert judge(of_studies(unknown(name), unknown(name))).is_one


def test_several_studies_under_placeholders_are_one_patient_s_with_one_name_and_one_birth_date():
    found = judge(of_studies(unknown(), unknown("Doe^Ann", identifier="UNKNOWN"), ANN))
    assert found.is_one
    assert found.is_by_name


def test_what_bears_no_patient_id_is_of_the_patient_its_study_names():
    report = Patient("", "", "", "DOE^ANN")
    said = [("1.2", ANN), ("1.2", report), ("1.3", ANN)]
    assert judge(said).is_one
    assert not judge([*said, ("1.3", Patient("", "", "", "ROE^ANN"))]).is_one


def test_nobody_writes_one_patient_in_hundreds_of_ways():
    assert not judge(of_studies(*(Patient("P1", "", "", f"DOE^ANN={n}") for n in range(MOST_WAYS + 1)))).is_one


@pytest.mark.parametrize("written", ["00a-17.4", "A17 4", "A/174", "a174", "000A174"])
def test_other_systems_write_a_patient_id_with_other_separators_and_zeros(written):
    assert bare_identifier(written) == bare_identifier("A174")
    assert bare_identifier("B174") != bare_identifier("A174") != bare_identifier("A1740")
