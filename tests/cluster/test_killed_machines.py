"""Machines are killed as a whole, again and again: nothing is lost, doubled or held, and another takes over.

A machine has a network, a process namespace and a spool of its own. The database and the archives are outside. Half
of the machines lose their network first, so that the server learns of their death from nobody.
"""

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pydicom
import pytest
from sqlalchemy import create_engine, text
from support.machine.dicom_programs import storescp, wait_until
from support.machine.postgresql import postgresql
from support.sites import ledger_place
from support.sites.acceptance import report, size
from support.sites.cluster_site import ClusterSite
from support.sites.machines import RECEIVERS, Machine, Network, Senders, small_study, told
from support.sites.running_nodes import log_of

pytestmark = pytest.mark.programs
LOST_AFTER = 15.0
SLOTS = 2
STUDIES, KILLS = size(40, 500), size(4, 20)


@dataclass
class Cluster:
    """Two machines, one database, one store, an archive that a program is, and a folder."""

    site: ClusterSite
    machines: list[Machine]
    archive: Path
    archive_port: int
    database: str
    in_hand: dict[int, tuple[float, str]] = field(default_factory=dict)  # Delivery: when its machine died, which.

    def ask(self, statement: str, **values: Any) -> list[Any]:
        engine = create_engine(self.database.replace("postgresql:", "postgresql+psycopg:"))
        with engine.connect() as connection:
            found = list(connection.execute(text(statement), values))
        engine.dispose()
        return found

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
        return "\n".join(log_of(one.node).read_text() for one in self.machines)


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    with (
        Network() as network,
        postgresql(network.address) as server,
        ledger_place.on(server) as database,
        storescp(folder / "archive", "--fork") as port,
    ):
        site = ClusterSite(folder / "site")
        to = {"kind": "cstore", "ae_title": "PACS", "host": network.address, "port": port, "slots": SLOTS}
        destinations = [
            {"name": "pacs", **to, "calling_ae_title": "STORESTOW", "encode": "none"},
            {"name": "filed", "kind": "folder", "folder": str(site.filed)},
        ]
        nodes = [site.node(name, destinations=destinations, receivers=RECEIVERS) for name in ("a", "b")]
        machines = [Machine(node, network) for node in nodes]
        found = Cluster(site, machines, folder / "archive", port, database)
        try:
            yield found
        finally:
            for machine in machines:
                machine.close()


def start(*machines: Machine) -> None:
    for machine in machines:
        machine.start()
    for machine in machines:
        wait_until(machine.listens, seconds=60, what=f"{machine.node.name}\n{log_of(machine.node)}")


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
            alive = {one.address: one.node.name for one in self._it.machines if one.is_up}
            with engine.connect() as look:
                rows = look.execute(
                    text("SELECT destination, count(*) FROM delivery WHERE state = 'sending' GROUP BY destination")
                ).all()
            for destination, count in rows:
                self.most[f"ledger {destination}"] = max(self.most[f"ledger {destination}"], count)
            self.most["connections"] = max(self.most["connections"], self._connections(alive))
            self.looks += 1
        engine.dispose()

    def _connections(self, alive: dict[str, str]) -> int:
        return sum(
            one.status == psutil.CONN_ESTABLISHED
            and one.laddr.port == self._it.archive_port
            and one.raddr.ip in alive
            for one in psutil.net_connections("tcp4")
            if one.raddr
        )

    def __enter__(self) -> "Watch":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


def test_machines_are_killed_at_random_moments(tmp_path):
    seed = random.randrange(1_000_000)
    chance = random.Random(seed)
    print(f"seed {seed}")
    load = psutil.getloadavg()[0]
    with cluster(tmp_path) as it:
        start(*it.machines)
        wait_until(lambda: it.text().count(" worker-started ") == 2, seconds=60, what="both workers")
        with Watch(it) as watch, Senders(it.machines, chance) as senders:
            for number in range(KILLS):
                for one in range(number * STUDIES // KILLS, (number + 1) * STUDIES // KILLS):
                    senders.send(small_study(tmp_path / "files", one, chance.randint(1, 3)))
                time.sleep(chance.uniform(0.5, 4))  # The moment is what is drawn, not awaited.
                machine = chance.choice(it.machines)
                moment = it.kill(machine, in_silence=bool(number % 2))
                if number % size(KILLS, 3) == 0:
                    wait_until(lambda: time.time() > moment + LOST_AFTER + 10, seconds=60)
                start(machine)
            wait_until(senders.is_idle, seconds=300, what="all was sent")
            try:
                wait_until(lambda: it.is_done(len(senders.wanted)), seconds=240, what="all is settled")
            except AssertionError as error:
                raise AssertionError(f"{error}\n{it.text()[-8000:]}") from error
        check(it, senders.wanted)
        seconds = takeovers(it)
    report(3, "killed machines, seconds to the next attempt", f"{seconds} load {load}")
    report(4, "most in hand", f"{dict(watch.most)} in {watch.looks} looks")
    assert watch.most["ledger pacs"] <= SLOTS


def takeovers(it: Cluster) -> list[float]:
    found = []
    for number, (moment, _name) in it.in_hand.items():
        rows = it.ask(
            "SELECT min(began_at) FROM attempt WHERE delivery = :it AND began_at > :at", it=number, at=moment
        )
        found.append(round(rows[0][0] - moment, 1))
    return sorted(found)


def check(it: Cluster, wanted: dict[str, str]) -> None:
    """Assert that each instance is everywhere with its own content, and has one receipt of each destination."""
    filed = Counter(map(told, it.site.filed.rglob("*.dcm")))
    assert set(filed) == set(wanted.items())
    assert set(filed.values()) == {1}
    archived = Counter((told(file), pydicom.dcmread(file).PatientID) for file in it.archive.iterdir())
    assert {key for key, _ in archived} == set(wanted.items())
    assert len(archived) == len(wanted)
    receipts = Counter((row["delivery"], row["instance"]) for row in it.site.rows("receipt"))
    assert receipts.total() == len(receipts) == 2 * len(wanted)
    assert {(row["state"], row["verified"]) for row in it.site.rows("receipt")} == {("stored", True)}
    states = Counter(row["state"] for row in it.site.rows("instance"))
    assert set(states) <= {"passed", "encoded", "duplicate"}
    assert not [row for row in it.site.rows("delivery") if row["held"]]
    assert "Traceback" not in it.text()
    print(f"sent again to the archive {archived.total() - len(archived)}, {dict(states)}")
