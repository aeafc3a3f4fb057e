"""Run a whole site as an operator would, `storestow up`, and ask it by its own commands.

Everything listens on free loopback ports, lies below the folder the test names, and is dead when the `with`
block ends. A traceback in the site's log fails the test, whatever else it looked at.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any

import psutil
from support.machine.dicom_programs import ENVIRONMENT, free_port, listens, program, running, stop, wait_until
from support.sites import ledger_place

from pipeline.ledger import Ledger
from pipeline.line.quarantine import listed
from pipeline.operate.status import status
from pipeline.operate.trace import trace
from pipeline.site.settings import load
from pipeline.site.site_ledger import ledger_of
from pipeline.spool.spool import Spool

NULL = {"name": "nowhere", "kind": "null"}
COMMAND = (sys.executable, "-I", "-m", "pipeline")


@dataclass
class RunningSite:
    """A site that is up; `ports` are its receivers' by name, `port` the first one's."""

    folder: Path
    file: Path
    log: Path
    process: Popen[bytes]
    ports: dict[str, int]

    @property
    def port(self) -> int:
        return next(iter(self.ports.values()))

    @property
    def spool(self) -> Spool:
        return Spool(self.folder / "spool")

    def run(self, *words: str) -> CompletedProcess[str]:
        """Run a command of the site and return how it ended and what it printed."""
        return command(self.file, *words)

    def ask(self, *words: str) -> Any:
        """Return what a command prints with --json; it must end with 0."""
        done = self.run(*words, "--json")
        assert done.returncode == 0, f"{words}: {done.returncode} {done.stderr}\n{self.end_of_text()}"
        return json.loads(done.stdout)

    # What is asked again and again is read in this process: a command takes a second of the processor, which the
    # site needs to get on.

    @contextlib.contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """Open the ledger as the commands do."""
        ledger = ledger_of(load(self.file))
        try:
            yield ledger
        finally:
            ledger.close()

    def status(self) -> dict[str, Any]:
        """Return what `status --json` prints."""
        with self.ledger() as ledger:
            return _as_json(status(load(self.file), ledger))

    def trace(self, subject: str) -> list[dict[str, Any]]:
        """Return the instances an accession number, a study UID or an arrival names, of all its studies."""
        configured = [destination.name for destination in load(self.file).destination]
        with self.ledger() as ledger:
            studies = _as_json(trace(subject, ledger, configured))["studies"]
        return [instance for study in studies for instance in study["instances"]]

    def quarantine(self) -> list[dict[str, Any]]:
        """Return what `quarantine list` lists: quarantined and conflicting instances, and whole arrivals."""
        with self.ledger() as ledger:
            found: list[dict[str, Any]] = _as_json(listed(ledger))["quarantined"]
        return found

    def instances(self) -> list[dict[str, Any]]:
        """Return the trace of every instance of every arrival, conflicts and duplicates too."""
        with self.ledger() as ledger:
            traces = [trace(name, ledger) for name in sorted(self.arrivals())]
        studies = [study for answer in traces for study in answer["studies"]]
        return [
            {"study_instance_uid": study["study_instance_uid"], **one}
            for study in studies
            for one in study["instances"]
        ]

    def arrivals(self) -> dict[str, Path]:
        """Return every admitted folder by its name, whatever room it stands in."""
        rooms = [room for room in self.spool.rooms_of_arrivals if room.is_dir()]
        return {folder.name: folder for room in rooms for folder in room.iterdir() if folder.is_dir()}

    def received(self) -> list[Path]:
        """Return every file that was received and is still kept, admitted or not; ours are left out."""
        incoming = [folder for room in self.spool.incoming.iterdir() for folder in room.iterdir()]
        folders = [*incoming, *self.arrivals().values()]
        return [file for folder in folders if folder.is_dir() for file in folder.iterdir() if _is_received(file)]

    def is_settled(self, files: int | None = None) -> bool:
        """Say whether all that came in has its account, asking the rooms alone: it costs nothing to poll."""
        try:
            at_the_door = any(folder for room in self.spool.incoming.iterdir() for folder in room.iterdir())
            if at_the_door or any(self.spool.arrivals.iterdir()) or not self.arrivals():
                return False
            return files is None or len(self.received()) >= files
        except FileNotFoundError:  # a folder changed rooms while we looked
            return False

    def wait_settled(self, files: int | None = None, *, seconds: float = 120) -> dict[str, Any]:
        """Return the status once `files` files have come in and every arrival is settled or quarantined."""
        wait_until(lambda: self.is_settled(files), seconds=seconds, what=f"settled arrivals\n{self.end_of_text()}")

        def has_no_open_arrival(answer: dict[str, Any]) -> bool:  # the ledger follows the room
            return not answer["arrivals"]["admitted"] + answer["arrivals"]["processing"]

        return self.wait_status(has_no_open_arrival)

    def wait_status(self, condition: Callable[[dict[str, Any]], object], *, seconds: float = 60) -> dict[str, Any]:
        """Return the first status of which the condition holds."""
        settings = load(self.file)
        with self.ledger() as ledger:

            def answer() -> dict[str, Any] | None:
                one = _as_json(status(settings, ledger))
                return one if condition(one) else None

            return wait_until(answer, seconds=seconds, what=f"a status\n{self.end_of_text()}")

    def text(self) -> str:
        """Return what the site has logged so far."""
        return self.log.read_text(errors="replace")

    def end_of_text(self) -> str:
        """Return the end of the log, for the message of a failed test."""
        return self.text()[-5000:]

    def processes(self, *words: str) -> list[psutil.Process]:
        """Return the site's living processes whose command line holds all these words."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                line = " ".join(process.cmdline())
                is_ours = str(self.file) in line or str(self.spool.root) in line
                if is_ours and all(word in line for word in words) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def worker(self) -> psutil.Process:
        found = []
        for process in self.processes("work"):
            with contextlib.suppress(psutil.Error):  # a program the worker had called may be gone by now
                found += [process] if process.cmdline()[-1:] == ["work"] else []
        (process,) = found
        return process

    def stop(self) -> int:
        """End the site as an operator does, and return its exit code."""
        self.process.terminate()
        return self.process.wait(60)


