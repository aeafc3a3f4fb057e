"""What a person reads of `check` and of UIDs: gravest first, a line each, nothing cut where a program reads."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console
from support.machine.dicom_programs import free_port

from pipeline.commands import check, cli, terminal
from pipeline.commands.check import CheckFinding
from pipeline.commands.command_site import CommandContext
from pipeline.ledger import open_ledger
from pipeline.operate.status import status
from pipeline.site.settings import load

UID = "1.2.840.113619.2.55.3.604688119.971.1268039281.513.4"
TRACED = {
    "orders": [],
    "attempts": [],
    "studies": [
        {
            "study_instance_uid": UID,
            "accession_number": "A1",
            "instances": [
                {
                    "sop_instance_uid": UID,
                    "calling_ae_title": "CT1",
                    "modality": "CT",
                    "state": "passed",
                    "reason": None,
                    "changes": [],
                    "deliveries": [],
                }
            ],
        }
    ],
}


@pytest.fixture(autouse=True)
def _no_log(monkeypatch):
    monkeypatch.setattr(cli, "log_to_stderr", lambda: None)
    monkeypatch.setattr(CommandContext, "site", None)


def screen(monkeypatch, width: int) -> Console:
    console = Console(highlight=False, force_terminal=True, width=width, record=True)
    monkeypatch.setattr(terminal, "_console", console)
    return console


@pytest.fixture
def site_file(tmp_path):
    file = tmp_path / "site.toml"
    (tmp_path / "spool").mkdir()
    file.write_text(
        f'[site]\nspool = "{tmp_path / "spool"}"\n'
        f'[[receiver]]\nname = "door"\nae_title = "DOOR"\nport = {free_port()}\nto = ["nowhere", "shelf"]\n'
        '[[destination]]\nname = "nowhere"\nkind = "null"\n'
        f'[[destination]]\nname = "shelf"\nkind = "folder"\nfolder = "{tmp_path / "missing"}"\n'
    )
    return file


def run(monkeypatch, *words) -> int:
    monkeypatch.setattr("sys.argv", ["storestow", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


def test_uids_are_whole_where_a_program_reads(capsys):
    terminal.show_trace(TRACED)
    assert capsys.readouterr().out.count(UID) == 2


def test_a_trace_says_who_sent_the_study(capsys):
    [instance] = TRACED["studies"][0]["instances"]
    sent = [{**instance, "calling_ae_title": title} for title in ("US7", "CT1", "CT1", None)]
    terminal.show_trace({**TRACED, "studies": [{**TRACED["studies"][0], "instances": sent}]})
    assert capsys.readouterr().out.splitlines()[0].endswith("  from CT1, US7")


def test_uids_are_shortened_in_the_middle_at_80_columns(monkeypatch):
    console = screen(monkeypatch, 80)
    terminal.show_trace(TRACED)
    row = console.export_text().splitlines()[-1]
    assert row.startswith("1.2.840.1…039281.513.4 ")


def test_at_80_columns_neither_the_end_of_a_uid_nor_a_time_nor_a_word_of_a_reason_is_cut(monkeypatch):
    console = screen(monkeypatch, 80)
    reason = "PACS at archive.example.org:11112 cannot be reached: Connection refused"
    attempt = {
        "number": 12,
        "began_at": "2026-11-29T09:31:57+00:00",
        "destination": "archive",
        "node": "gateway-a",
    }
    attempt |= {"state": "deferred", "arrived": 0, "instances": 1200, "verified": 0, "codes": "HTTP 503"}
    [study] = TRACED["studies"]
    changes = [{"keyword": word} for word in ("InstitutionName", "NameOfPhysiciansReadingStudy", "StudyID")]
    instance = {**study["instances"][0], "changes": changes, "reason": reason}
    study = {**study, "instances": [instance]}
    terminal.show_trace({**TRACED, "studies": [study], "attempts": [{**attempt, "reason": reason}]})
    text = console.export_text()
    assert "1.2.840.1…039281.513.4 " in text
    assert "11-29 09:31:57 " in text
    assert text.count("…") == 1
    assert text.count("refused") == 2


def test_uids_are_whole_at_a_wide_terminal(monkeypatch):
    console = screen(monkeypatch, 200)
    terminal.show_trace(TRACED)
    assert console.export_text().splitlines()[-1].startswith(UID)


def test_findings_come_by_weight_and_those_of_one_weight_as_they_came():
    found = [
        CheckFinding(str(n), level, "") for n, level in enumerate(("ok", "note", "error", "unreachable", "ok"))
    ]
    assert [finding.about for finding in check.by_weight(found)] == ["2", "3", "1", "0", "4"]


def test_check_prints_a_line_a_finding_and_what_to_write_only_if_so_wished(monkeypatch, capsys, site_file):
    assert run(monkeypatch, "check", "--site", site_file) in {69, 78}
    lines = capsys.readouterr().out.splitlines()
    levels = [line.split()[0] for line in lines]
    assert levels == sorted(levels, key=["error", "unreachable", "note", "ok"].index)
    (classes,) = [line for line in lines if "storage classes" in line]
    assert "more_sop_classes" in classes
    assert len(classes) < 300
    run(monkeypatch, "check", "--fix-hints", "--site", site_file)
    hinted = capsys.readouterr().out.splitlines()
    assert [line for line in hinted if not line.startswith("    ")] == lines
    assert len(hinted) > len(lines) + 50


def test_status_says_what_is_free_in_the_spool(capsys, site_file):
    settings = load(site_file)
    ledger, _ = open_ledger(settings.site.spool)
    with closing(ledger):
        answer = status(settings, ledger)
    terminal.show_status(answer | {"space": {**answer["space"], "free": 3 << 30, "state": "low"}})
    assert "free in the spool: 3.0 GiB low\n" in capsys.readouterr().out


@pytest.mark.parametrize("first", [True, False])
def test_the_site_may_be_named_before_and_behind_the_command(monkeypatch, capsys, site_file, first):
    words = ("--site", site_file, "status") if first else ("status", "--site", site_file)
    assert run(monkeypatch, *words) == 78
    assert f"{site_file.parent / 'spool'}" in capsys.readouterr().err


def test_the_site_may_be_named_behind_a_command_of_a_group(monkeypatch, capsys, site_file):
    assert run(monkeypatch, "quarantine", "list", "--site", site_file) == 78
    assert f"{site_file.parent / 'spool'}" in capsys.readouterr().err


def test_a_shell_completes_the_names_of_destinations(site_file):
    asked = {"_STORESTOW_COMPLETE": "complete_bash", "COMP_CWORD": "4"}
    asked["COMP_WORDS"] = f"storestow --site {site_file} pause n"
    program = Path(sys.executable).with_name("storestow")
    done = subprocess.run([program], env={**os.environ, **asked}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["nowhere"]), done.stderr
