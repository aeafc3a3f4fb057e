"""`storestow migrate` says first what it will do, does it only while no worker runs, and refuses to go back."""

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.sites import line_site
from support.sites.older_ledger import VERSIONS, as_version

from pipeline.commands import cli, migrate
from pipeline.commands.command_site import CommandContext
from pipeline.ledger import FILE_NAME, migrations
from pipeline.site.settings import load
from pipeline.site.worker_state import sole_worker
from pipeline.spool.spool import Spool


@pytest.fixture(autouse=True)
def _no_log(monkeypatch):
    monkeypatch.setattr(cli, "log_to_stderr", lambda: None)
    monkeypatch.setattr(CommandContext, "site", None)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site with one delivered study, whose ledger is of this release."""
    file = line_site.site_file(tmp_path)
    with line_site.working(load(file)) as (site, worker):
        line_site.arrive(site.spool, line_site.instance(tmp_path))
        line_site.rounds(worker, until=lambda: line_site.states(site, "arrivals") == {"settled": 1})
    return file


def ledger_of(site: Path) -> Path:
    return site.parent / "spool" / FILE_NAME


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as ledger:
        number: int = ledger.execute("PRAGMA user_version").fetchone()[0]
    return number


def run(monkeypatch, site: Path, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["storestow", *words, "--site", str(site)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def content(path: Path) -> dict[str, str]:
    return {it.name: hashlib.sha256(it.read_bytes()).hexdigest() for it in path.parent.glob(f"{FILE_NAME}*")}


@pytest.mark.parametrize("number", VERSIONS)
def test_a_dry_run_tells_steps_rows_and_copy_and_changes_nothing(monkeypatch, capsys, site, number):
    path = ledger_of(site)
    as_version(path, number)
    before = version(path)
    assert run(monkeypatch, site, "migrate", "--dry-run", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [step["version"] for step in told["steps"]] == list(range(number + 1, migrations.newest() + 1))
    assert (told["copy"], told["fits"], told["done"]) == (f"{path}.version-{number}", True, False)
    by_name = {step["name"]: step["rows"] for step in told["steps"]}
    if number == 2:
        assert (by_name["heartbeat"], by_name["frames"], by_name["requests"]) == (0, 1, 2)
    assert version(path) == before
    assert not Path(told["copy"]).exists()


def test_it_brings_the_ledger_up_to_date_beside_a_copy_and_says_so(monkeypatch, capsys, site):
    path = ledger_of(site)
    as_version(path, 2)
    assert run(monkeypatch, site, "migrate") == 0
    said = capsys.readouterr().out
    assert f"was brought from version 2 to {migrations.newest()}" in said
    assert f"copy of it as it was: {path}.version-2" in said
    assert (version(path), version(Path(f"{path}.version-2"))) == (migrations.newest(), 0)
    assert run(monkeypatch, site, "migrate") == 0
    assert "is up to date" in capsys.readouterr().out


def test_it_does_nothing_while_a_worker_runs(monkeypatch, capsys, site):
    path = ledger_of(site)
    as_version(path, 2)
    with sole_worker(Spool(path.parent)):
        assert run(monkeypatch, site, "migrate") == 78
        assert "another worker is running" in capsys.readouterr().err
        assert run(monkeypatch, site, "migrate", "--dry-run") == 0
    assert version(path) == 0


def test_a_ledger_of_a_newer_release_is_refused_with_what_to_do(monkeypatch, capsys, site):
    path = ledger_of(site)
    with closing(sqlite3.connect(path)) as ledger:
        ledger.execute(f"PRAGMA user_version = {migrations.newest() + 1}")
    before = content(path)
    for words in (("migrate",), ("migrate", "--dry-run"), ("work",), ("status",)):
        assert run(monkeypatch, site, *words) == 78
        told = capsys.readouterr().err
        assert "was written by a newer release" in told, words
        assert "install that release again" in told, words
    assert {**before, **content(path)} == content(path)
    assert version(path) == migrations.newest() + 1


def test_another_user_than_the_ledgers_is_told_whom_to_become(monkeypatch, capsys, site):
    as_version(ledger_of(site), 2)
    monkeypatch.setattr(migrate.os, "geteuid", lambda: 424242)
    assert run(monkeypatch, site, "migrate") == 64
    assert "sudo -u" in capsys.readouterr().err
    assert version(ledger_of(site)) == 0


def test_without_a_ledger_there_is_nothing_to_do(monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, line_site.site_file(tmp_path), "migrate") == 0
    assert "the first worker makes it" in capsys.readouterr().out
