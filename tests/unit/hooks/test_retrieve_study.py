"""hooks/retrieve-study: it becomes `storestow retrieve`, with the words it was given and no others."""

import os
import subprocess
from pathlib import Path

import pytest

HOOK = Path(__file__).parents[3] / "hooks" / "retrieve-study"


@pytest.fixture
def storestow(tmp_path: Path) -> Path:
    """A storestow that prints its arguments, one a line, and ends with 65."""
    script = tmp_path / "bin" / "storestow"
    script.parent.mkdir()
    script.write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done\nexit 65\n')
    script.chmod(0o755)
    return script


def call(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run([HOOK, *words], env=env, capture_output=True, text=True, check=False)


def test_it_becomes_storestow_retrieve_and_ends_as_that_ends(storestow):
    done = call("--site", "/etc/s.toml", "--to", "disc", "--modality", "MR", "A1,A2", STORESTOW=str(storestow))
    assert done.stdout.splitlines() == [
        *("--site", "/etc/s.toml", "retrieve", "--to", "disc", "--modality", "MR", "A1,A2")
    ]
    assert done.returncode == 65


def test_a_forced_command_takes_one_word_from_the_caller(storestow):
    done = call("--to", "disc", STORESTOW=str(storestow), SSH_ORIGINAL_COMMAND=" A1,A2 ")
    assert done.stdout.splitlines() == ["retrieve", "--to", "disc", "A1,A2"]


@pytest.mark.parametrize("asked", ["", "  ", "--to other A1", "A1 --to other", "-v", "A1\nA2"])
def test_a_caller_by_ssh_cannot_add_an_option(storestow, asked):
    done = call("--to", "disc", STORESTOW=str(storestow), SSH_ORIGINAL_COMMAND=asked)
    assert (done.returncode, done.stdout) == (64, "")


def test_what_a_caller_by_ssh_gives_is_one_argument_whatever_it_holds(storestow):
    done = call("--to", "disc", STORESTOW=str(storestow), SSH_ORIGINAL_COMMAND="A1;reboot,$HOME")
    assert done.stdout.splitlines() == ["retrieve", "--to", "disc", "A1;reboot,$HOME"]


@pytest.mark.parametrize("words", [(), ("A1",), ("--to", "disc")])
def test_without_a_destination_or_a_number_it_says_how_it_is_called(storestow, words):
    done = call(*words, STORESTOW=str(storestow))
    assert done.returncode == 64
    assert done.stderr.startswith("usage: retrieve-study")


def test_it_finds_storestow_on_the_path_where_none_lies_beside_it(storestow, tmp_path):
    copy = tmp_path / "hooks" / "retrieve-study"
    copy.parent.mkdir()
    copy.write_bytes(HOOK.read_bytes())
    copy.chmod(0o755)
    env = {"PATH": f"{storestow.parent}:{os.environ['PATH']}"}
    done = subprocess.run([copy, "--to", "disc", "A1"], env=env, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["retrieve", "--to", "disc", "A1"]


def test_a_storestow_that_is_not_there_is_said(tmp_path):
    done = call("--to", "disc", "A1", STORESTOW=str(tmp_path / "nowhere"))
    assert done.returncode == 69
