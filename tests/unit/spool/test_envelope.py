"""The envelope of an arrival, as it is written and as it is read again."""

import json
from pathlib import Path

import pytest

import pipeline
from pipeline.spool.envelope import ENVELOPE, Envelope, envelope_of, write_envelope


@pytest.mark.parametrize(
    "envelope",
    [
        Envelope("CT1", "STORESTOW", "192.0.2.7", "modalities", 17),
        Envelope("PACS", "CDRECORD", None, "cdrecord", 17, retrieval=4),
        Envelope("", "", None, order=12),
    ],
    ids=["association", "retrieval by C-GET", "send"],
)
def test_what_is_written_is_read_again(tmp_path, envelope):
    write_envelope(tmp_path, envelope)
    assert envelope_of(tmp_path) == envelope
    assert "retrieval" not in json.loads((tmp_path / ENVELOPE).read_text()) or envelope.retrieval


def test_an_envelope_of_an_earlier_release_is_read(tmp_path):
    (tmp_path / ENVELOPE).write_text('{"calling_ae_title": "", "called_ae_title": "", "peer": null, "order": 3}')
    assert envelope_of(tmp_path) == Envelope("", "", None, order=3)


@pytest.mark.parametrize("length", [0, 20])
def test_an_envelope_cut_by_a_crash_is_no_envelope(tmp_path, length):
    write_envelope(tmp_path, Envelope("CT1", "STORESTOW", "192.0.2.7"))
    whole = (tmp_path / ENVELOPE).read_bytes()
    (tmp_path / ENVELOPE).write_bytes(whole[:length])
    assert envelope_of(tmp_path) is None
    (tmp_path / ENVELOPE).unlink()
    assert envelope_of(tmp_path) is None


def test_one_file_of_the_package_knows_the_name_and_the_keys_of_the_envelope():
    package = Path(pipeline.__file__).parent
    those = [path.name for path in package.rglob("*.py") if ENVELOPE in path.read_text().partition('"""\n')[2]]
    assert those == ["envelope.py"]


def test_an_envelope_that_cannot_be_read_now_is_an_error_and_not_no_envelope(tmp_path):
    (tmp_path / ENVELOPE).mkdir()  # Reading it is an OSError, for every user.
    with pytest.raises(OSError, match="directory"):
        envelope_of(tmp_path)
