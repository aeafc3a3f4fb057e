"""The test's end of `killed_at`: ask for a process, look after it as if it were one of our own."""

import functools
import json
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from support.machine.dicom_programs import ENVIRONMENT

PLAIN = {
    "count": 1,
    "by": signal.SIGKILL,
    "ballast": None,
    "read_only": None,  # a folder that becomes so at the point
    "flushed": None,  # a folder for a copy of the ledger as a power cut would leave it
    "record": None,  # a file for the names of all points that are reached; then nothing happens at `point`
    "poll_seconds": 5.0,
    "clock": None,  # a file that says by how many seconds the wall clock is ahead
    "shortest_wait": 5.0,  # seconds before a second attempt
    "in_one_room": True,
    "in_parts": False,  # hand every instance of a study on as soon as it is ready
}
SCRIPT = Path(__file__).with_name("killed_at.py")


@functools.cache
def forker() -> subprocess.Popen[bytes]:
    """Return the process that forks; it ends when this one does, because its standard input does."""
    return subprocess.Popen(
        [sys.executable, "-I", str(SCRIPT)],
        env={**ENVIRONMENT, "OPENBLAS_NUM_THREADS": "1"},  # a thread would not survive a fork
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,  # what is buffered here, `select` does not see
    )


class Forked:
    """One forked process, with as much of Popen's interface as is needed; only one lives at a time.

    A request says `words`, `log` and `point`, and may say what of `PLAIN` is to be otherwise.
    """

    def __init__(self, request: dict[str, Any]) -> None:
        process = forker()
        assert process.stdin is not None
        assert process.stdout is not None
        self._answers = process.stdout
        process.stdin.write(json.dumps({**PLAIN, **request}).encode() + b"\n")
        process.stdin.flush()
        self.pid = self._answer("started")
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        end = time.monotonic() + (timeout if timeout is not None else 3600)
        while self._look(max(0.0, end - time.monotonic())) is None:
            if time.monotonic() >= end:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def _look(self, seconds: float) -> int | None:
        if self.returncode is None and select.select([self._answers], [], [], seconds)[0]:
            self.returncode = self._answer("ended")
        return self.returncode

    def _answer(self, word: str) -> int:
        """Read one answer; taking an exit code of 1 for a process number would end every process there is."""
        line = self._answers.readline().decode()
        said, _, number = line.partition(" ")
        assert said == word, f"the forking process said {line!r}, where {word!r} was due"
        return int(number)
