"""Each node of a cluster has its own worker: that one is dead is not hidden by another that works."""

import time

import pytest
from sqlalchemy import update
from support.machine.postgresql import PostgresqlServer
from support.sites import ledger_place
from support.sites.line_site import node_settings, working

from pipeline.commands.check import findings
from pipeline.ledger import heartbeats, nodes
from pipeline.ledger.nodes import NodeReport
from pipeline.ledger.tables import node
from pipeline.operate.measurements import measured
from pipeline.operate.status import status
from pipeline.site.worker_state import WorkerNotHeard, WorkerState, require_worker, sole_worker, worker_status

pytestmark = pytest.mark.programs


def test_the_worker_of_one_node_is_not_taken_for_that_of_another(postgresql_server: PostgresqlServer, tmp_path):
    with ledger_place.on(postgresql_server):
        a, b = (node_settings(tmp_path / name, name, store=tmp_path / "store") for name in ("a", "b"))
        with working(a) as (site, worker):
            ledger = site.ledger
            worker.round()
            b.spool.prepare()
            assert worker_status(a, ledger).state is WorkerState.UP
            with sole_worker(b.spool):  # Its process lives, and its loop has never reported.
                found = worker_status(b, ledger)
                assert (found.state, found.seconds) == (WorkerState.STALE, None)
                told = status(b, ledger)["worker"]
                assert (told["node"], told["state"], told["seconds"]) == ("b", "stale", None)
                assert status(a, ledger)["worker"]["state"] == "up"
                assert [one.level for one in findings(b) if one.about == "worker"] == ["error"]
            now = time.time()
            assert measured(a, ledger, now).beat_at is not None
            assert measured(b, ledger, now).beat_at is None
            require_worker(b, ledger)  # Any node takes the order.
            with ledger.transaction() as change:
                nodes.drain(change, "a", draining=True)
            with pytest.raises(WorkerNotHeard, match="the worker is not running; no other node works"):
                require_worker(b, ledger)
            require_worker(a, ledger)


def test_what_is_known_of_a_worker_is_forgotten_with_its_node(postgresql_server, tmp_path):
    with ledger_place.on(postgresql_server), working(node_settings(tmp_path, "a")) as (site, worker):
        worker.round()
        with site.ledger.transaction() as change:
            nodes.report(change, NodeReport("b", "b", "1", (), 0, ""))
            heartbeats.beat(change, "b", 1.0, 2.0)
            change.execute(update(node).where(node.c.name == "b").values(seen=1.0))
        lost = [one.text for one in findings(site.settings) if "node b" in one.text]
        words = "node b has ended or cannot report; the others do its work: storestow forget b, if it does not"
        assert lost == [f"{words} come back"]
        with site.ledger.transaction() as change:
            nodes.forget(change, "b")
            assert heartbeats.row(change, "b") is None
            assert heartbeats.row(change, "a") is not None
