"""The ledger's server crashes while a disc is ordered, and its synchronous standby takes over: one whole disc.

Nobody does anything but follow the link again where it was not answered.
"""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg
import pytest
from support.machine.dicom_programs import free_port, wait_until
from support.machine.postgresql import PostgresqlServer, new_folder, postgresql
from support.peers.archives import OUR_AE_TITLE, header, study, study_uid
from support.peers.odd_pacs import OddPacs, odd_pacs
from support.sites import ledger_place
from support.sites.acceptance import WHOLE, report, size
from support.sites.cluster_orders import JSON, OrdersNode, orders_node
from support.sites.cluster_site import ClusterSite
from support.sites.networked_cluster import said
from support.sites.running_nodes import log_of, running
from support.sites.shim_site import BROWSER
from support.studies.discs import files_below, taken_apart

pytestmark = [pytest.mark.programs, pytest.mark.timeout(1200)]
LINK = "mkiso.php"
INSTANCES = 8
# When the server crashes: before the link is answered, after that, while the PACS sends, while the disc is made.
MOMENTS = size(("making",), ("placing", "placed", "sends", "making") * 5)


@dataclass
class Pair:
    """A server and its synchronous standby, each with a socket of its own."""

    server: PostgresqlServer
    standby: PostgresqlServer

    def begin(self) -> None:
        """Let each commit wait for the standby from now on."""
        self.server.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        self.server.execute("SELECT pg_reload_conf()")

        def is_synchronous() -> bool:
            with psycopg.connect(self.server.url("ledger")) as connection:
                found = connection.execute("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
                return found.fetchone() is not None

        wait_until(is_synchronous, seconds=60, what="the standby is synchronous")

    def fail_over(self) -> None:
        """Crash the server, and let the standby take its place."""
        self.server.stop("immediate")
        self.standby.promote()
        self.server, self.standby = self.standby, self.server

    def renew(self) -> None:
        """Make the server that has crashed the standby of the one that took its place."""
        shutil.rmtree(self.standby.folder / "data")
        self.standby = PostgresqlServer(self.standby.folder, copy_of=self.server)
        self.standby.start()
        self.begin()


@contextmanager
def pair() -> Iterator[Pair]:
    with postgresql() as server:
        server.execute("CREATE DATABASE ledger TEMPLATE template0")
        folder = new_folder()
        found = Pair(server, PostgresqlServer(folder, copy_of=server))
        try:
            found.standby.start()
            found.begin()
            yield found
        finally:
            for one in (found.standby, found.server):
                one.stop()
            shutil.rmtree(folder)


@dataclass
class Scene:
    """Two nodes that work; the PACS sends to the one that also serves."""

    servers: Pair
    site: ClusterSite
    pacs: OddPacs
    node: OrdersNode
    other: OrdersNode

    def count(self, statement: str, *values: object) -> int:
        with psycopg.connect(self.servers.server.url("ledger")) as connection:
            row = connection.execute(statement.encode(), values).fetchone()
            assert row
            return int(row[0])

    def until(self, moment: str, uid: str) -> None:
        """Wait for the moment of the order for a study at which the server is to crash."""
        making = "SELECT count(*) FROM delivery WHERE order_id IS NOT NULL AND state = 'sending'"
        comes: dict[str, Callable[[], object]] = {
            "sends": lambda: uid in {str(move.StudyInstanceUID) for move in self.pacs.moves},
            "making": lambda: self.count(making),
        }
        if moment in comes:
            wait_until(comes[moment], seconds=60, what=moment)

    def logs(self) -> str:
        return "\n".join(log_of(one.node).read_text()[-6000:] for one in (self.node, self.other))


def test_an_order_across_a_failover_ends_with_one_whole_disc_and_nobody_does_anything(tmp_path):
    door = free_port()
    with ExitStack() as stack:
        servers = stack.enter_context(pair())
        stack.enter_context(ledger_place.at(servers.server.url("ledger", servers.standby)))
        pacs = stack.enter_context(odd_pacs(door))
        commands = stack.enter_context(running())
        table = {"ae_title": pacs.ae_title, "host": "127.0.0.1", "port": pacs.port}
        table |= {"calling_ae_title": OUR_AE_TITLE, "receiver": "cdrecord"}
        site = ClusterSite(tmp_path / "site")
        a, b = (orders_node(site, name, table, door=door if name == "a" else None) for name in ("a", "b"))
        # After a failure they wait a second, instead of half a minute as in the acceptance itself.
        for one in (a, b):
            if WHOLE:
                commands.start(one.node, "work")
            else:
                commands.start_impatient_worker(one.node)
            up = partial(said, one.node, "worker-started")
            wait_until(up, seconds=60, what=f"the worker of {one.node.name}")
        a.start(commands, "cdrecord", "serve")
        wait_until(lambda: a.health() == 200, seconds=60, what="the node to be well")
        pacs.seconds_an_instance = 0.2
        scene = Scene(servers, site, pacs, a, b)
        for number, moment in enumerate(MOMENTS):
            if number:
                servers.renew()
            seconds, attempts = ordered(scene, moment, f"F{number}", tmp_path)
            measured = f"{seconds:.1f} s, {attempts} attempts"
            report(6, f"failover while a disc is ordered ({moment}): made after", measured)


def ordered(scene: Scene, moment: str, accession: str, folder: Path) -> tuple[float, int]:
    """Order a disc across a failover and require that it is made; return after how many seconds, and attempts."""
    files = study(folder / accession, accession, instances=INSTANCES)
    scene.pacs.hold(*files)
    if moment == "placing":
        with ThreadPoolExecutor(1) as person:
            placing = person.submit(placed, scene.node, accession)
            scene.servers.fail_over()
            reference = placing.result(120)
    else:
        reference = placed(scene.node, accession)
        scene.until(moment, study_uid(files))
        scene.servers.fail_over()
    failed_over = time.monotonic()

    def has_ended() -> bool:
        answer = scene.node.get(f"/orders/{reference}", headers=JSON)
        return answer.status_code == 200 and answer.json()["state"] != "open"

    try:
        wait_until(has_ended, seconds=180, what="the end of the order")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{scene.logs()}") from error
    seconds = time.monotonic() - failed_over
    assert scene.node.order(reference)["state"] == "done", f"{scene.node.order(reference)}\n{scene.logs()}"
    number = reference.partition("-")[0]
    require_one_whole_disc(scene, reference, files, folder / f"disc-{number}")
    return seconds, scene.count("SELECT attempts FROM delivery WHERE order_id = %s", number)


def placed(node: OrdersNode, accession: str) -> str:
    """Follow the link until it is answered, as a person does; return the order's reference."""
    found: list[str] = []

    def is_placed() -> bool:
        address = f"/{LINK}?accession_number={accession}"
        answer = node.get(address, headers=BROWSER, allow_redirects=False)
        assert answer.status_code in {303, 503}, answer.text
        if answer.status_code == 303:
            found.append(answer.headers["Location"].partition("order=")[2].partition("&")[0])
        return bool(found)

    wait_until(is_placed, seconds=60, what="the link is answered")
    return found[0]


def require_one_whole_disc(scene: Scene, reference: str, files: list[Path], folder: Path) -> None:
    """Require that the order made one file, with each instance of the study, and that there is no other order."""
    number = reference.partition("-")[0]
    (made,) = (scene.site.folder / "discs").rglob(f"{number}.*")
    assert scene.node.get(f"/orders/{reference}/file").content == made.read_bytes()
    root = taken_apart(made, folder)
    on_disc = Counter(str(header(file).SOPInstanceUID) for file in files_below(root / "DICOM"))
    assert on_disc == Counter(str(header(file).SOPInstanceUID) for file in files)
    of_it = "SELECT count(*) FROM delivery WHERE order_id = %s"
    assert scene.count(of_it, number) == scene.count(f"{of_it} AND state = 'delivered'", number) == 1
    accession = str(header(files[0]).AccessionNumber)
    assert scene.count("SELECT count(*) FROM orders WHERE accessions::text LIKE %s", f'%"{accession}"%') == 1
    assert len(files_below(scene.site.folder / "discs")) == scene.count("SELECT count(*) FROM orders")
    for node in (scene.node, scene.other):
        assert "Traceback" not in log_of(node.node).read_text()
