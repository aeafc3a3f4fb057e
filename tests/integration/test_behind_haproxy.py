"""Two nodes behind the real HAProxy, as docs/haproxy.cfg has it: a node is taken out and nobody is refused."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
import pytest
import requests
from pydicom.uid import generate_uid
from support.machine.dicom_programs import free_port, storescp, storescu, wait_until
from support.peers.haproxy import Balancer, haproxy
from support.peers.raw_sender import Association, object_of
from support.peers.storage_peer import StoragePeer, storage_peer
from support.sites.line_site import instance
from support.sites.orders_site import toml_table
from support.sites.running_site import RunningSite, running_site

pytestmark = pytest.mark.programs
DOORS = {"modalities": "association", "cdrecord": "association"}


@dataclass
class Node:
    """One of two machines: a whole site, which may be stopped and started again."""

    folder: Path
    archive: StoragePeer
    pacs: int
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in DOORS})
    http: int = field(default_factory=free_port)
    up: RunningSite | None = None
    _running: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def start(self) -> None:
        common = {"mode": "association", "quiet_seconds": 1}
        receivers = [
            {"name": "modalities", "ae_title": "STORESTOW", "port": self.ports["modalities"], **common},
            {"name": "cdrecord", "ae_title": "CDRECORD", "port": self.ports["cdrecord"], "to": [], "coerce": False}
            | common,
        ]
        to = {"name": "archive", "kind": "cstore", "ae_title": "ARCHIVE", "host": "127.0.0.1"}
        to |= {"port": self.archive.port, "calling_ae_title": "STORESTOW"}
        pacs = {"ae_title": "PACS", "host": "127.0.0.1", "port": self.pacs, "calling_ae_title": "CDRECORD"}
        more = toml_table("[pacs]", {**pacs, "receiver": "cdrecord"}) + toml_table("[shim]", {"port": self.http})
        self.up = self._running.enter_context(
            running_site(self.folder, receivers=receivers, destinations=[to], more=more)
        )

    def stop(self) -> None:
        self._running.close()

    def site(self) -> RunningSite:
        assert self.up is not None
        return self.up

    def takes(self) -> bool:
        return self._asked("/api/health?receiver=modalities")

    def takes_orders(self) -> bool:
        return self._asked("/api/health")

    def _asked(self, path: str) -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"http://127.0.0.1:{self.http}{path}", timeout=20).status_code == 200
        return False

    def stands(self) -> dict:
        (one,) = self.site().status()["nodes"]
        return one

    def arrivals(self) -> int:
        return len(self.site().arrivals())

    def has_admitted(self, files: list[Path]) -> bool:
        """Say so of these files; others may have come before HAProxy knew that the node drains."""
        with contextlib.suppress(FileNotFoundError):  # A folder changes rooms.
            folders = self.site().arrivals().values()
            admitted = {uid_of(file) for folder in folders for file in folder.glob("CT.*")}
            return {uid_of(file) for file in files} <= admitted
        return False

    def answered(self) -> int:
        return self.site().text().count("route=/orders/{reference} ")

    def drain(self, *undo: str) -> None:
        done = self.site().run("drain", *undo)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def scene(tmp_path) -> Iterator[tuple[Node, Node, Balancer, StoragePeer]]:
    with (
        storage_peer() as archive,
        storescp(tmp_path / "pacs") as pacs,
        contextlib.ExitStack() as until_the_end,
    ):
        nodes = [Node(tmp_path / name, archive, pacs) for name in ("a", "b")]
        for node in nodes:
            until_the_end.callback(node.stop)
            node.start()
            wait_until(node.takes_orders, seconds=60, what="the node to be well")
        ports = [(node.ports["modalities"], node.http) for node in nodes]
        with haproxy(tmp_path / "haproxy", ports) as front:
            yield nodes[0], nodes[1], front, archive


def study(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return instance(folder, generate_uid(), StudyInstanceUID=generate_uid())


def uid_of(file: Path) -> str:
    return str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID)


def send(front: Balancer, file: Path) -> None:
    sent = storescu(front.port, file)
    assert (sent.exit_code, sent.acknowledged) == (0, 1), sent.output


def test_a_node_that_drains_gets_nothing_new_and_ends_what_it_has(scene, tmp_path):
    a, b, front, archive = scene
    send(front, study(tmp_path / "files"))
    wait_until(lambda: a.arrivals() + b.arrivals() == 1, what="the first study")
    mine, other, number = (a, b, 1) if a.arrivals() else (b, a, 2)
    files = [study(tmp_path / "files") for _ in range(3)]
    first, second = object_of(files[0]), object_of(files[1])
    with Association(front.port, [first, second]) as association:
        assert association.store(first) == 0
        mine.drain()
        assert not mine.takes()
        wait_until(lambda: front.turns_away(number), seconds=60, what="the balancer turns away")
        send(front, study(tmp_path / "files"))
        wait_until(lambda: other.arrivals() == 1, seconds=60, what="the next study at the other node")
        assert association.store(second) == 0, "it goes on at the node where it began"
    wait_until(lambda: mine.has_admitted(files[:2]), seconds=60, what="its association is admitted")
    assert mine.stands()["state"] == "draining"
    before = mine.answered()
    wait_until(lambda: requests.get(f"{front.url}/orders/x", timeout=20).status_code == 404, what="a page")
    for _ in range(6):
        assert requests.get(f"{front.url}/api/health", timeout=20).status_code == 200
        requests.get(f"{front.url}/orders/x", timeout=20)
    assert mine.answered() == before
    assert other.answered() >= 6
    sent_before = {uid_of(files[0]), uid_of(files[1])}
    assert not sent_before & set(archive.uids), "it claims nothing while it drains"
    mine.drain("--undo")
    wait_until(lambda: sent_before <= set(archive.uids), seconds=60, what="what it had received")


def test_nodes_are_restarted_in_turn_under_load_and_no_association_is_refused(scene, tmp_path, record_property):
    a, b, front, archive = scene
    sent: list[str] = []
    refused: list[str] = []
    over = threading.Event()

    def go_on() -> None:
        while not over.is_set():
            file = study(tmp_path / "files")
            said = storescu(front.port, file)
            if (said.exit_code, said.acknowledged) != (0, 1):
                refused.append(said.output)
            sent.append(uid_of(file))

    sending = threading.Thread(target=go_on)
    began = time.monotonic()
    sending.start()
    try:
        for number, node in enumerate((a, b), 1):
            before = len(sent)
            wait_until(lambda before=before: len(sent) > before + 3, seconds=60, what="load")
            node.drain()
            wait_until(lambda node=node: node.stands()["in_hand"] == 0, seconds=30, what="what it has in hand")
            wait_until(lambda number=number: front.has_left(number), seconds=60, what="the balancer turns away")
            wait_until(lambda node=node: node.stands()["at_the_door"] == 0, seconds=60, what="what is at its door")
            node.stop()
            before = len(sent)
            wait_until(lambda before=before: len(sent) > before + 3, seconds=60, what="load at the other one")
            node.start()
            node.drain("--undo")
            wait_until(node.takes_orders, seconds=60, what="it is well again")
            wait_until(lambda number=number: front.sends_to(number), seconds=60, what="the balancer comes back")
    finally:
        over.set()
        sending.join(60)
    assert refused == []
    wait_until(lambda: set(sent) <= set(archive.uids), seconds=90, what="all is delivered")
    assert Counter(archive.uids).most_common(1)[0][1] == 1, "nothing twice"
    record_property("associations", len(sent))
    record_property("seconds", round(time.monotonic() - began, 1))
    print(f"rolling restart: {len(sent)} associations, {time.monotonic() - began:.0f} s, refused 0, twice 0")
