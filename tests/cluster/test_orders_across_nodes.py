"""Orders across three nodes: placed at one, received by another, made by a third, and fetched from any of them."""

import hashlib
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
import requests
from support.machine.dicom_programs import free_port, wait_until
from support.machine.postgresql import PostgresqlServer
from support.peers.archives import OUR_AE_TITLE, orthanc_archive, study
from support.peers.odd_pacs import odd_pacs
from support.peers.storage_peer import StoragePeer, storage_peer
from support.sites import ledger_place
from support.sites.acceptance import report
from support.sites.cluster_orders import OrdersNode, orders_node
from support.sites.cluster_site import ClusterSite
from support.sites.running_nodes import Running, log_of, running
from support.sites.running_site import command
from support.sites.shim_site import BROWSER, forms_of

pytestmark = pytest.mark.programs
DOWNLOAD, PRINT = "mkiso.php", "send_rimage_multiple.php"


@dataclass
class Scene:
    """Three nodes and what runs of them; the PACS sends to the receiver of the second one."""

    site: ClusterSite
    commands: Running
    nodes: dict[str, OrdersNode]

    def logs(self) -> str:
        return "\n".join(f"{name}:\n{log_of(node.node).read_text()[-5000:]}" for name, node in self.nodes.items())

    def ended(self, node: OrdersNode, reference: str, seconds: float = 90) -> dict[str, Any]:
        """Return what a node says of an order once that has ended."""
        try:
            return wait_until(
                lambda: (one := node.order(reference))["state"] != "open" and one, seconds=seconds, what="its end"
            )
        except AssertionError as error:
            raise AssertionError(f"{error}: {node.order(reference)}\n{self.logs()}") from error

    def kill(self, node: OrdersNode) -> None:
        """Kill every process of a node, as the end of its machine does."""
        self.commands.kill(node.node)


@pytest.fixture
def place_of(postgresql_server: PostgresqlServer, tmp_path: Path) -> Iterator[tuple[ClusterSite, Running]]:
    with ledger_place.on(postgresql_server), running() as commands:
        yield ClusterSite(tmp_path / "site"), commands


def three(place_of: tuple[ClusterSite, Running], pacs: dict[str, Any], door: int, **more: Any) -> Scene:
    site, commands = place_of
    doors = {"b": door}
    return Scene(
        site,
        commands,
        {name: orders_node(site, name, pacs, door=doors.get(name), **more) for name in ("a", "b", "c")},
    )


def pacs_table(port: int, ae_title: str) -> dict[str, Any]:
    about = {"ae_title": ae_title, "host": "127.0.0.1", "port": port}
    return {**about, "calling_ae_title": OUR_AE_TITLE, "receiver": "cdrecord"}


def test_an_order_is_placed_received_made_and_fetched_at_different_nodes(place_of, tmp_path):
    door = free_port()
    with orthanc_archive(tmp_path / "pacs", door) as pacs:
        for accession in ("A1", "B2"):
            pacs.store(*study(tmp_path / accession, accession, instances=4))
        scene = three(place_of, pacs.table(), door)
        a, b, c = scene.nodes.values()
        b.start(scene.commands, "work", "cdrecord", "serve")
        c.start(scene.commands, "work", "serve")
        a.start(scene.commands, "serve")
        drain(b)
        for node in (a, c):
            wait_until(lambda node=node: node.health() == 200, seconds=60, what=f"{node.node.name} to be well")
        assert b.health() == 503
        began = time.monotonic()
        first = a.place(DOWNLOAD, "A1")
        assert scene.ended(a, first)["state"] == "done", scene.logs()
        report(11, "placed at A, received by B, disc made by C", f"{time.monotonic() - began:.1f} s to its end")
        assert {row["name"].partition("@")[2] for row in scene.site.rows("arrival")} == {"b"}
        assert {row["node"] for row in scene.site.rows("attempt")} == {"c"}
        assert_all_say_the_same(first, a, b, c)
        whole = fetched(a, first)
        assert whole[0x8001:0x8006] == b"CD001"  # ECMA-119 8.4: a volume descriptor
        assert in_parts(a, first, len(whole)) == whole
        second = a.place(DOWNLOAD, "B2")
        scene.ended(b, second)
        scene.kill(a)
        assert a.health() == 0
        rest = in_parts(b, second, len(fetched(c, second)))
        assert hashlib.sha256(rest).digest() == hashlib.sha256(fetched(c, second)).digest()
        assert in_parts(b, first, len(whole)) == whole, "what A gave, too"
        assert_all_say_the_same(second, b, c)
        sizes = f"{len(whole)} and {len(rest)} bytes, equal to the whole"
        report(11, "downloaded by Range from A, and from B after kill -9 of A", sizes)


def drain(node: OrdersNode) -> None:
    def is_done() -> bool:
        return command(node.node.file, "drain").returncode == 0

    wait_until(is_done, seconds=60, what="the node to be known")
    wait_until(lambda: node.health() == 503, seconds=30, what="that it drains")


def fetched(node: OrdersNode, reference: str) -> bytes:
    answer = node.get(f"/orders/{reference}/file")
    assert answer.status_code == 200, answer.text
    return answer.content


