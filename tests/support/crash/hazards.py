"""Send studies with the real dcmsend while parts of the site are killed, until everything was acknowledged."""

import contextlib
import random
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid
from support.machine.dicom_programs import ENVIRONMENT, dcmsend, listens, stop, wait_until
from support.sites.running_site import COMMAND, RunningSite, end_all

SIDE = 64


def make_studies(folder: Path, studies: int, instances: int) -> list[list[Path]]:
    """Write studies of small CT instances, no two with the same pixels."""
    template = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    template.Rows = template.Columns = SIDE
    template.ReferringPhysicianName = ""
    del template.DataSetTrailingPadding
    written: list[list[Path]] = []
    for study in range(studies):
        template.StudyInstanceUID = generate_uid()
        template.SeriesInstanceUID = generate_uid()
        template.AccessionNumber = f"RANDOM{study}"
        written.append([_write(template, folder / f"{study:03}-{one:04}.dcm") for one in range(instances)])
    return written


def _write(template: pydicom.Dataset, path: Path) -> Path:
    uid = generate_uid()
    template.SOPInstanceUID = template.file_meta.MediaStorageSOPInstanceUID = uid
    noise = np.random.default_rng(int(uid.rpartition(".")[2]) % 2**63).integers(0, 64, SIDE * SIDE)
    template.PixelData = (noise + np.arange(SIDE * SIDE) // SIDE).astype("<i2").tobytes()
    template.save_as(path, enforce_file_format=True)
    return path


def acknowledged(report: Path) -> set[str]:
    """Return the SOP Instance UIDs that dcmsend's report says were answered with 0x0000."""
    if not report.exists():  # it could not connect, or gave up
        return set()
    entries = report.read_text(errors="replace").split("\nNumber ")
    found = [re.search(r"SOP Instance  : (\S+)[\s\S]*DIMSE Status  : 0x0000", entry) for entry in entries]
    return {match[1] for match in found if match}


@dataclass
class Sender:
    """A modality: it sends its files in small associations, and again whatever was not acknowledged."""

    port: int
    files: Sequence[Path]
    chance: random.Random
    report: Path
    at_once: int = 8
    pause: float = 0.5  # seconds, at most, between associations
    acknowledged: set[str] = field(default_factory=set)
    associations: int = 0
    is_given_up: bool = False

    def send_all(self, deadline: float) -> None:
        uids = {
            file: str(pydicom.dcmread(file, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
            for file in self.files
        }
        left = list(self.files)
        while left and not self.is_given_up and time.monotonic() < deadline:
            self._send(left[: self.at_once])
            left = [file for file in left if uids[file] not in self.acknowledged]
            time.sleep(self.chance.random() * self.pause)

    def _send(self, files: Sequence[Path]) -> None:
        self.report.unlink(missing_ok=True)
        self.associations += 1
        with contextlib.suppress(subprocess.TimeoutExpired):
            dcmsend(self.port, *files, options=["+crf", str(self.report), "-td", "20"], timeout=60)
        self.acknowledged |= acknowledged(self.report)


@contextlib.contextmanager
def sending(senders: Sequence[Sender], *, seconds: float) -> Iterator[Callable[[], bool]]:
    """Run senders at once; yields whether one is still sending. Afterwards, also if the block fails, none does."""
    deadline = time.monotonic() + seconds
    threads = [threading.Thread(target=sender.send_all, args=(deadline,), daemon=True) for sender in senders]
    for thread in threads:
        thread.start()
    try:
        yield lambda: any(thread.is_alive() for thread in threads)
    except BaseException:
        for sender in senders:
            sender.is_given_up = True
        raise
    finally:
        for thread in threads:
            thread.join(max(0.0, deadline + 90 - time.monotonic()))


@dataclass
class Killer:
    """Kill random parts of a site at random moments; `most` bounds the kills of each kind."""

    site: RunningSite
    chance: random.Random
    most: Counter[str]
    kills: Counter[str] = field(default_factory=Counter)
    _seen: dict[str, int] = field(default_factory=dict)

    def victims(self, kind: str) -> list[psutil.Process]:
        """Return the living processes of a kind; none while the last one killed is not back at work."""
        if self._starts(kind) <= self._seen.get(kind, -1):
            return []
        if kind == "pool":
            workers = [p for p in self.site.processes() if _words(p)[-1:] == ["work"]]
            return [
                child
                for worker in workers
                for child in _children(worker)
                if "pipeline.processes.bounded_process" in _words(child)
            ]
        if kind == "storescp":
            return [p for p in self.site.processes() if Path(_words(p)[0]).name == "storescp"]
        word = {"worker": "work", "receiver": "receive"}[kind]
        return [p for p in self.site.processes() if word in _words(p) and Path(_words(p)[0]).name != "storescp"]

    def kill_one(self) -> bool:
        """Kill one process of a kind that has not had its share; say whether there was one."""
        kinds = [kind for kind, most in sorted(self.most.items()) if self.kills[kind] < most]
        victims = [(kind, process) for kind in kinds for process in self.victims(kind)]
        if not victims:
            return False
        kind = self.chance.choice(sorted({kind for kind, _ in victims}))
        with contextlib.suppress(psutil.NoSuchProcess):
            starts = self._starts(kind)
            self.chance.choice([process for its, process in victims if its == kind]).kill()
            self._seen[kind] = starts
            self.kills[kind] += 1
        return True

    def _starts(self, kind: str) -> int:
        """Return how often the log says that something of this kind was ready, the number of kills else."""
        word = {"worker": "worker-started", "receiver": "receiver-started"}.get(kind)
        return self.site.text().count(word) if word else self.kills[kind]

    def is_done(self) -> bool:
        return all(self.kills[kind] >= most for kind, most in self.most.items())

    def run(self, goes_on: Callable[[], bool], *, every: float, tend: Callable[[], None] = lambda: None) -> None:
        """Kill on average one process in `every` seconds while `goes_on`, and look after the site in between."""
        next_at = time.monotonic()
        while goes_on() and not self.is_done():
            tend()
            if time.monotonic() >= next_at:
                next_at = time.monotonic() + self.chance.uniform(0, 2 * every)
                self.kill_one()
            time.sleep(0.02)


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline() or [""]
    except psutil.Error:
        return [""]


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.Error:
        return []


@dataclass
class Nurse:
    """Start the parts of a site, and start again at once whatever has died: `up` has more patience."""

    site: RunningSite
    parts: dict[tuple[str, ...], subprocess.Popen[bytes]] = field(default_factory=dict)

    def tend(self) -> None:
        for words in [("work",), *(("receive", name) for name in self.site.ports)]:
            process = self.parts.get(words)
            if process is None or process.poll() is not None:
                assert process is None or process.returncode in {0, -9}, f"{words}: {process.returncode}"
                self.parts[words] = self._start(words)

    def _start(self, words: tuple[str, ...]) -> subprocess.Popen[bytes]:
        argv = [*COMMAND, "--site", str(self.site.file), *words]
        with self.site.log.open("ab") as log:
            return subprocess.Popen(
                argv, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def stop(self) -> None:
        for process in self.parts.values():
            stop(process)
        end_all(self.site)


@contextlib.contextmanager
def nursed(folder: Path, file: Path, ports: dict[str, int]) -> Iterator[tuple[RunningSite, Nurse]]:
    """Run a site without `up`; nothing of it is left when the block ends."""
    log = folder / "up.log"
    log.touch()
    site = RunningSite(folder, file, log, None, ports)  # type: ignore[arg-type]
    nurse = Nurse(site)
    try:
        nurse.tend()
        wait_until(lambda: all(map(listens, ports.values())), seconds=60, what="the receivers")
        yield site, nurse
    finally:
        nurse.stop()
