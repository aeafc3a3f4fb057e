"""Every command line of ours in a document is one the program understands; what no test runs is marked so."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from pipeline.commands.cli import app

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
PROGRAM = typer.main.get_command(app)
UsageError = typer.BadParameter.__base__
_SHELL = re.compile(r"^ *```\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_OURS = re.compile(r"(?:^|/bin/)storestow(?= )")
# Programs of systems that are not here: their lines stand in a document that says `Not run here` of them.
ELSEWHERE = {"brew", "systemctl", "journalctl", "launchctl", "docker", "systemd-sysusers", "runuser", "setpriv"}
PLACEHOLDERS = {"ORDER": "1", "NUMBER": "1", "COMMAND": "status"}


def lines_of(text: str) -> list[str]:
    """Return the command lines of shell blocks and of inline code, without comments."""
    joined = text.replace("\\\n", " ")
    blocks = [line.strip() for block in _SHELL.findall(joined) for line in block.splitlines()]
    inline = re.findall(r"`(storestow [^`\n]+)`", joined)
    return [re.split(r"\s+#\s|\s{3,}", line)[0] for line in (*blocks, *inline)]


def ours(text: str) -> list[list[str]]:
    """Return the words behind `storestow` of every command line that has them."""
    found = []
    for line in lines_of(text):
        if (match := _OURS.search(line)) and not line.startswith("apt-get"):
            try:
                words = shlex.split(line[match.end() :])
            except ValueError:
                continue  # A quotation across two lines of prose.
            if words and re.fullmatch(r"[a-z-]+", words[0]):
                found.append([PLACEHOLDERS.get(word, word) for word in words if word not in {"...", "…"}])
    return found


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
