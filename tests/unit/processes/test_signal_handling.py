"""A command that is asked to end does, in good order, whatever it is doing at that moment."""

import contextlib
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.disc.formats.scratch import scratch_beside
from pipeline.processes.signal_handling import ENDING, ended_by_signals, held_back


@pytest.fixture(autouse=True)
def handlers():
    """The handlers of a command in a terminal; a test run in the background may ignore some of these signals."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in ENDING}
    yield dict.fromkeys(ENDING, signal.SIG_DFL)
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_block_that_nothing_interrupts_leaves_the_handlers_as_they_were(handlers):
    with ended_by_signals(), held_back():
        assert all(signal.getsignal(number) != handler for number, handler in handlers.items())
    assert handlers == {number: signal.getsignal(number) for number in ENDING}


def exit_code(block: Callable[[], None]) -> object:
    with pytest.raises(SystemExit) as end, ended_by_signals():
        block()
    return end.value.code


@pytest.mark.parametrize("number", ENDING)
def test_the_first_signal_ends_the_block_and_the_others_are_passed_over(number):
    undone = []

    def block() -> None:
        try:
            signal.raise_signal(number)
        finally:
            for other in ENDING:
                signal.raise_signal(other)
            undone.append(number)

    assert exit_code(block) == 128 + number
    assert undone == [number]


def test_whatever_the_ending_leads_to_the_exit_code_is_the_signal_s():
    def block() -> None:
        try:
            signal.raise_signal(signal.SIGHUP)
        finally:
            raise OSError("the terminal is gone")

    assert exit_code(block) == 129


def test_what_is_ignored_from_the_beginning_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_signals(), held_back():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_that_is_held_back_comes_when_the_block_is_done():
    done = []

    def block() -> None:
        with held_back():
            signal.raise_signal(signal.SIGTERM)
            done.append("held back")
        done.append("behind")

    assert exit_code(block) == 143
    assert done == ["held back"]


def test_in_another_thread_nothing_is_held_back_for_nothing_interrupts_it():
    done = []

    def work() -> None:
        with held_back():
            done.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.getsignal(signal.SIGINT)]


def test_a_signal_in_the_midst_of_the_removal_does_not_leave_the_hidden_folder(tmp_path, monkeypatch):
    original = shutil.rmtree
    times = []

    def interrupted(folder: Path, **how: bool) -> None:
        times.append(folder)
        if len(times) == 1:
            signal.raise_signal(signal.SIGTERM)
        original(folder, **how)

    monkeypatch.setattr("pipeline.disc.formats.scratch.shutil.rmtree", interrupted)
    with contextlib.suppress(SystemExit), ended_by_signals(), scratch_beside(tmp_path / "A1.iso") as folder:
        (folder / "image").write_bytes(b"x")
    assert times
    assert list(tmp_path.iterdir()) == []


PART = """
import signal, sys, threading
from pipeline.processes.signal_handling import end_by

asked, woken, told = threading.Event(), threading.Event(), threading.Event()

def end():
    asked.set()
    woken.set()
    print("ended", flush=True)
    told.set()

end_by(end, signal.SIGTERM, signal.SIGINT)
"""


def run(script: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PART + script], capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout.split()


def test_a_signal_that_comes_while_the_lock_of_the_event_is_held_ends_the_part():
    assert run(
        "with woken._cond:\n"
        "    signal.raise_signal(signal.SIGTERM)\n"  # its handler runs here, in this thread
        "    print('went on', flush=True)\n"
        "assert asked.wait(10) and woken.wait(10) and told.wait(10)"
    ) == ["went", "on", "ended"]


def test_more_signals_end_it_once():
    script = "\n".join(f"signal.raise_signal(signal.{name})" for name in ("SIGINT", "SIGTERM", "SIGTERM"))
    assert run(f"{script}\ntold.wait(10)\nimport time; time.sleep(0.2)") == ["ended"]


def test_nothing_is_called_before_a_signal_comes():
    assert run("import time; time.sleep(0.2)") == []
