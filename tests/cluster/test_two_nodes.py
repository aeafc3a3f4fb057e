"""Two nodes with a spool of their own, one store and one ledger: all that was admitted is delivered once.

Workers, receivers and senders are real processes, as the database is; some workers are killed.
"""

import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.machine.dicom_programs import dcmsend, listens, wait_until
from support.machine.postgresql import PostgresqlServer
from support.machine.small_disk import may_mount, small_disk
from support.sites import ledger_place
from support.sites.cluster_site import ClusterNode, ClusterSite
from support.sites.line_site import instance
from support.sites.running_nodes import log_of, running, until_settled
from support.studies.fingerprints import sha256

from pipeline.spool.spool import MARK

pytestmark = pytest.mark.programs
STUDIES, INSTANCES = 6, 3


@pytest.fixture
def site(postgresql_server: PostgresqlServer, tmp_path: Path) -> Iterator[ClusterSite]:
    with ledger_place.on(postgresql_server):
        yield ClusterSite(tmp_path / "site")


def studies(folder: Path, prefix: str, count: int = STUDIES) -> list[list[Path]]:
    folder.mkdir(exist_ok=True)
    return [
        [
            instance(folder, f"{prefix}-{number}-{one}", StudyInstanceUID=f"1.2.{ord(prefix)}.{number}")
            for one in range(INSTANCES)
        ]
        for number in range(count)
    ]


def hashes(sent: list[list[Path]]) -> Counter[str]:
    return Counter(sha256(file.read_bytes()) for files in sent for file in files)


def assert_each_once(site: ClusterSite, count: int, *nodes: ClusterNode) -> None:
    assert site.delivered().total() == len(site.delivered()) == count
    assert site.contents().total() == count
    assert {row["state"] for row in site.rows("arrival")} == {"settled"}
    assert Counter(row["state"] for row in site.rows("instance")).keys() <= {"passed", "encoded"}
    assert len(site.rows("instance")) == count
    receipts = Counter(row["instance"] for row in site.rows("receipt"))
    assert receipts.total() == len(receipts) == count
    assert {row["verified"] for row in site.rows("receipt")} == {True}
    for node in nodes:
        assert "Traceback" not in log_of(node).read_text()
        assert " quarantined " not in log_of(node).read_text()


def test_what_two_nodes_receive_is_delivered_once_also_if_one_is_killed(site, tmp_path):
    a, b = site.node("a"), site.node("b")
    of_a, of_b = studies(tmp_path / "files", "a"), studies(tmp_path / "files", "b")
    with running() as commands:
        for node in (a, b):
            commands.start(node, "receive", "modalities")
        first = commands.start(a, "work")
        commands.start(b, "work")
        for node in (a, b):
            wait_until(lambda node=node: listens(node.port), seconds=60, what="the receiver")
        for number, (one, other) in enumerate(zip(of_a, of_b, strict=True)):
            dcmsend(a.port, *one)
            dcmsend(b.port, *other)
            if number % 2:
                first.kill()
                first.wait()
                first = commands.start(a, "work")
        until_settled(site, 2, a, b)
        wait_until(lambda: site.delivered().total() == 2 * STUDIES * INSTANCES, seconds=120, what="all of it")
        until_settled(site, 2, a, b)
        assert_each_once(site, 2 * STUDIES * INSTANCES, a, b)
        assert site.delivered().total() == 2 * STUDIES * INSTANCES
    brought = Counter(row["name"].partition("@")[2] for row in site.rows("arrival"))
    tried = Counter(row["node"] for row in site.rows("attempt"))
    print(f"brought by {dict(brought)}, attempts by {dict(tried)}, fenced {_said('fenced', a, b)}")
    assert set(brought) == {"a", "b"}


def _said(word: str, *nodes: ClusterNode) -> int:
    return sum(log_of(node).read_text().count(f" {word} ") for node in nodes)


