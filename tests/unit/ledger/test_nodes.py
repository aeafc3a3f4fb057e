"""Each node reports; one that drains claims nothing; one that reports no more is found, once."""

import time
from contextlib import closing

import pytest
from sqlalchemy import insert, update
from support.sites import ledger_place

from pipeline.ledger import claims, deliveries, nodes, retrievals
from pipeline.ledger.claims import Claimant
from pipeline.ledger.nodes import NodeReport
from pipeline.ledger.tables import delivery, node

pytestmark = pytest.mark.both_databases
A, B = Claimant("a", "a"), Claimant("b", "b")


def report_of(by: Claimant) -> NodeReport:
    return NodeReport(by.node, by.worker, "1.0", ("modalities",), 2, "hash")


@pytest.fixture
def ledger(tmp_path):
    opened, _ = ledger_place.opened(tmp_path)
    with closing(opened):
        with opened.transaction() as change:
            for number in (1, 2):
                values = {"receiver": "r", "study_instance_uid": f"1.{number}", "created_at": 0.0, "due_at": 0.0}
                change.execute(insert(delivery).values(id=number, destination="d", state="waiting", **values))
            retrievals.enter(change, "1.1", (), (), 1.0)
            for by in (A, B):
                assert not nodes.report(change, report_of(by))
        yield opened


def fall_silent(ledger, by: Claimant, seconds: float) -> None:
    with ledger.transaction() as change:
        change.execute(update(node).where(node.c.name == by.node).values(seen=node.c.seen - seconds))


def test_a_node_is_known_by_what_it_reported_and_by_what_its_worker_has_claimed(ledger):
    with ledger.transaction() as change:
        assert deliveries.claim(change, 1, 1.0, A, slots=9)
        assert claims.claim_study(change, "r", "1.1", A)
        assert retrievals.begin(change, 1, A, 1.0)
        a, b = nodes.known(change)
    assert a.report == report_of(A)
    assert (a.in_hand, b.in_hand) == (3, 0)
    assert 0 <= a.seen_seconds < 30


def test_the_clock_is_that_of_the_database(ledger):
    with ledger.reading() as look:
        assert nodes.clock(look) == pytest.approx(time.time(), abs=5), "which runs on this machine"


def test_the_worker_of_a_node_that_drains_claims_nothing_and_the_others_do(ledger):
    with ledger.transaction() as change:
        assert nodes.drain(change, "a", draining=True)
        assert nodes.report(change, report_of(A)), "a report does not end it"
        assert deliveries.claim(change, 1, 1.0, A, slots=9) is None
        assert claims.claim_study(change, "r", "1.1", A) is None
        assert retrievals.begin(change, 1, A, 1.0) is None
        assert deliveries.claim(change, 1, 1.0, B, slots=9)
        assert claims.claim_study(change, "r", "1.1", B)
        assert retrievals.begin(change, 1, B, 1.0)
        assert nodes.drain(change, "a", draining=False)
        assert deliveries.claim(change, 2, 1.0, A, slots=9)
        assert not nodes.drain(change, "c", draining=True), "nobody knows it"


def test_a_node_that_is_silent_is_found_until_it_has_nothing_in_hand_and_was_noted(ledger):
    with ledger.transaction() as change:
        assert deliveries.claim(change, 1, 1.0, A, slots=9)
        assert nodes.silent(change, "b", 30) == []
        assert nodes.lose(change, "a", 30) is None, "it has just reported"
    fall_silent(ledger, A, 31)
    with ledger.transaction() as change:
        assert nodes.silent(change, "b", 30) == ["a"]
        assert nodes.silent(change, "a", 30) == [], "nobody takes over its own work"
        first, second = nodes.lose(change, "a", 30), nodes.lose(change, "a", 30)
        assert first is not None
        assert second is not None
        assert (first.lost_at is None, second.lost_at is None) == (True, False)
        assert nodes.silent(change, "b", 30) == ["a"], "something is in its hand"
        deliveries.resume(change, [1], 1.0)
        assert nodes.silent(change, "b", 30) == []
        nodes.report(change, report_of(A))
        assert nodes.known(change)[0].lost_at is None, "it has come back"


def test_a_worker_that_has_moved_to_another_machine_leaves_no_node_behind(ledger):
    with ledger.transaction() as change:
        nodes.report(change, report_of(Claimant("a", "new-machine")))
        assert [one.report.name for one in nodes.known(change)] == ["b", "new-machine"]
        nodes.forget(change, "b")
        assert [one.report.name for one in nodes.known(change)] == ["new-machine"]
