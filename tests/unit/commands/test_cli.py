"""What the command line answers to what it does not understand."""

import sys
from collections.abc import Iterator

import click
import pytest
import typer

from pipeline.commands import cli


@pytest.fixture(autouse=True)
def _no_log(monkeypatch):
    """The tests that come after in this process look at the log, too."""
    monkeypatch.setattr(cli, "log_to_stderr", lambda: None)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("burn",),
        ("status", "--jsn"),
        ("disc",),
        ("disc", "make"),
        ("disc", "a", "-o", "b", "--media", "bluray"),
    ],
)
def test_wrong_usage_has_the_exit_code_of_wrong_usage(words, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["storestow", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 64


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("disc", "--help")])
def test_what_is_asked_for_is_no_wrong_usage(words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["storestow", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    assert capsys.readouterr().out


def commands_below(command: click.Command) -> Iterator[click.Command]:
    yield command
    for inner in getattr(command, "commands", {}).values():
        yield from commands_below(inner)


def test_no_help_has_a_table_in_brackets_which_the_terminal_takes_for_a_colour_and_leaves_out():
    commands = list(commands_below(typer.main.get_command(cli.app)))
    assert len(commands) > 25
    helps = [command.help or "" for command in commands]
    helps += [getattr(parameter, "help", None) or "" for command in commands for parameter in command.params]
    assert [text for text in helps if "[" in text] == []