def test_what_a_lost_node_has_admitted_is_done_by_the_other_and_the_rest_waits_for_it(site, tmp_path):
    a, b = site.node("a"), site.node("b")
    admitted, waiting = studies(tmp_path / "files", "c", 2)
    with running() as commands:
        first = commands.start(a, "work")
        wait_until(lambda: "worker-started" in log_of(a).read_text(), seconds=60, what="the worker")
        a.arrive(*admitted, age=0)  # Its study is not due for a moment.
        wait_until(lambda: "handed-over" in log_of(a).read_text(), seconds=60, what="the hand-over")
        first.kill()
        first.wait()
        killed = time.monotonic()
        a.arrive(*waiting)
        commands.start(b, "work")
        wait_until(lambda: site.delivered().total() == INSTANCES, seconds=120, what="what was admitted")
        print(f"delivered {time.monotonic() - killed:.1f} s after the kill")
        assert a.waiting() == hashes([waiting])
        commands.start(a, "work")
        until_settled(site, 2, a, b)
        assert_each_once(site, 2 * INSTANCES, a, b)


@pytest.mark.skipif(not may_mount(), reason="a small disk needs mounts")
def test_a_full_store_keeps_everything_here_and_reception_goes_on(site, tmp_path):
    with small_disk(site.store, "1m"), running() as commands:
        node = site.node("a")
        commands.start(node, "receive", "modalities")
        commands.start(node, "work")
        wait_until(lambda: listens(node.port), seconds=60, what="the receiver")
        wait_until(lambda: "worker-started" in log_of(node).read_text(), seconds=60, what="the worker")
        ballast = site.store / "ballast"
        with contextlib.suppress(OSError):
            ballast.write_bytes(bytes(1 << 20))
        sent = studies(tmp_path / "files", "d", 2)
        for files in sent:
            dcmsend(node.port, *files)
        wait_until(lambda: "No space left" in log_of(node).read_text(), seconds=60, what="it says so")
        wait_until(
            lambda: node.waiting().total() == 2 * INSTANCES, seconds=60, what="all is kept in this node's spool"
        )
        assert site.rows("arrival") == []
        assert not any(site.contents())
        ballast.unlink()
        until_settled(site, 2, node)
        assert_each_once(site, 2 * INSTANCES, node)


def test_a_store_that_is_not_mounted_any_more_settles_and_quarantines_nothing(site, tmp_path):
    node = site.node("a")
    (sent,) = studies(tmp_path / "files", "e", 1)
    with running() as commands:
        commands.start(node, "work")
        wait_until(lambda: "worker-started" in log_of(node).read_text(), seconds=60, what="the worker")
        aside = site.store.with_name("elsewhere")
        site.store.rename(aside)
        site.store.mkdir()
        node.arrive(*sent)
        wait_until(lambda: "is it mounted" in log_of(node).read_text(), seconds=60, what="it says so")
        assert node.waiting() == hashes([sent])
        shutil.rmtree(site.store)
        aside.rename(site.store)
        until_settled(site, 1, node)
        assert_each_once(site, INSTANCES, node)


def test_a_worker_whose_store_is_another_one_is_refused(site, tmp_path):
    a = site.node("a")
    with running() as commands:
        commands.start(a, "work")
        wait_until(lambda: "worker-started" in log_of(a).read_text(), seconds=60, what="the worker")
        other = ClusterSite(tmp_path / "other")
        b = other.node("b")
        (other.store / MARK).write_text("of another ledger")
        assert commands.start(b, "work").wait(60) == 78
        assert "is the ledger of another spool" in log_of(b).read_text()


def test_a_worker_whose_store_is_not_mounted_makes_none_in_its_place_and_may_start_again(site, tmp_path):
    a = site.node("a")
    with running() as commands:
        first = commands.start(a, "work")
        wait_until(lambda: "worker-started" in log_of(a).read_text(), seconds=60, what="the worker")
        first.terminate()
        assert first.wait(60) == 0
        aside = site.store.with_name("elsewhere")
        site.store.rename(aside)
        site.store.mkdir()
        assert commands.start(a, "work").wait(60) == 75, "the service manager starts it again"
        assert "is it mounted" in log_of(a).read_text()
        assert list(site.store.iterdir()) == []
        site.store.rmdir()
        aside.rename(site.store)
        commands.start(a, "work")
        wait_until(lambda: log_of(a).read_text().count("worker-started") == 2, seconds=60, what="the worker")
