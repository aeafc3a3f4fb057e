"""A cluster of machines that may be killed, who sends to it, and what must be true of it in the end."""

import contextlib
import os
import queue
import random
import secrets
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pydicom
from sqlalchemy import create_engine, text
from support.machine.dicom_programs import free_port, program, running, storescu, wait_until
from support.machine.postgresql import postgresql
from support.sites import ledger_place
from support.sites.cluster_site import ClusterSite
from support.sites.line_site import instance
from support.sites.machines import ASSOCIATION, RECEIVERS, STUDY, Machine, Network
from support.sites.running_nodes import log_of
from support.studies.fingerprints import sha256

SLOTS = 2


@dataclass
class Cluster:
    """Two machines, one database, one store, an archive that a program is, and a folder."""

    site: ClusterSite
    machines: list[Machine]
    archive: Path
    archive_port: int
    database: str
    _archive: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _storescp: subprocess.Popen[bytes] = field(init=False)
    in_hand: dict[int, tuple[float, str]] = field(default_factory=dict)  # Delivery: when its machine died, which.
    recorded: dict[str, str] = field(default_factory=dict)  # What was sent while points were recorded.

    def ask(self, statement: str, **values: Any) -> list[Any]:
        engine = create_engine(self.database.replace("postgresql:", "postgresql+psycopg:"))
        with engine.connect() as connection:
            found = list(connection.execute(text(statement), values))
        engine.dispose()
        return found

    def open_archive(self) -> None:
        argv = [
            program("storescp"),
            "--fork",
            "+xa",
            "-pm",
            "+uf",
            "-dhl",
            "-od",
            self.archive,
            str(self.archive_port),
        ]
        log = self.archive.with_suffix(".log")
        self._storescp = self._archive.enter_context(running(argv, log=log, port=self.archive_port))

    @contextlib.contextmanager
    def slow_archive(self) -> Iterator[None]:
        """Let the archive answer nobody during the block."""
        os.killpg(self._storescp.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self._storescp.pid, signal.SIGCONT)

    def close_archive(self) -> None:
        """End the archive, with every association."""
        self._archive.close()

    def start(self, *machines: Machine) -> None:
        """Start machines, and wait until they receive and their workers have started."""
        before = self.text().count(" worker-started ")
        for machine in machines:
            machine.start()
        for machine in machines:
            wait_until(machine.listens, seconds=60, what=f"{machine.node.name}\n{log_of(machine.node)}")
        wait_until(
            lambda: self.text().count(" worker-started ") >= before + len(machines), seconds=60, what="the workers"
        )

    def has_in_hand(self, machine: Machine) -> int:
        """Return how many deliveries a machine has in hand by the ledger."""
        found = self.ask(
            "SELECT count(*) FROM delivery WHERE state = 'sending' AND worker = :it", it=machine.node.name
        )
        return int(found[0][0])

    def is_taken_over(self, machine: Machine) -> bool:
        """Say whether a dead machine counts as lost, and all that it had in hand was attempted again."""
        lost = self.ask("SELECT lost_at FROM node WHERE name = :it", it=machine.node.name)[0][0]
        return lost is not None and None not in self.next_attempts(machine)

    def next_attempts(self, machine: Machine | None = None) -> list[float | None]:
        """Return the seconds from the death of machines to the next attempt of what they had in hand."""
        found: list[float | None] = []
        for number, (moment, name) in self.in_hand.items():
            if machine is None or name == machine.node.name:
                rows = self.ask(
                    "SELECT min(began_at) FROM attempt WHERE delivery = :it AND began_at > :at",
                    it=number,
                    at=moment,
                )
                found.append(round(rows[0][0] - moment, 1) if rows[0][0] else None)
        return found

    def until_done(self, wanted: Collection[str], seconds: float = 240) -> None:
        try:
            wait_until(lambda: self.is_done(len(wanted)), seconds=seconds, what="all is settled")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text()[-8000:]}") from error

    def kill(self, machine: Machine, *, in_silence: bool) -> float:
        moment = machine.kill(in_silence=in_silence)
        mine = self.ask("SELECT id FROM delivery WHERE state = 'sending' AND worker = :it", it=machine.node.name)
        self.in_hand |= {row.id: (moment, machine.node.name) for row in mine}
        return moment

    def is_done(self, wanted: int) -> bool:
        """Say whether so many instances are taken in, every arrival is settled and every delivery delivered."""
        rows = self.ask(
            "SELECT (SELECT count(*) FROM arrival WHERE state <> 'settled'),"
            " (SELECT count(*) FROM delivery WHERE state <> 'delivered'),"
            " (SELECT count(*) FROM instance WHERE state IN ('passed', 'encoded'))"
        )
        at_the_doors = [name for one in self.machines for name in one.node.spool.received.iterdir()]
        coming = [
            folder
            for one in self.machines
            for room in one.node.spool.incoming.iterdir()
            for folder in room.iterdir()
            if not folder.name.startswith(".")
        ]
        return tuple(rows[0]) == (0, 0, wanted) and not at_the_doors and not coming

    def text(self) -> str:
        return "\n".join(log_of(one.node).read_text() for one in self.machines if log_of(one.node).exists())


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    with (
        Network() as network,
        postgresql(network.address) as server,
        ledger_place.on(server) as database,
    ):
        site, port = ClusterSite(folder / "site"), free_port()
        to = {"kind": "cstore", "ae_title": "PACS", "host": network.address, "port": port, "slots": SLOTS}
        destinations = [
            {"name": "pacs", **to, "calling_ae_title": "STORESTOW", "encode": "none"},
            {"name": "filed", "kind": "folder", "folder": str(site.filed)},
        ]
        nodes = [site.node(name, destinations=destinations, receivers=RECEIVERS) for name in ("a", "b")]
        machines = [Machine(node, network) for node in nodes]
        found = Cluster(site, machines, folder / "archive", port, database)
        found.archive.mkdir()
        try:
            found.open_archive()
            yield found
        finally:
            found.close_archive()
            for machine in machines:
                machine.close()


