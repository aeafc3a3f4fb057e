"""Who has claimed something is the only one to write about it, until another has taken it over."""

from contextlib import closing

import pytest
from sqlalchemy import insert, select, update
from support.sites import ledger_place

from pipeline.ledger import (
    claims,
    deliveries,
    growing_deliveries,
    instance_rows,
    receipts,
    retrievals,
    waiting_studies,
)
from pipeline.ledger.claims import Claimant, Fenced
from pipeline.ledger.scope import LINE
from pipeline.ledger.tables import arrival, attempt, delivery, instance, receipt, retrieval, study_claim
from pipeline.model import DeliveryState, InstanceKey, InstanceState, Receipt, ReceiptState

pytestmark = pytest.mark.both_databases
HERE, THERE = Claimant("here", "node-a"), Claimant("there", "node-b")
STORED = {1: Receipt(InstanceKey("1.1", "1.1.1", "1.1.1.1"), ReceiptState.STORED, "0x0000", verified=True)}


@pytest.fixture
def ledger(tmp_path):
    opened, _ = ledger_place.opened(tmp_path)
    with closing(opened):
        with opened.transaction() as change:
            about = {"receiver": "r", "state": "processing", "admitted_at": 0.0, "newest_file_at": 0.0}
            change.execute(insert(arrival).values(name="1-r-1", **about))
            ours = {"arrival": "1-r-1", "scope": LINE, "calling_ae_title": "CT", "called_ae_title": "ME"}
            ours |= {"size": 1, "received_sha256": "a", "state": "received", "study_instance_uid": "1.1"}
            ours |= {"series_instance_uid": "1.1.1", "sop_class_uid": "1", "data_set_sha256": "b"}
            ours |= {"transfer_syntax_received": "1.2.840.10008.1.2.1"}
            for number in (1, 2, 3):
                uid = {"sop_instance_uid": f"1.1.1.{number}", "file": f"CT.{number}"}
                change.execute(insert(instance).values(id=number, **ours, **uid))
                values = {"receiver": "r", "study_instance_uid": f"1.{number}", "created_at": 0.0, "due_at": 0.0}
                change.execute(insert(delivery).values(id=number, destination="d", state="waiting", **values))
                pin = {"path": "x", "sha256": "x", "size": 1, "transfer_syntax_uid": "1", "encoding": "none"}
                change.execute(insert(receipt).values(delivery=number, instance=number, state="pending", **pin))
        yield opened


def claim(ledger, number: int, by: Claimant, *, slots: int = 9):
    with ledger.transaction() as change:
        return deliveries.claim(change, number, 1.0, by, slots=slots)


def take_over(ledger, dead: Claimant) -> None:
    """Do what the next start of a worker does with what it had in hand."""
    with ledger.transaction() as change:
        deliveries.resume(change, deliveries.sending(change, dead.worker), 1.0)


def write(ledger, mine, **how: bool) -> None:
    with ledger.transaction(**how) as change:
        claims.require_delivery(change, mine)
        receipts.record(change, mine.id, STORED, 2.0)


def receipt_states(ledger) -> dict[int, str]:
    with ledger.reading() as look:
        return {row[0]: row[1] for row in look.execute(select(receipt.c.delivery, receipt.c.state))}


@pytest.mark.parametrize("how", [{}, {"flushed": False, "alone": False}], ids=["flushed", "unflushed"])
def test_an_attempt_that_was_taken_over_records_nothing_more(how, ledger):
    mine = claim(ledger, 1, HERE)
    take_over(ledger, HERE)
    with pytest.raises(Fenced):
        write(ledger, mine, **how)
    theirs = claim(ledger, 1, THERE)
    with pytest.raises(Fenced):
        write(ledger, mine, **how)
    assert receipt_states(ledger)[1] == "pending"
    write(ledger, theirs, **how)
    assert receipt_states(ledger)[1] == "stored"
    with ledger.reading() as look:
        nodes = look.execute(select(attempt.c.number, attempt.c.node).order_by(attempt.c.number)).all()
    assert [tuple(row) for row in nodes] == [(1, "node-a"), (2, "node-b")]


