"""[patients]: the study, an API of the HIS, or its tables say what a patient is called; nobody keeps it."""

import contextlib
import http.server
import json
import logging
import sqlite3
import threading
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from support.peers.fake_dcm4chee import FakeDcm4chee, Trickle
from support.sites.shim_site import FOUND, KEY, running_shim

from pipeline.config.order_tables import PatientsTable
from pipeline.dicom.accession import AccessionNumber
from pipeline.dicom.same_patient import Attribute
from pipeline.errors import Configuration
from pipeline.model import OrderState
from pipeline.orders.compare_sources import IdentitySource, SourceDifference
from pipeline.patients import MoreThanOnePatient, PatientsUnavailable, PatientUnknown, found, from_table

A1 = AccessionNumber("A1")
DONE = {"state": OrderState.DONE, "found": FOUND, "sent": 5}
PRINT = "/api/iso/print?accession_number=A1"


# --- kind = "dicom" ---------------------------------------------------------------------------------------


def instance(path, **values):
    data_set = Dataset()
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data_set.SOPClassUID, data_set.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    for keyword, value in values.items():
        setattr(data_set, keyword, value)
    dcmwrite(path, data_set, enforce_file_format=True)
    return path


@pytest.mark.parametrize(
    ("charset", "name", "read"),
    [
        (None, "DOE^JANE", "DOE^JANE"),
        ("ISO_IR 100", "NÚÑEZ^JOSÉ", "NÚÑEZ^JOSÉ"),
        ("ISO_IR 192", "山田^太郎=ヤマダ^タロウ", "山田^太郎"),
        ("ISO_IR 192", "=山田^太郎", "山田^太郎"),
        (None, "", None),
        (None, "^^^", None),
    ],
)
def test_the_study_says_the_name_in_its_own_characters(tmp_path, charset, name, read):
    values = {"SpecificCharacterSet": charset} if charset else {}
    file = instance(tmp_path / "1", PatientName=name, PatientID="4711", Modality="CT", **values)
    person = from_table(PatientsTable()).find(A1, [file])
    assert (person.patient_name, person.medrec_id, person.modality, person.reg_id) == (read, "4711", "CT", None)


def test_a_file_that_cannot_be_read_is_no_reason_to_know_no_name(tmp_path):
    (tmp_path / "broken").write_bytes(b"\0" * 200)
    files = [tmp_path / "gone", instance(tmp_path / "1", PatientName="DOE^JANE")]
    assert from_table(PatientsTable()).find(A1, files).patient_name == "DOE^JANE"


def test_without_files_nothing_is_known():
    with pytest.raises(PatientUnknown):
        from_table(PatientsTable()).find(A1, [])


def test_a_print_is_no_failure_because_nobody_knows_the_name_any_more(tmp_path, monkeypatch):
    with running_shim(tmp_path, monkeypatch) as shim:
        shim.orders.plan = DONE
        answer = shim.get(PRINT)
    assert (answer.status_code, answer.json()["patient_name"]) == (200, None)


# --- kind = "api" -----------------------------------------------------------------------------------------


class Api:
    """An API of the HIS: `answers` are given one after the other, the last one for ever."""

    def __init__(self):
        self.answers = [(200, {"accession_number": "A1", "patient_name": "PEREZ JUAN", "medrec_id": "4711"})]
        self.asked = []
        self.pause = 0.0
        self.content_type = "application/json"

    def table(self, **more):
        return {"kind": "api", "url": f"http://127.0.0.1:{self.port}/his/", "timeout": "1s", **more}


@pytest.fixture
def api():
    api = Api()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            address = urlsplit(self.path)
            api.asked.append((address.path, parse_qs(address.query), dict(self.headers)))
            time.sleep(api.pause)
            status, body = api.answers.pop(0) if len(api.answers) > 1 else api.answers[0]
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Type", api.content_type)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield api
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_his_that_answers_a_byte_a_second_is_not_waited_for(part):
    fault = Trickle(part)
    with FakeDcm4chee() as his:
        his.every_query = fault
        table = {"kind": "api", "url": his.base, "timeout": "1.5s", "retries": 0}
        began = time.monotonic()
        with pytest.raises(PatientsUnavailable, match="answer_timeout"):
            asked(table)
        with pytest.raises(PatientsUnavailable):
            asked(table | {"timeout": "60s", "answer_timeout": "1.5s"})
        assert time.monotonic() - began < 10