# Attempts that have begun since their destination is down.
_TRIALS = (
    "SELECT count(*) FROM attempt JOIN delivery ON delivery.id = attempt.delivery"
    " JOIN destination ON destination.name = delivery.destination"
    " WHERE attempt.ended_at IS NULL AND attempt.began_at > destination.down_since AND delivery.order_id IS NULL"
    " GROUP BY destination.name ORDER BY 1 DESC LIMIT 1"
)


class Watch(threading.Thread):
    """Look again and again how many deliveries each destination has in hand, by the ledger and by its port."""

    def __init__(self, it: Cluster) -> None:
        super().__init__()
        self._it = it
        self._over = threading.Event()
        self.looks = 0
        self.most: Counter[str] = Counter()

    def run(self) -> None:
        engine = create_engine(self._it.database.replace("postgresql:", "postgresql+psycopg:"))
        while not self._over.wait(0.05):
            # What is there in both of two looks was there at the moment between them.
            connections = len(self._connections() & self._connections())
            with engine.connect() as look:
                rows = look.execute(
                    text("SELECT destination, count(*) FROM delivery WHERE state = 'sending' GROUP BY destination")
                ).all()
                trials = look.scalar(text(_TRIALS))
            self.most["trials"] = max(self.most["trials"], trials or 0)
            for destination, count in rows:
                self.most[f"ledger {destination}"] = max(self.most[f"ledger {destination}"], count)
            self.most["connections"] = max(self.most["connections"], connections)
            self.looks += 1
        engine.dispose()

    def _connections(self) -> set[tuple[str, int]]:
        return {end for one in self._it.machines for end in one.connections_to(self._it.archive_port)}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


@dataclass
class Senders:
    """Modalities that send studies by one association each, and send again what was not acknowledged.

    `wanted` has the hash of the pixels of each instance that was acknowledged, by SOP Instance UID.
    """

    machines: Sequence[Machine]
    chance: random.Random
    count: int = 3
    wanted: dict[str, str] = field(default_factory=dict)
    again: int = 0  # Associations that did not bring everything.
    _studies: queue.Queue[Sequence[Path]] = field(default_factory=queue.Queue)
    _threads: list[threading.Thread] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def send(self, study: Sequence[Path]) -> None:
        """Have a study sent to any machine and receiver; what is left of it again to any."""
        self._studies.put(study)

    def is_idle(self) -> bool:
        """Say whether every study was acknowledged as a whole."""
        return not self._studies.unfinished_tasks

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._go_on) for _ in range(self.count)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _go_on(self) -> None:
        while not self._over.is_set():
            try:
                left = self._studies.get(timeout=0.2)
            except queue.Empty:
                continue
            while left and not self._over.is_set():
                left = self._once(left)
            self._studies.task_done()

    def _once(self, files: Sequence[Path]) -> Sequence[Path]:
        machine, port = self.chance.choice(self.machines), self.chance.choice((STUDY, ASSOCIATION))
        hurry = ["-to", "3", "-ta", "5", "-td", "5"]  # A machine that has lost its power does not answer.
        done = storescu(port, *files, host=machine.address, options=hurry).acknowledged
        self.wanted |= dict(map(told, files[:done]))
        if done < len(files):
            self.again += 1
            self._over.wait(0.5)
        return files[done:]


def told(file: Path) -> tuple[str, str]:
    """Return the SOP Instance UID of a file, and the hash of its pixels."""
    data_set = pydicom.dcmread(file)
    return str(data_set.SOPInstanceUID), sha256(data_set.PixelData)


def small_study(folder: Path, number: int, instances: int, **attributes: Any) -> list[Path]:
    """Return files of a study of one patient, whose pixels no other instance has."""
    folder.mkdir(exist_ok=True)
    about = {"StudyInstanceUID": f"1.2.826.0.1.3680043.9.9999.{number}", "PatientID": f"P{number}", **attributes}
    return [
        instance(
            folder,
            f"{number}-{one}-{secrets.token_hex(3)}",
            Rows=16,
            Columns=16,
            PixelData=secrets.token_bytes(512),
            **about,
        )
        for one in range(instances)
    ]


def check(it: Cluster, wanted: dict[str, str], *, duplicates: int = 0) -> str:
    """Assert that each instance is everywhere with its own content, and has one receipt of each destination.

    The archive has what was sent again without an answer twice: the same bytes. Return how often.
    """
    filed = Counter(map(told, it.site.filed.rglob("*.dcm")))
    assert set(filed) == set(wanted.items())
    assert set(filed.values()) == {1}
    archived = Counter((told(file), sha256(file.read_bytes())) for file in it.archive.iterdir())
    assert {key for key, _ in archived} == set(wanted.items())
    assert len(archived) == len(wanted), "the same bytes"
    rows = it.site.rows("receipt")
    receipts = Counter((row["delivery"], row["instance"]) for row in rows)
    assert receipts.total() == len(receipts) == 2 * len(wanted)
    assert {(row["state"], row["verified"]) for row in rows} == {("stored", True)}
    states = Counter(str(row["state"]) for row in it.site.rows("instance"))
    assert states["passed"] == len(wanted)
    assert states.keys() <= {"passed", "duplicate"}
    assert states["duplicate"] >= duplicates
    assert not [row for row in it.site.rows("delivery") if row["held"]]
    assert "Traceback" not in it.text()
    return f"{len(wanted)} instances, {archived.total() - len(archived)} twice at the archive, {dict(states)}"
