"""The server of the ledger crashes again and again under load, or its standby takes its place: nothing is lost.

Each node, the servers and the archive are machines of a network of the test's own.
"""

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from support.machine.dicom_programs import wait_until
from support.sites import ledger_place
from support.sites.acceptance import report, size
from support.sites.networked_cluster import NetworkedCluster, Senders, networked_cluster, said
from support.sites.running_nodes import Running, running, until_settled

# Its waits have deadlines of their own, which are longer together than the usual limit.
pytestmark = [pytest.mark.programs, pytest.mark.timeout(600)]
RESTARTS, EVERY = size(2, 9), size(8.0, 20.0)
DURABLE = ()
LONG = size(150, 400)


@contextmanager
def loaded(
    its: NetworkedCluster, folder, commands: Running
) -> Iterator[tuple[Senders, list[subprocess.Popen[bytes]]]]:
    """Run both nodes and their modalities, and yield when something has been delivered; both workers."""
    workers = []
    for node in its.nodes:
        commands.start(node, "receive", "modalities")
        workers.append(commands.start(node, "work"))
    its.until_up()
    senders = Senders(folder / "files", *its.nodes, pause=size(0.3, 0.7))
    try:
        wait_until(lambda: len(its.archive.came) >= 20, seconds=120, what="the first at the archive")
        yield senders, workers
    finally:
        its.archive.may_answer.set()
        senders.stop()


def require_all(its: NetworkedCluster, senders: Senders) -> None:
    """Require that what was acknowledged is at the archive, with one content, and settled."""
    wait_until(lambda: set(its.archive.came) >= senders.uids, seconds=LONG, what="all at the archive")
    until_settled(its.site, 1, *its.nodes, seconds=LONG)
    assert not senders.failed
    assert set(its.archive.came) == senders.uids
    assert its.archive.other_bytes() == set()
    assert its.ask("SELECT DISTINCT state, verified FROM receipt") == [("stored", True)]
    assert its.ask("SELECT DISTINCT state FROM arrival") == [("settled",)]
    assert its.ask("SELECT count(DISTINCT sop_instance_uid) FROM instance") == [(len(senders.uids),)]
    assert its.ask("SELECT 1 FROM delivery WHERE claim IS NOT NULL OR held") == []
    assert its.ask("SELECT 1 FROM study_claim") == []
    for node in its.nodes:
        assert not said(node, " quarantined ")
        assert not said(node, " bug ")


def test_nothing_is_lost_while_the_server_crashes_again_and_again(tmp_path):
    with networked_cluster(tmp_path / "site", settings=DURABLE) as its, running() as commands:
        with loaded(its, tmp_path, commands) as (senders, workers):
            crashes = []
            for _ in range(RESTARTS):
                its.server.stop("immediate")
                crashes.append(time.time())
                its.server.start()
                again = crashes[-1] + EVERY
                wait_until(lambda again=again: time.time() >= again, seconds=EVERY + 5, what="the next crash")
        require_all(its, senders)
        assert its.ask("SELECT * FROM overwritten") == []
        assert [worker.poll() for worker in workers] == [None, None], "a worker lives on"
    twice = its.archive.twice()
    gaps = sorted(
        min(crash - came[0][0] for crash in crashes if crash > came[0][0] - 1) for came in twice.values()
    )
    report(
        6,
        f"{RESTARTS} crashes, each {EVERY:.0f} s: instances in all, and sent twice",
        f"{len(its.archive.came)}, {len(twice)}",
    )
    if twice:
        report(6, "sent twice: the first time so long before a crash", f"{gaps[0]:.2f} to {gaps[-1]:.2f} s")
    report(6, "fenced", str(sum(len(said(node, " fenced ")) for node in its.nodes)))
    assert all(gap < 5 for gap in gaps), "receipts that were not flushed yet, or an answer under way"


@contextmanager
def vanished(its: NetworkedCluster, *, from_whom: tuple[str, ...]) -> Iterator[None]:
    """Let nobody reach the server."""
    with ExitStack() as stack:
        for name in from_whom:
            stack.enter_context(its.net.cut(its.machines["db"], its.machines[name]))
        yield


