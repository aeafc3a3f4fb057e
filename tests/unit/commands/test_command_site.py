"""What every command has in common: the ledger it opened is closed when it ends, however it ends."""

import pytest
from support.sites import line_site
from typer.testing import CliRunner

from pipeline.commands import cli
from pipeline.commands.command_site import CommandContext
from pipeline.ledger import Ledger
from pipeline.site import site_ledger
from pipeline.site.settings import load

SITE = """
[site]
spool = "{folder}/spool"
[[receiver]]
name = "modalities"
ae_title = "STORESTOW"
port = 11112
to = ["nowhere"]
[[destination]]
name = "nowhere"
kind = "null"
"""


@pytest.mark.parametrize(
    ("command", "code"),
    [(("status", "--json"), 0), (("quarantine", "list"), 0), (("trace", "nobody knows"), 64), (("health",), 69)],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else str(words),
)
def test_a_command_closes_its_ledger(tmp_path, monkeypatch, command, code):
    file = tmp_path / "site.toml"
    file.write_text(SITE.format(folder=tmp_path))
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
