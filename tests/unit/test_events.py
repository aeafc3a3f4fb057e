import json
import logging
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.machine.dicom_programs import running, wait_until

from pipeline.events import Event, LogFormat, bug, emit, escaped, is_journal, log_to_stderr


@given(st.text())
def test_one_event_is_always_one_printable_line(text):
    word = escaped(text)
    assert word.isascii()
    assert word.isprintable()
    assert '"' not in word[1:-1]


def test_an_event_is_its_verb_and_its_keys_in_the_order_given(caplog):
    logger = logging.getLogger("storestow")
    logger.propagate = True
    with caplog.at_level(logging.INFO, logger="storestow"):
        emit(Event.DEFERRED, study="1.2.3", reason="connection\nrefused", missing=None)
    assert caplog.messages == ["deferred study=1.2.3 reason=connection\\nrefused"]


def test_a_long_value_is_cut():
    assert len(escaped("x" * 10_000)) < 600


def test_a_bug_is_told_without_its_text_because_that_may_name_a_patient(caplog):
    logging.getLogger("storestow").propagate = True
    try:
        int("DOE^JOHN")
    except ValueError as error:
        bug("process x", error)
    assert "DOE" not in caplog.text
    assert "ValueError < test_events.py:" in caplog.text


def said(kind: LogFormat | None, capsys, monkeypatch) -> str:
    """What a warning with a hostile value looks like on standard error."""
    logger = logging.getLogger("storestow")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)
    log_to_stderr(kind=kind)
    emit(Event.REFUSED, logging.WARNING, peer='10.0.0.9\n<0>"forged', count=3, nothing=None)
    return capsys.readouterr().err


def test_the_journal_gets_a_priority_and_no_time(capsys, monkeypatch):
    line = said(LogFormat.JOURNAL, capsys, monkeypatch)
    assert line.startswith("<4>refused peer=")
    assert line.count("\n") == 1


def test_json_lines_hold_the_event_and_its_fields(capsys, monkeypatch):
    line = said(LogFormat.JSON, capsys, monkeypatch)
    assert line.count("\n") == 1
    value = json.loads(line)
    assert (value["level"], value["event"]) == ("warning", "refused")
    assert value["fields"] == {"peer": '10.0.0.9\n<0>"forged', "count": 3}
    assert value["time"].endswith("+00:00")


def test_standard_error_is_the_journal_only_where_systemd_says_so(tmp_path, monkeypatch):
    with (tmp_path / "stream").open("w") as stream:
        about = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{about.st_dev}:{about.st_ino}")
        assert is_journal(stream)
        monkeypatch.setenv("JOURNAL_STREAM", f"{about.st_dev}:{about.st_ino + 1}")
        assert not is_journal(stream)
        monkeypatch.delenv("JOURNAL_STREAM")
        assert not is_journal(stream)


def test_every_part_of_a_site_logs_as_it_was_asked_to(tmp_path):
    """`--log json` stands before the command; `storestow up` hands it on to its parts."""
    file = tmp_path / "site.toml"
    (tmp_path / "spool").mkdir()
    file.write_text(f'[site]\nspool = "{tmp_path}/spool"\nworkers = 1\n')
    argv = [sys.executable, "-I", "-m", "pipeline", "--log", "json", "--site", str(file), "up"]
    with running(argv, log=tmp_path / "log"):
        wait_until(lambda: "worker-started" in (tmp_path / "log").read_text(), seconds=60, what="the worker")
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {line.get("event") for line in lines} >= {"worker-started", "worker-stopped"}


@pytest.mark.parametrize("library", ["pydicom", "watchdog", "sqlalchemy.pool.impl.QueuePool"])
def test_libraries_write_no_lines_of_their_own(library):
    code = f"""
import logging, sqlalchemy.pool
from pipeline.events import silence_libraries
silence_libraries()
logging.getLogger({library!r}).error("a line of its own")
logging.getLogger("another").error("an ordinary line")
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr == "an ordinary line\n"
