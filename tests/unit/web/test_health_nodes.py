"""A node of a cluster can serve orders where any node works and receives; what is here is said all the same."""

import time
from contextlib import closing

import pytest
from sqlalchemy import update
from support.sites import ledger_place
from support.sites.line_site import node_settings, working
from support.sites.placed_orders import settings_with_pacs

from pipeline.ledger import Ledger, heartbeats, nodes
from pipeline.ledger.nodes import NodeReport
from pipeline.ledger.tables import node
from pipeline.web import health
from pipeline.web.order_service import OrderService

pytestmark = pytest.mark.programs


def heard(ledger: Ledger, worker: str) -> None:
    with ledger.transaction() as change:
        heartbeats.beat(change, worker, time.time(), time.time())


def test_worker_and_receiver_of_another_node_do_and_those_of_one_that_is_lost_or_drains_do_not(
    postgresql_server, tmp_path, monkeypatch
):
    monkeypatch.setattr(health, "_echo_problem", lambda _: None)
    with ledger_place.on(postgresql_server):
        settings = node_settings(tmp_path, "a")
        pacs = settings_with_pacs(tmp_path).pacs.model_copy(update={"receiver": "modalities"})
        settings = settings.model_copy(update={"pacs": pacs})
        with working(settings), closing(OrderService(settings)) as service:

            def found() -> dict[str, tuple[bool, str]]:
                parts = health.look_at(service)
                return {name: (is_well, words) for name, is_well, _, words in parts}

            def is_well() -> tuple[bool, bool]:
                return found()["worker"][0], found()["receiver"][0]

            ledger = service.ledger()
            assert is_well() == (False, False), "nothing runs"
            heard(ledger, "b")
            assert found()["worker"] == (False, "does not respond"), "another's report is not that of the one here"
            with ledger.transaction() as change:
                nodes.report(change, NodeReport("b", "b", "1", ("modalities",), 0, ""))
            assert is_well() == (True, True)
            assert health.status_of(health.look_at(service)) == "degraded", "the worker here does not run"
            assert found()["worker here"] == (False, "does not respond")
            assert found()["receiver"][1] == "is not listening, here; elsewhere it is: b"
            with ledger.transaction() as change:
                nodes.drain(change, "b", draining=True)
            assert is_well() == (False, True), "its receivers go on"
            with ledger.transaction() as change:
                change.execute(update(node).values(draining=False, seen=1.0))
            assert is_well() == (False, False)
            heard(ledger, "a")
            assert found()["worker"] == (True, "is running")
            assert found()["node b"][1].startswith("node b has ended or cannot report")