@pytest.mark.parametrize("ending", ["finish", "goes_on"])
def test_an_attempt_that_has_ended_is_nobodys(ending, ledger):
    mine = claim(ledger, 1, HERE)
    with ledger.transaction() as change:
        if ending == "finish":
            deliveries.finish(change, 1, DeliveryState.DEFERRED, "no", due_at=9.0)
        else:
            change.execute(update(delivery).where(delivery.c.id == 1).values(growing=True))
            assert growing_deliveries.goes_on(change, 1, frozenset({1}), 1.0)
    with pytest.raises(Fenced):
        write(ledger, mine)


def test_a_restart_takes_back_what_this_worker_had_and_what_an_older_release_had(ledger):
    claim(ledger, 1, HERE)
    claim(ledger, 2, THERE)
    with ledger.transaction() as change:
        change.execute(update(delivery).where(delivery.c.id == 3).values(state="sending"))
        assert deliveries.sending(change, HERE.worker) == {1, 3}
        assert deliveries.sending(change) == {1, 2, 3}
    take_over(ledger, HERE)
    with ledger.reading() as look:
        assert deliveries.sending(look) == {2}, "the other one lives"


def test_no_more_deliveries_are_in_hand_than_the_destination_takes_whoever_has_them(ledger):
    assert claim(ledger, 1, HERE, slots=2)
    assert claim(ledger, 2, THERE, slots=2)
    assert claim(ledger, 3, THERE, slots=2) is None
    with ledger.transaction() as change:
        assert deliveries.in_hand(change, "d", except_of=HERE.worker) == 1
        deliveries.finish(change, 1, DeliveryState.DELIVERED, None)
    assert claim(ledger, 3, THERE, slots=2)


def test_while_a_destination_is_down_orders_alone_are_claimed(ledger):
    with ledger.transaction() as change:
        assert deliveries.claim(change, 1, 1.0, HERE, slots=9, only_for_orders=True) is None


def claim_study(ledger, by: Claimant) -> str | None:
    with ledger.transaction(flushed=False, alone=False) as change:
        return claims.claim_study(change, "r", "1.1", by)


def test_a_study_is_prepared_by_one_worker_and_may_be_begun_again_by_the_same(ledger):
    first = claim_study(ledger, HERE)
    assert first
    assert claim_study(ledger, THERE) is None
    again = claim_study(ledger, HERE)
    assert again not in {None, first}, "what it had before is of a job that has ended"
    with ledger.transaction() as change:
        with pytest.raises(Fenced):
            claims.require_study(change, first)
        claims.require_study(change, again)
        assert claims.studies_of_others(change, HERE.worker) == set()
        assert claims.studies_of_others(change, THERE.worker) == {("r", "1.1")}
        claims.release_study(change, first)
        assert change.execute(select(study_claim)).all(), "the older token releases nothing"
        claims.release_study(change, again)
    assert claim_study(ledger, THERE)


def test_what_was_consigned_meanwhile_is_not_consigned_again(ledger):
    with ledger.transaction() as change:
        waiting_studies.require_not_consigned(change, [1, 2])
        instance_rows.change_row(change, 2, {"state": InstanceState.PASSED, "consigned": True})
        with pytest.raises(Fenced):
            waiting_studies.require_not_consigned(change, [1, 2])


def test_a_retrieval_is_begun_by_one_and_followed_by_nobody_else(ledger):
    with ledger.transaction() as change:
        number = retrievals.enter(change, "1.1", (), [], 1.0)
        mine = retrievals.begin(change, number, HERE, 2.0)
        assert retrievals.begin(change, number, THERE, 2.0) is None
        retrievals.change_claimed(change, mine, completed=1)
        change.execute(update(retrieval).values(claim="another"))
        with pytest.raises(Fenced):
            retrievals.change_claimed(change, mine, completed=2)
        assert retrievals.row(change, number).completed == 1
