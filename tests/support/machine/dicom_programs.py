"""Start, use and stop the real programs the tests talk to: DCMTK's senders and receivers, and Orthanc.

Everything listens on free loopback ports, writes below the folder the test names, and is dead when the
`with` block ends, whatever happened inside it.
"""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import requests

T = TypeVar("T")

_VENV = Path(sys.prefix) / "bin"
SYSTEM_PATH = os.pathsep.join(
    [*(part for part in os.environ.get("PATH", "").split(os.pathsep) if part and Path(part) != _VENV), "/usr/sbin"]
)
# DCMTK leaves Nagle's algorithm on unless told otherwise, which costs 40 to 90 ms an object.
ENVIRONMENT = {"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", "TCP_NODELAY": "1"}
_CHANCE = random.SystemRandom()
_GIVEN: set[int] = set()
_TABLES = [table for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")) if table.exists()]  # on Linux


def program(name: str) -> str:
    """Return the absolute path of the system's `name`, never one a wheel put into the virtual environment."""
    path = shutil.which(name, path=SYSTEM_PATH)
    assert path, f"{name} is not installed: `make install` brings it"
    return path


def free_port() -> int:
    """Return a port nobody listens on and nobody else was given in this run.

    It lies below the range from which the kernel takes ports for outgoing calls. Tests that run at the same time
    draw from ranges of their own: who was given a port has not always bound it when the next one asks.
    """
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    while True:
        port = 10_000 + _CHANCE.randrange(22_000 // count) * count + number
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("", port))
            if port not in _GIVEN:
                _GIVEN.add(port)
                return port


def wait_until(condition: Callable[[], T], *, seconds: float = 20, what: str = "") -> T:
    """Return the first true value of `condition`, asked every 20 ms; fail with `what` when time is up.

    A condition that takes long itself is asked less often, so that asking leaves the processor to what is awaited.
    """
    end = time.monotonic() + seconds
    while True:
        asked = time.monotonic()
        value = condition()
        if value:
            return value
        now = time.monotonic()
        if now > end:
            raise AssertionError(f"waited {seconds} s in vain{': ' + what if what else ''}")
        time.sleep(min(max(0.02, 3 * (now - asked)), 0.5))


def listens(port: int) -> bool:
    """Say whether somebody listens on the loopback port, by the kernel's table where there is one.

    To try and bind the port would keep it for a moment from the program that is about to listen.
    """
    if _TABLES:
        return f"{port:04X}" in _listening()
    try:
        with socket.socket() as probe:
            probe.bind(("", port))
    except OSError:
        return True
    return False


def _listening() -> set[str]:
    """Return every port on which a socket listens, in hexadecimal digits as the kernel writes them."""
    sockets = [line.split() for table in _TABLES for line in table.read_text().splitlines()[1:]]
    return {local.rpartition(":")[2] for _, local, _, state, *_ in sockets if state == "0A"}


@contextlib.contextmanager
def running(
    argv: Sequence[str | Path],
    *,
    log: Path,
    port: int | None = None,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `argv` in a process group of its own, its output in `log`; wait until `port` is open, if named."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=ENVIRONMENT if env is None else env,
            cwd=cwd,
            start_new_session=True,
        )
    try:
        if port is not None:
            wait_until(
                lambda: process.poll() is not None or listens(port),
                what=f"{argv[0]} does not listen on {port}",
            )
            assert process.poll() is None, f"{argv[0]} ended at once: {log.read_text(errors='replace')}"
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes], *, seconds: float = 15) -> int:
    """End the process group with SIGTERM, then SIGKILL; return the exit code of its leader."""
    assert process.pid > 1  # the group 1 is everybody
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


@dataclass(frozen=True)
class Sent:
    """What a sender said; its exit code proves nothing, so count `acknowledged`."""

    exit_code: int
    output: str

    @property
    def acknowledged(self) -> int:
        """Return how many C-STORE responses said Success."""
        return len(re.findall(r"Received (?:C-STORE|Store) Response \(Success\)", self.output))


def _sent(argv: Sequence[str | Path], timeout: float) -> Sent:
    done = subprocess.run(
        [str(word) for word in argv],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
        check=False,
    )
    return Sent(done.returncode, done.stdout.decode("utf-8", "replace"))


def dcmsend(
    port: int,
    *paths: Path,
    calling: str = "SENDER",
    called: str = "STORESTOW",
    host: str = "127.0.0.1",
    options: Sequence[str] = (),
    timeout: float = 120,
) -> Sent:
    """Send files, or all below folders, with DCMTK's dcmsend: as many associations as the classes need."""
    names = ["-aet", calling, "-aec", called, "-to", "10", "-ta", "60"]
    return _sent(
        [program("dcmsend"), "-v", "-nh", "-nuc", "-dn", "+sd", "+r", *names, *options, host, str(port), *paths],
        timeout,
    )


