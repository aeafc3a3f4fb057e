"""What every command has in common: it closes the ledger it opened, and what a person did by it is kept."""

import os
from contextlib import closing

import pytest
from support.sites import line_site
from typer.testing import CliRunner

from pipeline.commands import cli
from pipeline.commands.command_site import CommandContext
from pipeline.ledger import Ledger, act_records, open_ledger
from pipeline.site import site_ledger
from pipeline.site.settings import load


@pytest.mark.parametrize(
    ("command", "code"),
    [(("status", "--json"), 0), (("quarantine", "list"), 0), (("trace", "nobody knows"), 64), (("health",), 69)],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else str(words),
)
def test_a_command_closes_its_ledger(tmp_path, monkeypatch, command, code):
    file = line_site.site_file(tmp_path)
    with line_site.working(load(file)):
        pass
    monkeypatch.setattr(CommandContext, "site", None)
    opened, closed, ledger_of, close = [], [], site_ledger.ledger_of, Ledger.close
    monkeypatch.setattr(site_ledger, "ledger_of", lambda settings: opened.append(ledger_of(settings)) or opened[0])
    monkeypatch.setattr(Ledger, "close", lambda ledger: (closed.append(ledger), close(ledger)))
    end = CliRunner().invoke(cli.app, ["--site", str(file), *command])
    assert getattr(end.exception, "exit_code", end.exit_code) == code, end.output
    assert opened == closed
    assert len(opened) == 1


@pytest.fixture
def site_file(tmp_path):
    file = line_site.site_file(tmp_path, "archive")
    (tmp_path / "spool").mkdir()
    open_ledger(tmp_path / "spool")[0].close()
    return file


@pytest.fixture
def run(monkeypatch, site_file):
    """Run a command of the site; returns its exit code and what was recorded, the oldest first."""
    monkeypatch.setattr(cli, "log_to_stderr", lambda: None)
    monkeypatch.setattr(CommandContext, "site", None)

    def done(*words: str) -> tuple[int, list[act_records.Act]]:
        monkeypatch.setattr("sys.argv", ["storestow", *words, "--site", str(site_file)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        ledger, _ = open_ledger(site_file.with_name("spool"))
        with closing(ledger), ledger.reading() as connection:
            return end.value.code, act_records.newest(connection, 9)[::-1]

    return done


def test_who_paused_why_and_who_resumed_is_kept(run, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "night-shift")
    assert run("pause", "archive", "--reason", "no paper", "--by", "Bo Ss")[0] == 0
    code, acts = run("resume", "archive")
    assert code == 0
    assert [act[1:] for act in acts] == [
        ("Bo Ss", "pause", "archive", "no paper"),
        ("night-shift", "resume", "archive", None),
    ]


def test_what_was_refused_is_not_kept_as_done(run):
    assert run("reroute", "old", "archive")[0] == 64
    assert run("cancel", "7", "--reason", "nobody needs it")[0] == 64
    assert run("quarantine", "release", "nothing")[0] == 64
    assert run("retry", "--all")[0] == 64
    assert run("pause", "another")[1] == []


def test_a_user_without_a_login_name_has_a_number(run, monkeypatch):
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_001)
    [act] = run("resume", "archive")[1]
    assert act.by == "user 4000001"
