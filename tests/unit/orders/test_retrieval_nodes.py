"""A retrieval that lacks something is not at its end while another node may have it at its door."""

import time
from contextlib import closing
from types import SimpleNamespace

import pytest
from sqlalchemy import update
from support.sites import ledger_place

from pipeline.ledger import nodes
from pipeline.ledger.claims import Claimant
from pipeline.ledger.nodes import NodeReport
from pipeline.ledger.tables import node
from pipeline.model import OrderError
from pipeline.orders.retrieval import _may_come_from_others

pytestmark = pytest.mark.both_databases
PACS = SimpleNamespace(receiver="cdrecord")
STUDY = "1.2.3"


def retrieval(**more):
    return SimpleNamespace(
        **{"study_instance_uid": STUDY, "finished_at": time.time() - 5, "error_kind": None, **more}
    )


@pytest.fixture
def ledger(tmp_path):
    opened, _ = ledger_place.opened(tmp_path)
    with closing(opened):
        yield opened


def may_come(ledger, row, *door, has_store: bool = True) -> bool:
    site = SimpleNamespace(spool=SimpleNamespace(has_store=has_store), claimant=Claimant("a", "a"))
    with ledger.transaction() as change:
        nodes.report(change, NodeReport("b", "b", "1", ("cdrecord",), 0, "", door))
    with ledger.reading() as look:
        return _may_come_from_others(look, row, PACS, site)


def test_what_another_node_has_of_the_study_is_waited_for_and_nothing_else(ledger):
    assert may_come(ledger, retrieval(), ("cdrecord", STUDY, 2))
    assert not may_come(ledger, retrieval(), ("cdrecord", "1.2.4", 2), ("modalities", STUDY, 2))
    assert not may_come(ledger, retrieval(), ("cdrecord", STUDY, 2), has_store=False)
    assert not may_come(ledger, retrieval(error_kind=OrderError.MOVE_TIMED_OUT), ("cdrecord", STUDY, 2))


def test_another_node_must_have_reported_since_the_pacs_ended_unless_it_is_lost(ledger):
    later = retrieval(finished_at=time.time() + 60)
    assert may_come(ledger, later)
    with ledger.transaction() as change:
        change.execute(update(node).values(lost_at=1.0))
    with ledger.reading() as look:
        assert nodes.others(look, "a").seen == {}
