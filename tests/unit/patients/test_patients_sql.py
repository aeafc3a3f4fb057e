"""[patients] kind = "sql": the tables of the HIS say what a patient is called."""

import contextlib
import sqlite3

import pytest
from support.peers.patient_sources import his_api, his_databases

from pipeline.config.order_tables import PatientsTable
from pipeline.dicom.accession import AccessionNumber
from pipeline.errors import Configuration
from pipeline.patients import MoreThanOnePatient, PatientsUnavailable, PatientUnknown, found, from_table

A1 = AccessionNumber("A1")


@pytest.fixture
def api():
    with his_api() as api:
        yield api


def asked(table):
    return found(from_table(PatientsTable.model_validate(table)), A1)


@pytest.fixture
def databases(tmp_path):
    return his_databases(tmp_path)


def sql(table, accession="A1"):
    return from_table(PatientsTable.model_validate(table)).find(AccessionNumber(accession), ())


def test_two_tables_of_two_databases_say_together_who_it_is(databases):
    assert sql(databases).as_json() == {
        "accession_number": "A1",
        "medrec_id": "4711",
        "reg_id": "R1",
        "patient_name": "PEREZ JUAN",
        "modality": "CT",
        "study_description": "Thorax",
    }


def test_a_number_without_a_row_is_unknown(databases):
    with pytest.raises(PatientUnknown):
        sql(databases, "A2")


def test_a_number_with_two_patients_rows_is_nobodys(databases):
    with pytest.raises(MoreThanOnePatient) as error:
        sql(databases, "C3")
    assert "4711" not in str(error.value)


def test_rows_that_write_one_patient_in_two_ways_or_not_at_all_are_of_one(databases):
    assert sql(databases, "G7").medrec_id == "04711"
    with pytest.raises(PatientUnknown):
        sql(databases, "F6")


def answering(table, *selects):
    """Return `table` with these SELECTs instead of its own, all in its first database."""
    url = table["query"][0]["url"]
    return {**table, "query": [{"url": url, "select": select} for select in selects]}


def rows_of(column, *values):
    rows = " UNION ALL ".join(f"SELECT {n} AS n, '{value}' AS {column}" for n, value in enumerate(values))
    return f"SELECT {column} FROM ({rows}) WHERE :accession_number = 'A1' ORDER BY n"


@pytest.mark.parametrize(
    "names",
    [("MARIA", "MARIA LOPEZ", "MARIA GOMEZ"), ("MARIA LOPEZ", "MARIA", "MARIA GOMEZ")],
)
def test_names_of_which_each_agrees_with_a_shorter_one_only_are_two_patients(databases, names):
    with pytest.raises(MoreThanOnePatient):
        sql(answering(databases, rows_of("patient_name", *names)))
    assert sql(answering(databases, rows_of("patient_name", *names[:2]))).patient_name == names[0]


@pytest.mark.parametrize("numbers", [("1-23", "12-3"), ("123", "1-23"), ("1 23", "123")])
def test_numbers_of_one_his_that_differ_in_their_separators_are_two_patients(databases, numbers):
    with pytest.raises(MoreThanOnePatient):
        sql(answering(databases, rows_of("medrec_id", *numbers)))


@pytest.mark.parametrize("numbers", [("0123", "123"), ("a1", "A1 ")])
def test_numbers_of_one_his_that_differ_in_zeros_before_them_or_case_are_one_patient(databases, numbers):
    assert sql(answering(databases, rows_of("medrec_id", *numbers))).medrec_id == numbers[0].strip()


@pytest.mark.parametrize(
    "later",
    [
        ["'0815' AS medrec_id, 'O''BRIEN' AS patient_name"],
        ["'4711' AS medrec_id, 'PEREZ JUAN' AS patient_name", "'O''BRIEN' AS patient_name"],
        ["'PEREZ' AS patient_name", "'PEREZ JUAN' AS patient_name", "'PEREZ ANA' AS patient_name"],
    ],
)
def test_a_later_query_that_names_another_patient_than_an_earlier_one_is_refused(databases, later):
    first = "SELECT '4711' AS medrec_id WHERE :accession_number = 'A1'"
    with pytest.raises(MoreThanOnePatient):
        sql(answering(databases, first, *(f"SELECT {columns}" for columns in later)))
    same = "SELECT '04711' AS medrec_id, 'JUAN PEREZ' AS patient_name"
    person = sql(answering(databases, first, same, "SELECT 'PEREZ' AS patient_name"))
    assert (person.medrec_id, person.patient_name) == ("4711", "JUAN PEREZ")


def test_what_the_tables_do_not_have_is_null(databases):
    assert sql(databases, "E5").patient_name is None


def test_a_number_whose_rows_name_nobody_is_unknown(databases):
    with pytest.raises(PatientUnknown):
        sql(databases, "D4")


@pytest.mark.parametrize("accession", ["' OR '1'='1", "A1'--", "a1", "A1;DROP TABLE x"])
def test_a_number_is_a_value_and_never_a_part_of_the_statement(databases, accession):
    with pytest.raises(PatientUnknown):
        sql(databases, accession)


def test_a_row_of_another_number_is_not_taken_for_ours(databases):
    first = databases["query"][0]
    first["select"] = "SELECT * FROM pacs_result_series WHERE accession_number = :accession_number COLLATE NOCASE"
    with pytest.raises(PatientUnknown):
        sql(databases, "b22")
    assert sql(databases, "B2").patient_name == "O'BRIEN"


def test_a_row_whose_number_differs_in_case_only_is_ours_as_long_as_there_is_one_spelling(databases, tmp_path):
    first = databases["query"][0]
    first["select"] = "SELECT * FROM pacs_result_series WHERE accession_number = :accession_number COLLATE NOCASE"
    person = sql(databases, "b2")
    assert (person.accession_number, person.patient_name) == ("b2", "O'BRIEN")
    with contextlib.closing(sqlite3.connect(tmp_path / "results.db")) as results, results:
        rows = [("Xy7", "4711"), ("XY7", "0815")]
        results.executemany("INSERT INTO pacs_result_series VALUES (?, ?, null, 'CT', null)", rows)
    assert sql(databases, "Xy7").patient_name == "PEREZ JUAN"
    with pytest.raises(PatientUnknown, match="several ways: XY7, Xy7"):
        sql(databases, "xy7")


def test_an_api_that_spells_the_number_in_another_case_answers_about_it(api):
    api.answers = [(200, {"accession_number": "a1 ", "patient_name": "PEREZ JUAN"})]
    assert asked(api.table()).accession_number == "A1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"url": "nonsense"}, "no SQLAlchemy address"),
        ({"url": "oracle://user@host/db"}, "driver"),
        ({"url": "mysql+pymysql://user:secret@host/db"}, "holds a password"),
        ({"select": "SELECT medrec_id FROM pacs_result_series"}, ":accession_number"),
        ({"password_env": "A", "password_file": "/b"}, "one of password_env and password_file"),
    ],
)
def test_a_query_that_cannot_work_is_told_before_anybody_asks(databases, change, said):
    databases["query"][0].update(change)
    with pytest.raises(Configuration) as error:
        sql(databases)
    assert said in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [{"select": "SELECT nothing FROM nowhere WHERE :accession_number"}, {"url": "sqlite:////nowhere/x.db"}],
)
def test_a_database_that_fails_is_unavailable(databases, change):
    databases["query"][0].update(change)
    with pytest.raises(PatientsUnavailable):
        sql(databases)