def _as_json(answer: Any) -> Any:
    return json.loads(json.dumps(answer))


def _is_received(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".") and file.name != "account.json"


def command(site: Path, *words: str, env: Mapping[str, str] | None = None) -> CompletedProcess[str]:
    """Run `storestow --site FILE WORDS` to its end; where it does not end, nothing of it is left either."""
    argv = [*COMMAND, "--site", str(site), *words]
    with subprocess.Popen(
        argv,
        env={**ENVIRONMENT, "COLUMNS": "400", **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=120)
        finally:
            stop(process)
    return CompletedProcess(argv, process.returncode, output, errors)


def write_site(
    folder: Path,
    *,
    receivers: Sequence[Mapping[str, Any]],
    destinations: Sequence[Mapping[str, Any]] = (NULL,),
    mapping: Mapping[str, str] | None = None,
    site: Mapping[str, Any] | None = None,
    more: str = "",
) -> Path:
    """Write site.toml, and the institution mapping where there is one; return the former's path."""
    folder.mkdir(parents=True, exist_ok=True)
    about: dict[str, Any] = {
        "spool": str(folder / "spool"),
        "workers": 2,
        "ledger": ledger_place.url(),
        **(site or {}),
    }
    if mapping is not None:
        (folder / "mapping.json").write_text(json.dumps(mapping))
        about["institution_mapping"] = "mapping.json"
    names = [destination["name"] for destination in destinations]
    tables = [_table("[site]", about), _table("[programs]", {"storescp": program("storescp")})]
    tables += [_table("[[receiver]]", {"to": names, **receiver}) for receiver in receivers]
    tables += [_table("[[destination]]", destination) for destination in destinations]
    file = folder / "site.toml"
    file.write_text("\n".join([*tables, more]))
    return file


def _table(head: str, keys: Mapping[str, Any]) -> str:
    return "\n".join([head, *(f"{key} = {_toml(value)}" for key, value in keys.items()), ""])


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)  # of text, numbers and booleans TOML and JSON have one spelling


@contextlib.contextmanager
def running_site(
    folder: Path,
    *,
    mode: str = "study",
    quiet_seconds: int = 1,
    receivers: Sequence[Mapping[str, Any]] | None = None,
    destinations: Sequence[Mapping[str, Any]] = (NULL,),
    mapping: Mapping[str, str] | None = None,
    site: Mapping[str, Any] | None = None,
    more: str = "",
) -> Iterator[RunningSite]:
    """Run a site below `folder` until the block ends; called again on the same folder it goes on there.

    Without `receivers` there is one, `modalities`, in `mode`; each gets a free port unless it names one.
    `site` holds more keys of [site], `more` is TOML for the end of the file.
    """
    defaults = {"name": "modalities", "ae_title": "STORESTOW", "mode": mode, "quiet_seconds": quiet_seconds}
    tables = [{**defaults, "port": free_port(), **receiver} for receiver in (receivers or [{}])]
    ports = {str(table["name"]): int(str(table["port"])) for table in tables}
    file = write_site(folder, receivers=tables, destinations=destinations, mapping=mapping, site=site, more=more)
    log = folder / "up.log"
    earlier = log.stat().st_size if log.exists() else 0
    up: RunningSite | None = None
    with running([*COMMAND, "--site", file, "up"], log=log) as process:
        try:
            up = RunningSite(folder, file, log, process, ports)
            wait_until(
                lambda: (
                    process.poll() is not None
                    or (all(map(listens, ports.values())) and b"worker-started" in log.read_bytes()[earlier:])
                ),
                seconds=60,
                what="the site to be up",
            )
            assert process.poll() is None, f"the site ended at once: {up.text()}"
            yield up
        finally:
            stop(process, seconds=40)
            if up:
                end_all(up)
    _, traceback, rest = up.text().partition("Traceback")
    assert not traceback, f"a bug was logged: {rest[:5000]}"


def end_all(site: RunningSite) -> None:
    """Kill what a killed part of the site has left behind."""
    for process in site.processes():
        if process.pid != os.getpid():
            with contextlib.suppress(psutil.Error):
                process.kill()
