"""[patients] kind = "api": an API of the HIS says what a patient is called."""

import logging
import time

import pytest
from support.peers.fake_dcm4chee import FakeDcm4chee, Trickle
from support.peers.patient_sources import his_api

from pipeline.config.order_tables import PatientsTable
from pipeline.dicom.accession import AccessionNumber
from pipeline.patients import PatientsUnavailable, PatientUnknown, found, from_table

A1 = AccessionNumber("A1")


@pytest.fixture
def api():
    with his_api() as api:
        yield api


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
