"""Every command line of ours in a document is one the program understands; what no test runs is marked so."""

import re

import pytest
import typer
from support.machine.documented_commands import DOCUMENTS, lines_of, ours

from pipeline.commands.cli import app

PROGRAM = typer.main.get_command(app)
UsageError = typer.BadParameter.__base__
# Programs of systems that are not here: their lines stand in a document that says `Not run here` of them.
ELSEWHERE = {"brew", "systemctl", "journalctl", "launchctl", "docker", "systemd-sysusers", "runuser", "setpriv"}


def parse(words: list[str]) -> None:
    """Parse a command line as the program does, without running it; raises UsageError."""
    command, name, rest, parent = PROGRAM, "storestow", list(words), None
    while True:
        with command.make_context(name, rest, parent=parent) as context:
            if not hasattr(command, "resolve_command"):
                return
            name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            parent = context


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_line_of_ours_is_understood(document):
    wrong = []
    for words in ours(document.read_text()):
        try:
            parse(words)
        except (typer.Exit, SystemExit):
            continue
        except UsageError as error:
            if type(error).__name__ not in {"MissingParameter", "NoArgsIsHelpError"}:  # prose names commands alone
                wrong.append((words, error.format_message()))
    assert not wrong


def test_the_command_lines_are_found_and_a_wrong_option_is_noticed():
    assert len([words for document in DOCUMENTS for words in ours(document.read_text())]) > 60
    for words, message in ((["status", "--jsn"], "No such option"), (["quarantine", "burn"], "No such command")):
        with pytest.raises(UsageError) as raised:
            parse(words)
        assert message in raised.value.format_message()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_that_no_test_runs_are_marked(document):
    text = document.read_text()
    used = {word for line in lines_of(text) for word in re.split(r"[\s;&|]+", line)} & ELSEWHERE
    assert not used or "not run here" in text.lower(), used