def storescu(
    port: int,
    *paths: Path,
    calling: str = "SENDER",
    called: str = "STORESTOW",
    host: str = "127.0.0.1",
    options: Sequence[str] = (),
    timeout: float = 120,
    inside: Callable[..., list[str]] = lambda *words: [*words],
) -> Sent:
    """Send files with DCMTK's storescu: one association, proposing for native encodings only unless told more.

    `inside` makes a command line one of another machine, as `Machine.inside` of `network` does.
    """
    names = ["-aet", calling, "-aec", called, "-to", "10", "-ta", "60"]
    words = [program("storescu"), "-v", "-nh", *names, *options, host, str(port), *map(str, paths)]
    return _sent(inside(*words), timeout)


def echoscu(
    port: int, *, calling: str = "SENDER", called: str = "STORESTOW", host: str = "127.0.0.1", timeout: float = 30
) -> Sent:
    """Ask for a C-ECHO; the exit code is 0 when it was answered."""
    return _sent(
        [program("echoscu"), "-to", "5", "-ta", "10", "-aet", calling, "-aec", called, host, str(port)], timeout
    )


@contextlib.contextmanager
def storescp(folder: Path, *options: str) -> Iterator[int]:
    """Run a plain DCMTK storescp that takes everything into `folder`; yields its port."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    argv: list[str | Path] = [program("storescp"), "+xa", "-pm", "+uf", "-dhl", "-od", folder, *options, str(port)]
    with running(argv, log=folder.with_suffix(".log"), port=port):
        yield port


@dataclass(frozen=True)
class Orthanc:
    """A private archive: `studies` is its STOW-RS and QIDO-RS address, `dicom_port` its C-STORE door."""

    rest: str
    dicom_port: int
    log: Path

    @property
    def dicomweb(self) -> str:
        """Return the root of its DICOMweb services."""
        return f"{self.rest}/dicom-web"

    @property
    def studies(self) -> str:
        """Return the address `url` of a stow destination means."""
        return f"{self.dicomweb}/studies"

    def qido(self, path: str, **query: str) -> list[dict[str, object]]:
        """Ask QIDO-RS at `path` below the root, say `studies` or `studies/1.2/series`."""
        answer = requests.get(
            f"{self.dicomweb}/{path}", params=query, headers={"Accept": "application/dicom+json"}, timeout=30
        )
        if answer.status_code == requests.codes.no_content:
            return []
        answer.raise_for_status()
        found: list[dict[str, object]] = answer.json()
        return found

    def instances(self) -> dict[str, str]:
        """Return Orthanc's own identifier of each instance by its SOP Instance UID."""
        known = requests.get(f"{self.rest}/instances?expand", timeout=60)
        known.raise_for_status()
        return {one["MainDicomTags"]["SOPInstanceUID"]: one["ID"] for one in known.json()}

    def download(self, identifier: str) -> bytes:
        """Return the stored file of one of `instances()`, byte by byte."""
        file = requests.get(f"{self.rest}/instances/{identifier}/file", timeout=60)
        file.raise_for_status()
        return file.content

    def download_all(self) -> dict[str, bytes]:
        """Return every stored file by its SOP Instance UID."""
        return {uid: self.download(identifier) for uid, identifier in self.instances().items()}


@contextlib.contextmanager
def orthanc(folder: Path, *, plugins: Sequence[str] = ("DicomWeb",), **configuration: object) -> Iterator[Orthanc]:
    """Run an Orthanc of the test's own with these plug-ins, its storage below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    http, dicom = free_port(), free_port()
    settings: dict[str, object] = {
        "Name": "TEST",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": http,
        "DicomPort": dicom,
        "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowEcho": True,
        "UnknownSopClassAccepted": True,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "OverwriteInstances": False,
        "ExecuteLuaEnabled": False,
        "Plugins": [str(_plugin(name)) for name in plugins],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": True, "Host": "127.0.0.1", "Ssl": False},
        **configuration,
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(settings))
    log = folder / "orthanc.log"
    with running([program("Orthanc"), file], log=log, cwd=folder) as process:
        archive = Orthanc(f"http://127.0.0.1:{http}", dicom, log)
        wait_until(
            lambda: process.poll() is not None or _answers(f"{archive.rest}/system"), seconds=60, what="Orthanc"
        )
        assert process.poll() is None, log.read_text(errors="replace")
        yield archive


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def _plugin(name: str) -> Path:
    folders = [Path("/usr/share/orthanc/plugins"), Path("/usr/local/share/orthanc/plugins")]
    found = [file for folder in folders for file in folder.glob(f"libOrthanc{name}.*")]
    assert found, f"Orthanc's plug-in {name} is not installed: the package orthanc-{name.lower()} of Debian has it"
    return found[0]