def asked(table):
    return found(from_table(PatientsTable.model_validate(table)), A1)


def test_the_api_is_asked_at_its_address_for_the_number(api):
    assert asked(api.table()).as_json() == {
        "accession_number": "A1",
        "medrec_id": "4711",
        "reg_id": None,
        "patient_name": "PEREZ JUAN",
        "modality": None,
        "study_description": None,
    }
    ((path, query, headers),) = api.asked
    assert (path, query) == ("/his/patient/by-accession", {"accession_number": ["A1"]})
    assert headers["Accept"] == "application/json"


@pytest.mark.parametrize(
    ("header", "sent"),
    [("Authorization", ("Authorization", "Bearer s3cret")), ("X-API-Key", ("X-API-Key", "s3cret"))],
)
def test_the_key_of_the_api_is_shown_as_the_site_says(api, monkeypatch, header, sent):
    monkeypatch.setenv("HIS_KEY", "s3cret")
    asked(api.table(key_env="HIS_KEY", key_header=header))
    assert api.asked[0][2][sent[0]] == sent[1]


def test_a_number_the_api_does_not_know_is_unknown(api):
    api.answers = [(404, {"error": "accession_number not found"})]
    with pytest.raises(PatientUnknown):
        asked(api.table())
    assert len(api.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [
        (500, b"<html>java.lang.NullPointerException"),
        (503, {}),
        (401, {}),
        (403, {}),
        (302, {}),
        (200, b"<html>login"),
        (200, ["a list"]),
        (200, {"accession_number": "OTHER", "patient_name": "SOMEBODY ELSE"}),
        (200, b"x" * (9 << 20)),
        (200, b"[" * 100_000),
        (200, b'{"medrec_id": "1", "medrec_id": "2"}'),
        (200, {"success": False, "medrec_id": "4711"}),
        (200, {"error": "no such number", "patient_name": "SOMEBODY ELSE"}),
        (200, {"medrec_id": True}),
        (200, {"medrec_id": 0, "patient_name": "-"}),
        (200, '{"medrec_id": "4711", "patient_name": "PEÑA"}'.encode("latin-1")),
    ],
)
def test_an_answer_that_is_none_is_no_answer(api, answer):
    api.answers = [answer]
    with pytest.raises(PatientsUnavailable) as error:
        asked(api.table(retries=0))
    assert "SOMEBODY" not in str(error.value)
    assert "java" not in str(error.value)


@pytest.mark.parametrize(
    "nothing", [None, False, 0, "", " ", "0", "null", "N/A", "-", "^^", "Not found", "unknown"]
)
def test_an_api_that_fills_its_fields_with_words_for_nothing_does_not_know_the_number(api, nothing):
    fields = dict.fromkeys(["medrec_id", "reg_id", "patient_name", "modality", "study_description"], nothing)
    api.answers = [(200, {"accession_number": "A1", **fields})]
    with pytest.raises(PatientUnknown):
        asked(api.table())


def test_an_answer_is_read_in_the_character_set_it_declares(api):
    api.answers = [(200, '{"medrec_id": "4711", "patient_name": "PEÑA"}'.encode("latin-1"))]
    api.content_type = "application/json; charset=ISO-8859-1"
    assert asked(api.table()).patient_name == "PEÑA"


JSON_TEXT = '{"medrec_id": "4711", "patient_name": "MÜLLER"}'


@pytest.mark.parametrize(
    ("charset", "written_in"),
    [
        ("utf-8", "utf-8-sig"),
        ("", "utf-8-sig"),
        ("ISO-8859-1", "utf-8"),
        ("ISO-8859-1", "utf-8-sig"),
        ("windows-1252", "cp1252"),
        ("utf-16", "utf-16"),
        ("", "utf-16-le"),
        ("utf8mb4", "utf-8"),
    ],
)
def test_utf_8_is_read_as_such_whatever_a_web_server_declares_for_it(api, charset, written_in):
    api.answers = [(200, JSON_TEXT.encode(written_in))]
    api.content_type = f"application/json; charset={charset}" if charset else "application/json"
    assert asked(api.table(retries=0)).patient_name == "MÜLLER"


