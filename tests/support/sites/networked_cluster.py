"""Nodes, the server of their ledger and an archive as machines of one network, and modalities that send on."""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from pydicom import dcmread
from support.machine.dicom_programs import storescu, wait_until
from support.machine.network import Machine, Network, network
from support.machine.postgresql import DURABILITY_IS_NOT_TESTED, PostgresqlServer, postgresql
from support.peers.storage_peer import Received, StoragePeer, storage_peer
from support.sites import ledger_place
from support.sites.cluster_site import ClusterNode, ClusterSite
from support.sites.line_site import instance
from support.sites.running_nodes import log_of

SLOTS = 4
# Whoever writes an answer over one that was final already is found out by the database itself.
WATCH_RECEIPTS = """
CREATE TABLE overwritten (delivery bigint, instance bigint, before text, after text);
CREATE FUNCTION note_overwritten() RETURNS trigger AS $$ BEGIN
    INSERT INTO overwritten VALUES (OLD.delivery, OLD.instance, OLD::text, NEW::text); RETURN NEW;
END $$ LANGUAGE plpgsql;
CREATE TRIGGER overwritten BEFORE UPDATE ON receipt FOR EACH ROW
    WHEN (OLD.state <> 'pending') EXECUTE FUNCTION note_overwritten();
"""


@dataclass
class Archive:
    """A C-STORE peer that can keep its answers back: `held` are the UIDs of which it does, by nodes.

    `came` says of each instance when it came, from which node, and what it was.
    """

    peer: StoragePeer = field(init=False)
    may_answer: threading.Event = field(default_factory=threading.Event)
    held: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    came: dict[str, list[tuple[float, str, bytes]]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self.may_answer.set()

    def answer(self, one: Received) -> int:
        node = self.peer.requests[one.association - 1].calling_ae_title.strip().lower()
        self.came[one.uid].append((time.time(), node, one.data))
        # Not more: one node alone would have all slots, and the other nothing in hand.
        if not self.may_answer.is_set() and len(self.held[node]) < SLOTS // 2:
            self.held[node].append(one.uid)
            self.may_answer.wait(50)
        return 0

    def twice(self) -> dict[str, list[tuple[float, str]]]:
        """Return the instances that came more than once: when, and from which node."""
        return {uid: [(at, node) for at, node, _ in came] for uid, came in self.came.items() if len(came) > 1}

    def other_bytes(self) -> set[str]:
        """Return the instances that did not come with the same bytes each time."""
        return {uid for uid, came in self.came.items() if len({data for _, _, data in came}) > 1}


class Senders:
    """One modality beside each node, on the node's own machine, that sends a study and then the next one."""

    def __init__(self, folder: Path, *nodes: ClusterNode, pause: float) -> None:
        folder.mkdir()
        self._pause = pause
        self._over = threading.Event()
        self._folder = folder
        self.sent: dict[str, list[tuple[float, list[str]]]] = {node.name: [] for node in nodes}
        self.failed: list[str] = []
        self._threads = [threading.Thread(target=self._send, args=(node,)) for node in nodes]
        for thread in self._threads:
            thread.start()

    def _send(self, node: ClusterNode) -> None:
        number = 0
        while not self._over.wait(self._pause):
            number += 1
            study = f"1.2.{ord(node.name)}.{number}"
            files = [
                instance(self._folder, f"{node.name}-{number}-{one}", StudyInstanceUID=study) for one in range(2)
            ]
            sent = storescu(node.port, *files, inside=node.inside)
            if sent.acknowledged == len(files):
                uids = [str(dcmread(file, specific_tags=["SOPInstanceUID"]).SOPInstanceUID) for file in files]
                self.sent[node.name].append((time.time(), uids))
            else:
                self.failed.append(sent.output)

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def uids(self) -> set[str]:
        """Return the SOP Instance UIDs of what was acknowledged."""
        return {uid for sent in self.sent.values() for _, uids in sent for uid in uids}


@dataclass
class NetworkedCluster:
    """Two nodes and what they need; `standby` is there if it was asked for."""

    site: ClusterSite
    nodes: list[ClusterNode]
    machines: dict[str, Machine]
    net: Network
    server: PostgresqlServer
    standby: PostgresqlServer | None
    archive: Archive

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(ledger_place.url(), autocommit=True) as connection:
            found = connection.execute(statement)
            return found.fetchall() if found.description else []

    def until_up(self) -> None:
        """Wait until both nodes have reported that their receivers are up."""

        def are_up() -> bool:
            with suppress(psycopg.Error):  # the tables are being made
                rows = self.ask("SELECT receivers::text FROM node")
                return [json.loads(row[0]) for row in rows] == [["modalities"]] * len(self.nodes)
            return False

        wait_until(are_up, seconds=90, what="both nodes and their receivers")
        self.ask(WATCH_RECEIPTS)

    def until_in_hand(self) -> None:
        """Keep back what the archive answers until each node has something there."""
        self.archive.may_answer.clear()
        wait_until(
            lambda: all(self.archive.held[node.name] for node in self.nodes),
            seconds=60,
            what="both have work in hand",
        )


@contextmanager
def networked_cluster(
    folder: Path, *, settings: Sequence[str] = DURABILITY_IS_NOT_TESTED, has_standby: bool = False
) -> Iterator[NetworkedCluster]:
    """Make the machines `db`, `db2`, `archive`, `a` and `b`, and start all of it except the nodes' commands."""
    archive = Archive()
    with ExitStack() as stack:
        net = stack.enter_context(network())
        machines = {name: net.machine(name) for name in ("db", "db2", "archive", "a", "b")}
        server = stack.enter_context(postgresql(machine=machines["db"], settings=settings))
        server.execute("CREATE DATABASE ledger TEMPLATE template0")
        standby = None
        if has_standby:
            standby = stack.enter_context(postgresql(machine=machines["db2"], settings=settings, copy_of=server))
        stack.enter_context(ledger_place.at(server.url("ledger")))
        archive.peer = stack.enter_context(storage_peer(at=machines["archive"].listener(), answer=archive.answer))
        url = server.tcp("ledger", *([standby] if standby else []))
        host = {"host": machines["archive"].address, "port": archive.peer.port, "ae_title": "PACS"}
        site, nodes = ClusterSite(folder), []
        for name in ("a", "b"):
            pacs = {"name": "pacs", "kind": "cstore", "calling_ae_title": name.upper(), "slots": SLOTS, **host}
            node = site.node(name, destinations=[pacs], ledger=url)
            node.inside = machines[name].inside
            nodes.append(node)
        yield NetworkedCluster(site, nodes, machines, net, server, standby, archive)


def said(node: ClusterNode, *words: str) -> list[str]:
    """Return the lines of a node's log that have all these words."""
    return [line for line in log_of(node).read_text().splitlines() if all(word in line for word in words)]