def test_a_synchronous_standby_takes_over_and_nothing_is_lost(tmp_path):
    with networked_cluster(tmp_path / "site", settings=DURABLE, has_standby=True) as its, running() as commands:
        assert its.standby
        its.server.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        its.server.execute("SELECT pg_reload_conf()")
        is_synchronous = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
        wait_until(lambda: its.ask(is_synchronous), seconds=60, what="the standby is synchronous")
        with ExitStack() as stack, loaded(its, tmp_path, commands) as (senders, workers):
            its.until_in_hand()
            stack.enter_context(vanished(its, from_whom=("a", "b", "db2")))
            gone_at = time.time()
            its.standby.promote()
            stack.enter_context(ledger_place.at(its.standby.url("ledger")))
            its.archive.may_answer.set()
            seconds = works_again(its, gone_at)
            wait_until(lambda: len(its.archive.came) >= 60, seconds=120, what="some more")
            senders.stop()
            require_all(its, senders)
            assert its.ask("SELECT * FROM overwritten") == []
            assert [worker.poll() for worker in workers] == [None, None], "a worker lives on"
            twice = its.archive.twice()
    report(6, "synchronous standby, its server vanished: each node worked again after", seconds)
    report(6, "instances in all, and sent twice", f"{len(its.archive.came)}, {len(twice)}")
    report(6, "fenced", str(sum(len(said(node, " fenced ")) for node in its.nodes)))


def works_again(its: NetworkedCluster, since: float) -> str:
    """Wait until each node has attempted a delivery since; return after how many seconds."""
    found: dict[str, float] = {}

    def have_all() -> bool:
        found.update(its.ask(f"SELECT node, min(began_at) FROM attempt WHERE began_at > {since} GROUP BY node"))
        return len(found) == len(its.nodes)

    wait_until(have_all, seconds=120, what="each node delivers again")
    return ", ".join(f"{name} {at - since:.1f} s" for name, at in sorted(found.items()))


def test_what_a_standby_lacks_is_found_again_and_sent_again(tmp_path):
    with networked_cluster(tmp_path / "site", settings=DURABLE, has_standby=True) as its, running() as commands:
        assert its.standby
        with ExitStack() as stack, loaded(its, tmp_path, commands) as (senders, workers):
            with its.net.cut(its.machines["db"], its.machines["db2"]):
                before = counts(its)["settled"]
                wait_until(
                    lambda: counts(its)["settled"] >= before + 3, seconds=60, what="some is settled that it lacks"
                )
                had = counts(its)
                its.server.stop("immediate")
                gone_at = time.time()
                its.standby.promote()
            stack.enter_context(ledger_place.at(its.standby.url("ledger")))
            lacked = {name: had[name] - count for name, count in counts(its).items()}
            seconds = works_again(its, gone_at)
            came = len(its.archive.came)
            wait_until(lambda: len(its.archive.came) >= came + 20, seconds=120, what="some more")
            senders.stop()
            require_all(its, senders)
            assert [worker.poll() for worker in workers] == [None, None], "a worker lives on"
            twice = its.archive.twice()
        compared = [len(said(node, " ledger-replaced ")) for node in its.nodes]
    report(6, "asynchronous standby: each node worked again after", seconds)
    report(6, "rows at least that it lacked", str(lacked))
    report(6, "instances in all, and sent twice", f"{len(its.archive.came)}, {len(twice)}")
    assert compared == [1, 1]
    assert lacked["settled"] >= 1
    assert all(first[0] < gone_at for first, _second in twice.values()), "what came since is sent once"


def counts(its: NetworkedCluster) -> dict[str, int]:
    """Return how many rows of each kind the ledger has."""
    statements = {
        "arrival": "SELECT count(*) FROM arrival",
        "delivery": "SELECT count(*) FROM delivery",
        "delivered": "SELECT count(*) FROM delivery WHERE state = 'delivered'",
        "settled": "SELECT count(*) FROM arrival WHERE state = 'settled'",
    }
    return {name: its.ask(statement)[0][0] for name, statement in statements.items()}