def test_a_character_set_of_seven_bits_is_read_as_declared(api):
    api.answers = [(200, JSON_TEXT.replace("MÜLLER", "山田").encode("iso-2022-jp"))]
    api.content_type = "application/json; charset=ISO-2022-JP"
    assert asked(api.table(retries=0)).patient_name == "山田"
    api.answers = [(200, JSON_TEXT.replace("MÜLLER", "ROE").encode())]
    api.content_type = "application/json; charset=utf8mb4"
    assert asked(api.table(retries=0)).patient_name == "ROE"


def test_an_api_that_fails_once_is_asked_again(api):
    api.answers = [(503, {}), (200, {"patient_name": "PEREZ JUAN"})]
    assert asked(api.table()).patient_name == "PEREZ JUAN"
    assert len(api.asked) == 2


def test_an_api_that_is_down_is_unavailable_after_its_retries(api):
    api.answers = [(503, {})]
    with pytest.raises(PatientsUnavailable):
        asked(api.table(retries=2))
    assert len(api.asked) == 3


def test_a_slow_api_is_told_and_one_that_is_too_slow_is_unavailable(api, caplog):
    logging.getLogger("storestow").propagate = True
    api.pause = 0.3
    with caplog.at_level(logging.INFO, logger="storestow"):
        asked(api.table(slow_after="0.1s"))
    assert any(message.startswith("patients-slow kind=api") for message in caplog.messages)
    api.pause = 0.6
    with pytest.raises(PatientsUnavailable):
        asked(api.table(timeout="0.2s", retries=0))


# --- kind = "sql" -----------------------------------------------------------------------------------------

QUERIES = [
    {
        "select": "SELECT medrec_id, reg_id, modality, description AS study_description"
        " FROM pacs_result_series WHERE accession_number = :accession_number",
    },
    {"select": "SELECT name AS patient_name FROM medrec WHERE medrec_id = :medrec_id"},
]


@pytest.fixture
def databases(tmp_path):
    results, people = tmp_path / "results.db", tmp_path / "people.db"
    with sqlite3.connect(results) as one:
        one.execute(
            "CREATE TABLE pacs_result_series"
            " (accession_number TEXT, medrec_id TEXT, reg_id TEXT, modality TEXT, description TEXT)"
        )
        rows = [
            ("A1", "4711", "R1", "CT", None),
            ("A1", "4711", "R1", "SR", "Thorax"),
            ("B2", "0815", None, "MR", None),
            ("C3", "4711", None, "CT", None),
            ("C3", "0815", None, "CT", None),
            ("D4", None, None, "CT", None),
            ("E5", "9999", None, "CT", None),
            ("F6", "0", None, "CT", None),
            ("G7", "0", None, "CT", None),
            ("G7", "04711", None, "CT", None),
            ("G7", "4711", None, "CT", None),
        ]
        one.executemany("INSERT INTO pacs_result_series VALUES (?, ?, ?, ?, ?)", rows)
    with sqlite3.connect(people) as other:
        other.execute("CREATE TABLE medrec (medrec_id TEXT, name TEXT)")
        other.executemany("INSERT INTO medrec VALUES (?, ?)", [("4711", "PEREZ JUAN"), ("0815", "O'BRIEN")])
    one.close()
    other.close()
    urls = [f"sqlite:///file:{path}?mode=ro&uri=true" for path in (results, people)]
    return {"kind": "sql", "query": [{"url": url, **query} for url, query in zip(urls, QUERIES, strict=True)]}


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


# --- over HTTP --------------------------------------------------------------------------------------------


def test_the_tables_are_served_as_json_to_those_with_the_key(tmp_path, monkeypatch, databases):
    with running_shim(tmp_path, monkeypatch, patients=databases) as shim:
        path = "/patient/by-accession?accession_number="
        answer = shim.get(path + "A1")
        assert (answer.status_code, answer.json()["patient_name"]) == (200, "PEREZ JUAN")
        unknown = shim.get(path + "A2")
        assert (unknown.status_code, unknown.json()["error"]) == (404, "accession_number not found")
        assert shim.get(path + "*").status_code == 400
        assert shim.get(path + "A1,B2").status_code == 400
        assert shim.get(path + "C3").json()["error"] == "more than one patient"
        assert shim.get(path + "A1", key=None).status_code == 401


