"""hooks/process-study: admits as study-complete does, and starts a worker only where none works."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.machine.dicom_programs import wait_until

HOOK = Path(__file__).parents[3] / "hooks" / "process-study"
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


@pytest.fixture
def spool(tmp_path):
    for room in ("incoming/r", "arrivals", "run"):
        (tmp_path / "spool" / room).mkdir(parents=True)
    return tmp_path / "spool"


@pytest.fixture
def storestow(tmp_path):
    """A program that notes what it is called with, and lives on until the test has ended."""
    program, ended = tmp_path / "storestow", tmp_path / "ended"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/called\nls -l /proc/self/fd > {tmp_path}/open\n'
        f"while [ -d {tmp_path} ] && [ ! -e {ended} ]; do sleep 0.1; done\n"
    )
    program.chmod(0o755)
    yield program
    ended.touch()


def folder_in(spool: Path) -> Path:
    folder = spool / "incoming/r/1.2.3"
    folder.mkdir()
    (folder / "CT.1").write_bytes(b"pixels")
    return folder


def run(*words: object, **more: object) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-I", "-S", str(HOOK), *map(str, words)]
    return subprocess.run(argv, env=ENVIRONMENT, text=True, check=False, timeout=60, capture_output=True, **more)


def text_of(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def test_it_admits_and_starts_a_worker_that_it_does_not_wait_for(spool, storestow):
    done = run(storestow, "/etc/site.toml", spool / "incoming/r", folder_in(spool))  # which ends before the worker
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((spool / "arrivals").iterdir())) == 1
    called = wait_until(lambda: text_of(storestow.parent / "called"), what="the worker")
    assert called == "--site /etc/site.toml work --until-idle\n"


def test_the_worker_has_neither_a_socket_of_storescp_nor_its_pipe(spool, storestow):
    port = os.open("/etc/passwd", os.O_RDONLY)  # in the place of the socket storescp listens on
    os.set_inheritable(port, True)
    run(storestow, "/etc/site.toml", spool / "incoming/r", folder_in(spool), pass_fds=(port,))
    opened = wait_until(lambda: text_of(storestow.parent / "open"), what="the worker")
    os.close(port)
    assert "/etc/passwd" not in opened
    assert "process-study.log" in opened  # standard error was a pipe, which its reader would wait for


def test_where_a_worker_works_none_is_started(spool, storestow):
    with (spool / "run/worker.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run(storestow, "/etc/site.toml", spool / "incoming/r", folder_in(spool)).returncode == 0
    assert len(list((spool / "arrivals").iterdir())) == 1
    assert not (storestow.parent / "called").exists()


def test_a_folder_that_is_refused_starts_nobody(spool, storestow):
    assert run(storestow, "/etc/site.toml", spool / "incoming/r", spool / "arrivals").returncode == 65
    assert not (storestow.parent / "called").exists()


def test_a_storestow_that_is_missing_is_told_and_the_folder_is_admitted_all_the_same(spool):
    done = run("/nowhere/storestow", "/etc/site.toml", spool / "incoming/r", folder_in(spool))
    assert done.returncode == 69
    assert "the timer will" in done.stderr
    assert len(list((spool / "arrivals").iterdir())) == 1


@pytest.mark.parametrize("words", [(), ("/s", "/t", "/i"), ("storestow", "/t", "/i", "/f")])
def test_other_words_are_a_wrong_usage(words):
    done = run(*words)
    assert done.returncode == 64
    assert done.stderr.startswith("usage:")
