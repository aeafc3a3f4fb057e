"""Three nodes with one ledger and one store behind HAProxy are restarted in turn under load: nobody is refused."""

import os
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Self

import pydicom
import pytest
import requests
from pydicom.uid import generate_uid
from support.machine.dicom_programs import free_port, storescu, wait_until
from support.machine.postgresql import PostgresqlServer
from support.peers.archives import study
from support.peers.haproxy import Balancer, haproxy
from support.peers.odd_pacs import odd_pacs
from support.sites import ledger_place
from support.sites.acceptance import report, size
from support.sites.cluster_orders import JSON, OrdersNode, orders_node
from support.sites.cluster_site import ClusterSite
from support.sites.line_site import instance
from support.sites.running_nodes import Running, log_of, running
from support.sites.running_site import command

pytestmark = pytest.mark.programs
ALL = ("work", "modalities", "cdrecord", "serve")
BETWEEN = size(2, 10)  # Associations that come at least in each state of a node.


class Load:
    """One association after the other, and one order after the other, through the address that all share."""

    def __init__(self, front: Balancer, folder: Path, accessions: list[str]) -> None:
        self._front, self._folder, self._accessions = front, folder, accessions
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._order)]
        self.sent: list[str] = []
        self.refused: list[str] = []
        self.orders: list[str] = []
        self.not_served: list[str] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(120)

    def _send(self) -> None:
        while not self._over.is_set():
            file = instance(self._folder, generate_uid(), StudyInstanceUID=generate_uid())
            said = storescu(self._front.port, file)
            if (said.exit_code, said.acknowledged) != (0, 1):
                self.refused.append(said.output)
            self.sent.append(str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID))

    def _order(self) -> None:
        """Place one order after the other, each when the one before has ended, as long as studies are left."""
        for accession in self._accessions:
            if self._over.is_set():
                return
            where = f"{self._front.url}/mkiso.php?accession_number={accession}"
            answer = requests.get(where, headers={"Accept": "text/html"}, allow_redirects=False, timeout=120)
            if answer.status_code != 303:
                self.not_served.append(f"{answer.status_code} {answer.text[:500]}")
            else:
                reference = answer.headers["Location"].partition("order=")[2].partition("&")[0]
                self.orders.append(reference)
                wait_until(lambda reference=reference: is_done(self._front, reference), seconds=180, what="it")  # type: ignore[misc]

    def goes_on(self) -> None:
        before = len(self.sent)
        wait_until(lambda: len(self.sent) >= before + BETWEEN, seconds=120, what="load")


def is_left_alone(site: ClusterSite, node: OrdersNode) -> bool:
    """Say whether a node has nothing at its door, in hand or open, as an operator looks at `status`."""
    mine = node.node.name
    working = [row for row in site.rows("delivery") if row["state"] == "sending" and row["worker"] == mine]
    claimed = [row for row in site.rows("study_claim") if row["worker"] == mine]
    moving = [row for row in site.rows("retrieval") if row["state"] == "moving" and row["worker"] == mine]
    at_the_door = [*node.node.spool.incoming.glob("*/*"), *node.node.spool.received.iterdir()]
    return not (working or claimed or moving or at_the_door)


def restart(
    site: ClusterSite, commands: Running, node: OrdersNode, load: Load, number: int, *balancers: Balancer
) -> None:
    """Drain a node, wait, stop it, start it, and let it take work again, as docs/scale.md says.

    It is the one of this number for each of the balancers.
    """
    assert command(node.node.file, "drain").returncode == 0
    wait_until(lambda: node.health() == 503, seconds=30, what="/api/health says so")
    assert node.health("?receiver=modalities") == 503
    for one in balancers:
        wait_until(lambda one=one: one.has_left(number), seconds=60, what="the balancer sends nothing here")  # type: ignore[misc]
    wait_until(lambda: is_left_alone(site, node), seconds=120, what="what it has in hand")
    load.goes_on()
    commands.end(node.node)
    load.goes_on()
    node.start(commands, *ALL)
    assert node.health() == 503, "it stays drained"
    assert command(node.node.file, "drain", "--undo").returncode == 0
    wait_until(lambda: node.health() == 200, seconds=60, what="it is well")
    assert node.health("?receiver=modalities") == 200
    for one in balancers:
        wait_until(lambda one=one: one.sends_to(number), seconds=60, what="the balancer sends here again")  # type: ignore[misc]
    load.goes_on()


def test_three_nodes_are_restarted_in_turn_and_no_association_and_no_order_is_refused(
    postgresql_server: PostgresqlServer, tmp_path: Path
):
    (tmp_path / "files").mkdir()
    accessions = [f"R{number}" for number in range(size(40, 100))]
    dicom = free_port()
    with (
        ledger_place.on(postgresql_server),
        odd_pacs(dicom) as pacs,
        running() as commands,
    ):
        for accession in accessions:
            pacs.hold(*study(tmp_path / "pacs", accession, instances=2))
        site = ClusterSite(tmp_path / "site")
        table = pacs.archive().table()
        nodes = [orders_node(site, name, table) for name in ("a", "b", "c")]
        for node in nodes:
            node.start(commands, *ALL)
            wait_until(lambda node=node: node.health() == 200, seconds=60, what=node.node.name)
        began = time.monotonic()
        with (
            haproxy(tmp_path / "haproxy", [(node.ports["modalities"], node.http) for node in nodes]) as front,
            haproxy(
                tmp_path / "for-pacs", [(node.ports["cdrecord"], node.http) for node in nodes], dicom
            ) as for_pacs,
        ):
            with Load(front, tmp_path / "files", accessions) as load:
                load.goes_on()
                for number, node in enumerate(nodes, 1):
                    restart(site, commands, node, load, number, front, for_pacs)
            logs = "\n".join(log_of(node.node).read_text() for node in nodes)
            assert load.refused == []
            assert load.not_served == []
            wait_until(lambda: set(load.sent) <= set(site.delivered()), seconds=120, what="all is delivered")
            for order in load.orders:
                wait_until(
                    lambda order=order: is_done(front, order), seconds=120, what=f"order {order}\n{logs[-9000:]}"
                )
        seconds = time.monotonic() - began
        tried = site.rows("attempt")
        assert set(Counter(row["delivery"] for row in tried).values()) == {1}, "no delivery is attempted twice"
        assert {row["state"] for row in tried} == {"delivered"}
        assert set(site.delivered().values()) == {1}
        assert " taken-over " not in logs
        assert "Traceback" not in logs
    print(Counter(row["node"] for row in tried), f"load {os.getloadavg()[0]:.1f}")
    what = f"{len(load.sent)} associations and {len(load.orders)} orders in {seconds:.0f} s"
    report(12, "three nodes restarted in turn", f"{what}: none refused, none attempted twice")


def is_done(front: Balancer, reference: str) -> bool:
    answer = requests.get(f"{front.url}/orders/{reference}", headers=JSON, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] in {"open", "done"}, answer.text
    return bool(answer.json()["state"] == "done")
