"""The programs of the demonstration: where they are, and how they are started and always stopped."""

import os
import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path

LEASH = Path(__file__).with_name("leash.py")
# DCMTK leaves Nagle's algorithm on unless told otherwise, which costs 40 to 90 ms an object.
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}


class Unhealthy(Exception):
    """Say why the site cannot be shown, and with which exit code to end (sysexits.h)."""

    def __init__(self, message: str, exit_code: int = 69) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Program:
    """A program on a leash: it ends when `stop` is called, and also when we die without calling it."""

    def __init__(self, name: str, argv: list[str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._leash = subprocess.Popen(
                [sys.executable, "-I", str(LEASH), *argv],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=ENVIRONMENT,
                start_new_session=True,  # Ctrl-C reaches us alone, and we stop the programs in order
            )

    def must_run(self) -> None:
        """Raise Unhealthy with the end of its log where the program has ended."""
        code = self._leash.poll()
        if code is not None:
            last = "\n  ".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise Unhealthy(
                f"{self.name} ended with exit code {code}; the end of {self.log}:\n  {last}", code or 70
            )

    def stop(self) -> None:
        """Stop the program and what it started, and wait until they are gone."""
        if self._leash.stdin:
            self._leash.stdin.close()
        self._leash.wait()


def find(name: str) -> str:
    """Return the system's program `name`, never one that a wheel put into the virtual environment."""
    ours = Path(sys.executable).parent
    folders = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if Path(folder) != ours]
    path = shutil.which(name, path=os.pathsep.join([*folders, "/usr/sbin", "/usr/local/sbin"]))
    if not path:
        raise Unhealthy(f"{name} is not installed: `make install` brings it on Debian and Ubuntu, see README.md")
    return path


def is_free(port: int) -> bool:
    """Say whether nobody listens on `port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # yesterday's connections do not occupy it
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a free port below the range from which kernels take ports for outgoing calls."""
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        if is_free(port):
            return port
