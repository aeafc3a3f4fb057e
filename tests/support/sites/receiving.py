"""Run `storestow receive` as a service would, send it things nobody should send, and count what it holds."""

import contextlib
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import psutil
from pydicom import dcmread
from support.machine.dicom_programs import ENVIRONMENT, free_port, program, running, wait_until

from pipeline.spool.spool import Spool

CT = "1.2.840.10008.5.1.4.1.1.2"
ROOT = "1.2.826.0.1.3680043.9.9998"


@dataclass
class Reception:
    """A running receiver named `r`."""

    process: Popen[bytes]
    spool: Spool
    port: int
    log: Path
    site: Path

    @property
    def incoming(self) -> Path:
        return self.spool.incoming_of("r")

    def arrivals(self) -> list[Path]:
        return sorted(self.spool.arrivals.iterdir())

    def admitted(self) -> list[tuple[str, str]]:
        """Return (Study, SOP Instance UID) of every admitted file."""
        return sorted(identity(file) for folder in self.arrivals() for file in files_of(folder))

    def wait_for(self, count: int, *, seconds: float = 30) -> list[tuple[str, str]]:
        """Return `admitted()` once it holds `count` files; fail when it does not, or holds more."""
        wait_until(lambda: len(self.admitted()) >= count, seconds=seconds, what=f"{count} files: {self.text()}")
        assert len(self.admitted()) == count
        return self.admitted()

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def storescps(self) -> list[psutil.Process]:
        """Return the living storescp processes that write for this receiver."""
        return [p for p in psutil.process_iter() if str(self.incoming) in _cmdline(p) and _is_storescp(p)]

    def storescp(self) -> psutil.Process:
        (process,) = self.storescps()
        return process


def _cmdline(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _is_storescp(process: psutil.Process) -> bool:
    try:
        return process.name() == "storescp" and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def received_to_its_end(site: Path) -> subprocess.CompletedProcess[str]:
    """Run a receiver that is to end by itself, and return what it said."""
    return subprocess.run(
        [sys.executable, "-I", "-m", "pipeline", "--site", site, "receive", "r"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextlib.contextmanager
def receiving(
    folder: Path,
    mode: str,
    *,
    quiet_seconds: int = 1,
    port: int | None = None,
    more: str = "",
    shorten: str = "",
    site_keys: str = "",
) -> Iterator[Reception]:
    """Run receiver `r` on a spool in `folder`; afterwards nothing of it runs any more.

    `shorten` is Python that makes a waiting time of the package shorter before it starts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    site = write_site(folder, mode, port, quiet_seconds=quiet_seconds, more=more, site_keys=site_keys)
    spool = Spool(folder / "spool")
    log = folder / f"receive-{len(list(folder.glob('receive-*.log')))}.log"
    log.touch()
    start = f"{shorten}\nfrom pipeline.commands.cli import main\nmain()"
    argv = [sys.executable, "-I", "-c", start, "--site", site, "receive", "r"]
    try:
        with running(argv, log=log) as process:
            wait_until(
                lambda: process.poll() is not None or "receiver-started" in log.read_text(),
                what="receiver-started",
            )
            assert process.poll() is None, log.read_text()
            yield Reception(process, spool, port, log, site)
    finally:
        end_storescps(spool)


def end_storescps(spool: Spool) -> None:
    """Kill what a killed `receive` has left behind."""
    for process in psutil.process_iter():
        if _is_storescp(process) and str(spool.root) in _cmdline(process):
            process.kill()


def write_site(
    folder: Path, mode: str, port: int, *, quiet_seconds: int = 1, more: str = "", site_keys: str = ""
) -> Path:
    site = folder / "site.toml"
    site.write_text(
        f'[site]\nspool = "{folder / "spool"}"\n{site_keys}\n[programs]\nstorescp = "{program("storescp")}"\n'
        f'[[receiver]]\nname = "r"\nae_title = "STORESTOW"\nport = {port}\nmode = "{mode}"\n'
        f"quiet_seconds = {quiet_seconds}\n{more}\n"
    )
    return site


def files_of(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if not file.name.startswith(".")]


def identity(file: Path) -> tuple[str, str]:
    """Return Study and SOP Instance UID as they stand in the file, unjudged."""
    dataset = dcmread(file, force=True, stop_before_pixels=True)
    values = [dataset.get_item(tag).value or b"" for tag in (0x0020000D, 0x00080018)]
    return values[0].rstrip(b"\0 ").decode("ascii"), values[1].rstrip(b"\0 ").decode("ascii")


def write_instance(
    folder: Path,
    number: int,
    *,
    study: str = f"{ROOT}.1",
    sop: str | None = None,
    sop_class: str = CT,
    size: int = 64,
    pad: bytes = b"\0",
) -> Path:
    """Write a Part 10 file whose UIDs no library has looked at, with `size` bytes of Pixel Data."""
    sop = sop or f"{ROOT}.2.{number}"
    image = [
        (0x00080016, b"UI", _even(sop_class, pad)),
        (0x00080018, b"UI", _even(sop, pad)),
        (0x00080060, b"CS", b"CT"),
        (0x00100010, b"PN", b"DOE^JANE"),
        (0x00100020, b"LO", b"4711"),
        (0x0020000D, b"UI", _even(study, pad)),
        (0x0020000E, b"UI", _even(f"{ROOT}.3", pad)),
        (0x00280002, b"US", struct.pack("<H", 1)),
        (0x00280004, b"CS", b"MONOCHROME2 "),
        (0x00280010, b"US", struct.pack("<H", 1)),
        (0x00280011, b"US", struct.pack("<H", size)),
        (0x00280100, b"US", struct.pack("<H", 8)),
        (0x00280101, b"US", struct.pack("<H", 8)),
        (0x00280102, b"US", struct.pack("<H", 7)),
        (0x00280103, b"US", struct.pack("<H", 0)),
        (0x7FE00010, b"OB", bytes([number % 256]) * size),
    ]
    meta = [
        (0x00020001, b"OB", b"\0\1"),
        (0x00020002, b"UI", _even(sop_class, b"\0")),
        (0x00020003, b"UI", _even(sop, b"\0")),
        (0x00020010, b"UI", _even("1.2.840.10008.1.2.1", b"\0")),
        (0x00020012, b"UI", _even(ROOT, b"\0")),
    ]
    body = b"".join(_element(*one) for one in meta)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number:05}.dcm"
    path.write_bytes(
        b"\0" * 128
        + b"DICM"
        + _element(0x00020000, b"UL", struct.pack("<I", len(body)))
        + body
        + b"".join(_element(*one) for one in image)
    )
    return path


def _even(text: str, pad: bytes) -> bytes:
    value = text.encode("ascii")
    return value + pad * (len(value) % 2)


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    long = vr in {b"OB", b"OW", b"UN", b"SQ", b"UT"}
    length = struct.pack("<HI", 0, len(value)) if long else struct.pack("<H", len(value))
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr + length + value


def kill(process: psutil.Process | Popen[bytes]) -> None:
    """SIGKILL one process, and return when it is gone."""
    process.kill()
    process.wait(10)


def has_ended(process: psutil.Process) -> bool:
    """Say whether a process has ended; where nobody collects orphans it stays in the table as a zombie."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