def in_parts(node: OrdersNode, reference: str, length: int) -> bytes:
    """Fetch the file in three parts, each by a request of its own."""
    found = b""
    for start, end in ((0, 39_999), (40_000, length // 2), (length // 2 + 1, length - 1)):
        answer = node.get(f"/orders/{reference}/file", headers={"Range": f"bytes={start}-{end}"})
        assert (answer.status_code, len(answer.content)) == (206, end + 1 - start)
        assert answer.headers["Content-Range"] == f"bytes {start}-{end}/{length}"
        found += answer.content
    return found


def assert_all_say_the_same(reference: str, *nodes: OrdersNode) -> None:
    assert len({str(node.order(reference)).replace(node.url, "") for node in nodes}) == 1
    pages = [node.get(f"/orders/{reference}", headers=BROWSER).text for node in nodes]
    assert len({re.sub(r"\b[0-9a-f]{32}\b", "", page) for page in pages}) == 1, "but for the request's number"


def test_a_button_of_one_node_is_pressed_at_another_and_printing_needs_no_worker_of_its_own(place_of, tmp_path):
    door = free_port()
    with odd_pacs(door) as pacs, storage_peer() as publisher:
        pacs.hold(*study(tmp_path / "P1", "P1", instances=3))
        scene = three(
            place_of, pacs_table(pacs.port, pacs.ae_title), door, destinations=[printing(publisher.port)]
        )
        a, b, c = scene.nodes.values()
        c.start(scene.commands, "work", "serve")
        b.start(scene.commands, "work", "cdrecord", "serve")
        a.start(scene.commands, "serve")
        for node in (a, b, c):
            wait_until(lambda node=node: node.health() == 200, seconds=60, what=f"{node.node.name} to be well")
        first = a.place(PRINT, "P1")
        scene.ended(b, first)
        assert_all_say_the_same(first, a, b, c)
        assert sorted(printed(publisher).values()) == [1, 1, 1]
        (action, fields), *_ = forms_of(a.get(f"/orders/{first}", headers=BROWSER))
        where = urljoin(f"{b.url}/orders/{first}", action)
        pressed = requests.post(where, data=fields, headers=BROWSER, timeout=60, allow_redirects=False)
        assert pressed.status_code == 303, pressed.text
        again = pressed.headers["Location"].rpartition("/")[2].partition("?")[0]
        assert again != first
        assert scene.ended(c, again)["state"] == "done"
        assert sorted(printed(publisher).values()) == [2, 2, 2]


def printed(publisher: StoragePeer) -> Counter[str]:
    return Counter(uid for uid in publisher.uids if uid)  # A C-ECHO has none.


def printing(port: int) -> dict[str, Any]:
    about = {"name": "publisher", "kind": "cstore", "ae_title": "PUBLISHER", "host": "127.0.0.1", "port": port}
    return {**about, "calling_ae_title": OUR_AE_TITLE}


def test_an_order_goes_on_at_another_node_when_the_one_that_took_its_steps_is_killed(place_of, tmp_path):
    door = free_port()
    with odd_pacs(door) as pacs, storage_peer() as publisher:
        pacs.hold(*study(tmp_path / "K1", "K1", instances=6))
        pacs.seconds_an_instance = 0.5
        scene = three(
            place_of, pacs_table(pacs.port, pacs.ae_title), door, destinations=[printing(publisher.port)]
        )
        a, b, _ = scene.nodes.values()
        a.start(scene.commands, "work")
        wait_until(lambda: "worker-started" in log_of(a.node).read_text(), seconds=60, what="the first worker")
        b.start(scene.commands, "work", "cdrecord", "serve")
        wait_until(lambda: b.health() == 200, seconds=60, what="the second to be well")
        reference = b.place(PRINT, "K1")
        wait_until(lambda: pacs.moves, seconds=60, what="the PACS is asked to send")
        assert " retrieving " in log_of(a.node).read_text(), scene.logs()
        scene.kill(a)
        killed = time.monotonic()
        ended = scene.ended(b, reference, seconds=120)
        seconds = time.monotonic() - killed
        assert ended["state"] == "done", scene.logs()
        assert "taken-over node=a by=b" in log_of(b.node).read_text()
        assert sorted(printed(publisher).values()) == [1] * 6
        report(11, "an order whose node was killed while the PACS sent", f"ended {seconds:.1f} s after the kill")


def test_an_order_is_cancelled_at_another_node_than_the_one_that_retrieves(place_of, tmp_path):
    door = free_port()
    with odd_pacs(door) as pacs, storage_peer() as publisher:
        pacs.hold(*study(tmp_path / "C1", "C1", instances=40))
        pacs.hold(*study(tmp_path / "D1", "D1", instances=2))
        pacs.seconds_an_instance = 0.5
        scene = three(
            place_of, pacs_table(pacs.port, pacs.ae_title), door, destinations=[printing(publisher.port)]
        )
        a, b, _ = scene.nodes.values()
        a.start(scene.commands, "work", "serve")
        wait_until(lambda: "worker-started" in log_of(a.node).read_text(), seconds=60, what="the first worker")
        b.start(scene.commands, "work", "cdrecord", "serve")
        wait_until(lambda: b.health() == 200, seconds=60, what="the second to be well")
        reference = b.place(PRINT, "C1")
        wait_until(
            lambda: (a.order(reference)["received"] or 0) > 0, seconds=60, what="that the first sees what comes"
        )
        done = command(b.node.file, "cancel", reference.partition("-")[0], "--reason", "ordered by mistake")
        assert done.returncode == 0, done.stderr
        assert {node.order(reference)["error"] for node in (a, b)} == {"cancelled"}
        assert_all_say_the_same(reference, a, b)
        pacs.seconds_an_instance = 0.0
        after = a.place(PRINT, "D1")
        assert scene.ended(b, after)["state"] == "done", scene.logs()
        assert printed(publisher).total() == 2, "nothing of the other one"
