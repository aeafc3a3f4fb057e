"""A part of the site ends when it is asked to, whatever it is doing at that moment."""

import subprocess
import sys

PART = """
import signal, sys, threading
from pipeline.processes.end_on_signal import end_by

asked, woken = threading.Event(), threading.Event()

def end():
    asked.set()
    woken.set()
    print("ended", flush=True)

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
        "assert asked.wait(10) and woken.wait(10)"
    ) == ["went", "on", "ended"]


def test_more_signals_end_it_once():
    script = "\n".join(f"signal.raise_signal(signal.{name})" for name in ("SIGINT", "SIGTERM", "SIGTERM"))
    assert run(f"{script}\nasked.wait(10)\nimport time; time.sleep(0.2)") == ["ended"]


def test_nothing_is_called_before_a_signal_comes():
    assert run("import time; time.sleep(0.2)") == []
