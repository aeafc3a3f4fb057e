"""A node is cut off from the database, and from nothing else: it comes back by itself, and has changed nothing.

Each node, the database's server and the archive are machines of a network of the test's own. What lies between the
node and the server is dropped without an answer, so that every wait has to end by its own deadline.
"""

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from support.machine.dicom_programs import ENVIRONMENT, wait_until
from support.machine.network import network
from support.machine.postgresql import postgresql
from support.sites.acceptance import report, size
from support.sites.networked_cluster import Senders, networked_cluster, said
from support.sites.running_nodes import running, until_settled

from pipeline.ledger import Ledger, Server

pytestmark = pytest.mark.programs
ROOT = Path(__file__).resolve().parents[2]
CUT_SECONDS = size(0.0, 180.0)  # At least: the other node has taken over before the end.


def test_a_node_that_is_cut_off_from_the_database_alone_changes_nothing_and_comes_back(tmp_path):
    with networked_cluster(tmp_path / "site") as its, running() as commands:
        a, b = its.nodes
        for node in its.nodes:
            commands.start(node, "receive", "modalities")
            commands.start(node, "work")
        its.until_up()
        senders = Senders(tmp_path / "files", a, b, pause=size(0.3, 1.0))
        try:
            wait_until(lambda: len(its.archive.came) >= 20, seconds=90, what="the first at the archive")
            its.until_in_hand()
            with its.net.cut(its.machines["a"], its.machines["db"]):
                cut_at = time.time()
                in_hand = {name: set(uids) for name, uids in its.archive.held.items()}
                its.archive.may_answer.set()
                wait_until(lambda: said(b, " node-lost ", "node=a"), seconds=90, what="the other takes over")
                taken_after = time.time() - cut_at
                left = max(0.0, cut_at + CUT_SECONDS - time.time())
                wait_until(
                    lambda: time.time() >= cut_at + CUT_SECONDS, seconds=left + 5, what="the end of the cut"
                )
                received = 2 * sum(at > cut_at for at, _ in senders.sent["a"])
                wait_until(lambda: a.waiting().total() >= received, what="what came waits")
                handed_over = len(said(a, " handed-over "))
            over_at = time.time()
            wait_until(lambda: len(said(a, " handed-over ")) > handed_over, seconds=120, what="it works again")
            works_after = time.time() - over_at
            wait_until(lambda: said(a, " fenced what=deliver "), seconds=120, what="it finds out")
        finally:
            its.archive.may_answer.set()
            senders.stop()
        wait_until(lambda: len(its.archive.came) >= len(senders.uids), seconds=size(120, 400), what="all arrives")
        until_settled(its.site, 1, a, b, seconds=size(120, 400))
        assert its.ask("SELECT * FROM overwritten") == []
        assert Counter(its.ask("SELECT state, verified FROM receipt")) == {("stored", True): len(senders.uids)}
        assert Counter(its.ask("SELECT DISTINCT state FROM arrival")) == {("settled",): 1}
        assert its.ask("SELECT 1 FROM delivery WHERE claim IS NOT NULL OR held") == []
        tried = its.ask(f"SELECT count(*) FROM attempt WHERE node = 'a' AND began_at > {over_at}")
    twice = its.archive.twice()
    fenced = Counter(line.split(" fenced ")[1].split(" ")[0] for line in said(a, " fenced "))
    report(5, f"cut for {over_at - cut_at:.0f} s: the other took over after", f"{taken_after:.1f} s")
    report(
        5, "at the archive when it was cut off, by nodes", str({name: len(had) for name, had in in_hand.items()})
    )
    report(5, "instances received by the node while it was cut off, all acknowledged", str(received))
    report(5, "instances in all, and how many were sent twice", f"{len(senders.uids)}, {len(twice)}")
    report(5, "it worked again after the end of the cut", f"{works_after:.1f} s; attempts since: {tried[0][0]}")
    report(5, "fenced, by what", str(dict(fenced)))
    assert not senders.failed
    assert received
    assert tried[0][0]
    assert set(its.archive.came) == senders.uids
    assert its.archive.other_bytes() == set()
    for uid, (first, _second) in twice.items():  # never three times
        assert first[1] == "a"
        assert uid in in_hand["a"] or first[0] > cut_at - 2, "its answer could not be recorded"


def test_a_turn_to_write_is_free_soon_after_its_node_has_vanished_in_the_middle_of_an_answer(tmp_path):
    writes = """
import sys
from pipeline.ledger import Ledger, Server
with Ledger(Server(sys.argv[1])).transaction() as change:
    print("its turn", flush=True)
    change.exec_driver_sql("SELECT pg_sleep(2)")
"""
    with network() as net:
        db, a = net.machine("db"), net.machine("a")
        with postgresql(machine=db) as server:
            argv = a.inside(sys.executable, "-c", writes, server.tcp("postgres"))
            with subprocess.Popen(
                argv, env=ENVIRONMENT, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as vanishing:
                assert vanishing.stdout
                assert vanishing.stdout.readline() == b"its turn\n"
                with net.cut(a, db):
                    cut_at = time.monotonic()
                    ledger = Ledger(Server(server.url("postgres")))
                    with ledger.transaction():
                        seconds = time.monotonic() - cut_at
                    ledger.close()
                vanishing.kill()
    report(5, "another node's turn to write was free after", f"{seconds:.1f} s")
    assert 2 < seconds < 55