def test_the_tables_are_served_to_nobody_where_there_is_no_key(tmp_path, monkeypatch, databases):
    with running_shim(tmp_path, monkeypatch, patients=databases, shim={"api_key": ""}) as shim:
        answer = shim.get("/patient/by-accession?accession_number=A1")
        assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")


def test_only_tables_are_served(tmp_path, monkeypatch, api):
    with running_shim(tmp_path, monkeypatch, patients=api.table()) as shim:
        answer = shim.get("/patient/by-accession?accession_number=A1")
        assert (answer.status_code, answer.json()["error"]) == (501, "not configured")
    assert not api.asked


@pytest.mark.parametrize("path", [PRINT, "/mkiso_multiple.php?accession_number=A1"])
def test_what_the_api_says_stops_an_order_before_it_is_placed(tmp_path, monkeypatch, api, path):
    with running_shim(tmp_path, monkeypatch, patients=api.table(retries=0)) as shim:
        api.answers = [(404, {})]
        answer = shim.get(path)
        assert (answer.status_code, answer.json()["error"]) == (404, "accession_number not found")
        api.answers = [(500, {})]
        answer = shim.get(path)
        assert (answer.status_code, answer.json()["error"]) == (502, "patient API unavailable")
        assert not shim.orders.asked


@pytest.mark.parametrize("path", ["/mkiso.php?accession_number=A1", "/mkiso2.php?accession_number=A1"])
def test_what_names_nobody_asks_nobody(tmp_path, monkeypatch, api, path):
    with running_shim(tmp_path, monkeypatch, patients=api.table()) as shim:
        shim.orders.plan = {**DONE, "result": shim.file()}
        assert shim.get(path).status_code == 200
    assert not api.asked


def test_two_patients_of_the_api_are_not_put_on_one_disc(tmp_path, monkeypatch, api):
    with running_shim(tmp_path, monkeypatch, patients=api.table()) as shim:
        api.answers = [(200, {"medrec_id": "4711"}), (200, {"medrec_id": "0815"})]
        answer = shim.get("/mkiso_multiple.php?accession_number=A1,B2")
        assert (answer.status_code, answer.json()["error"]) == (409, "more than one patient")
        assert not shim.orders.asked


def test_the_name_of_the_api_is_in_the_answer_and_asked_for_once(tmp_path, monkeypatch, api):
    with running_shim(tmp_path, monkeypatch, patients=api.table()) as shim:
        shim.orders.plan = DONE
        assert [shim.get(PRINT).json()["patient_name"] for _ in range(3)] == ["PEREZ JUAN"] * 3
    assert len(api.asked) == 1


def test_what_the_pacs_says_is_somebody_else_s_is_not_called_after_the_his(tmp_path, monkeypatch, api):
    differs = SourceDifference("A1", (IdentitySource.HIS, IdentitySource.PACS), (Attribute.NAME,))
    with running_shim(tmp_path, monkeypatch, patients=api.table()) as shim:
        shim.orders.plan = {**DONE, "noted": (differs,)}
        assert shim.get(PRINT).json()["patient_name"] is None
        assert "PEREZ" not in shim.get("/mkiso_multiple.php?accession_number=A1").headers.get(
            "content-disposition", ""
        )


def test_no_name_is_written_to_the_ledger_or_the_log(tmp_path, monkeypatch, databases, caplog):
    logging.getLogger("storestow").propagate = True
    with (
        caplog.at_level(logging.DEBUG),
        running_shim(tmp_path, monkeypatch, patients=databases) as shim,
    ):
        shim.orders.plan = DONE
        assert shim.get(PRINT).json()["patient_name"] == "PEREZ JUAN"
        assert "PEREZ" in shim.page(PRINT).text
        shim.get("/patient/by-accession?accession_number=A1", headers={"X-API-Key": KEY})
    kept = b"".join(path.read_bytes() for path in (tmp_path / "spool").rglob("*") if path.is_file())
    assert b"PEREZ" not in kept
    assert "PEREZ" not in caplog.text
    assert "4711" not in caplog.text
