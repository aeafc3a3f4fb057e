"""What is read out of an archive's reply, and what each of its words means."""

import json

import pytest

from pipeline.dicom import reasons
from pipeline.dicom.reasons import NextStep
from pipeline.dicomweb import http_status
from pipeline.dicomweb.http_client import Reply
from pipeline.dicomweb.response import parse
from pipeline.errors import Configuration, PeerUnavailable

URL = "http://archive/rs/studies"


def ui(uid):
    return {"vr": "UI", "Value": [uid]}


def failed(uid, code):
    return {"00081155": ui(uid), "00081197": {"vr": "US", "Value": [code]}}


def body(**sequences):
    tags = {"failed": "00081198", "stored": "00081199", "url": "00081190"}
    return json.dumps({tags[name]: {"vr": "SQ", "Value": items} for name, items in sequences.items()}).encode()


def test_both_sequences_are_read_by_uid():
    found = parse(body(stored=[{"00081155": ui("1.1")}], failed=[failed("1.2", 0xA700), failed("1.3", "272")]))
    assert found.stored == {"1.1": None}
    assert found.failed == {"1.2": 0xA700, "1.3": 0x0110}


@pytest.mark.parametrize(
    "empty",
    [
        b'{"00081190":{"vr":"UR"}}',
        b'{"00081190":{"vr":"UR"},"00081198":{"vr":"SQ"},"00081199":{"vr":"SQ","Value":[]}}',
        b'{"00081198":{"vr":"SQ","Value":null},"00081199":null}',
        b'[{"00081198":{"vr":"SQ"}}]',
        b'{"0008119a":{"vr":"SQ","Value":[{"00081197":{"vr":"US","Value":[1]}}]},"00081198":{"vr":"SQ"}}',
    ],
)
def test_absent_empty_and_valueless_sequences_are_equal(empty):
    found = parse(empty)
    assert (found.stored, found.failed) == ({}, {})


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"java.io.EOFException\n\tat org.dcm4che3",
        b'{"errorMessage":"No such Application Entity: X"}',
        b'{"HttpError":"Bad Request","HttpStatus":400}',
        b"<html><body>log in</body></html>",
        b"[1,2]",
        b"[" * 100_000,
        b"\xff\xfe\x00",
        b"null",
        b'<!DOCTYPE x [<!ENTITY a "00081199">]><NativeDicomModel>&a;</NativeDicomModel>',
        b'<?xml version="1.0" encoding="no-such"?><a/>',
    ],
)
def test_what_is_no_account_says_nothing(text):
    assert parse(text) is None


def test_an_instance_in_both_sequences_is_unaccounted_for():
    found = parse(body(stored=[{"00081155": ui("1.1")}], failed=[failed("1.1", 1)]))
    assert (found.stored, found.failed) == ({}, {})


def test_padding_of_a_uid_is_no_part_of_it():
    assert parse(body(stored=[{"00081155": ui("1.1\0")}])).stored == {"1.1": None}


def test_a_native_dicom_model_is_read_with_its_stray_values():
    model = b"""<?xml version="1.0" encoding="UTF-8"?>
    <NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">
    <DicomAttribute tag="00081198" vr="SQ"><Item number="1">
      <DicomAttribute tag="00081155" vr="UI"><Value number="1">1.2</Value></DicomAttribute>
      <DicomAttribute tag="00081197" vr="US"><Value number="1">49442</Value></DicomAttribute></Item>
      <Value number="1"/></DicomAttribute>
    <DicomAttribute tag="00081199" vr="SQ"><Item number="1">
      <DicomAttribute tag="00081155" vr="UI"><Value number="1">1.1</Value></DicomAttribute></Item></DicomAttribute>
    </NativeDicomModel>"""
    found = parse(model)
    assert found.stored == {"1.1": None}
    assert found.failed == {"1.2": 0xC122}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0xA700, NextStep.PAUSES),
        (0xA701, NextStep.PAUSES),
        (0xA76F, NextStep.PAUSES),
        (0xA770, NextStep.REFUSED),
        (0xA771, NextStep.REFUSED),
        (0xA778, NextStep.REFUSED),
        (0xA779, NextStep.REFUSED),
        (0xA77A, NextStep.WAITS),
        (0xA77B, NextStep.REFUSED),
        (0x0213, NextStep.PAUSES),
        (0xA900, NextStep.REFUSED),
        (0xA9FF, NextStep.REFUSED),
        (0xC000, NextStep.REFUSED),
        (0xC122, NextStep.REFUSED),
        (0xC409, NextStep.REFUSED),
        (0xC499, NextStep.REFUSED),
        (0x0110, NextStep.AGAIN),
        (0x0111, NextStep.DUPLICATE),
        (0xB00E, NextStep.DUPLICATE),
        (0xB00F, NextStep.WAITS),
        (0x0122, NextStep.REFUSED),
        (0x0124, NextStep.REFUSED),
        (0x0001, NextStep.AGAIN),
        (0xFFFF, NextStep.AGAIN),
        (None, NextStep.AGAIN),
    ],
)
def test_every_failure_reason_has_its_consequence(code, expected):
    assert reasons.failure(code).next is expected


def test_a_refused_transfer_syntax_is_not_taken_for_something_not_understood():
    assert "transfer syntax" in reasons.failure(0xC122).sentence


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("Thu, 01 Jan 1970 00:01:00 GMT", 50.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("²", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(header, seconds):
    assert http_status.retry_after_seconds(header, now=10.0) == seconds


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (200, None),
        (202, None),
        (400, None),
        (409, None),
        (413, None),
        (500, None),
        (401, Configuration),
        (403, Configuration),
        (404, Configuration),
        (301, Configuration),
        (307, Configuration),
        (429, PeerUnavailable),
        (502, PeerUnavailable),
        (503, PeerUnavailable),
        (507, PeerUnavailable),
    ],
)
def test_some_statuses_speak_of_the_archive_and_others_of_the_request(code, expected):
    error = http_status.of_the_archive(Reply(code, "", b""), URL, 0.0)
    assert error is None if expected is None else type(error) is expected
