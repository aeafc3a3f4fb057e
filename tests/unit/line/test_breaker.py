"""The circuit breaker is rows: several processes see one, and try a dead peer once at a time."""

from contextlib import closing

import pytest
from sqlalchemy import insert, update
from support.sites import ledger_place

from pipeline.errors import PeerUnavailable
from pipeline.ledger import deliveries, destination_states, reports
from pipeline.ledger.claims import Claimant
from pipeline.ledger.tables import delivery
from pipeline.line import breaker
from pipeline.model import DeliveryState

pytestmark = pytest.mark.both_databases
REFUSED = PeerUnavailable("connection refused")


@pytest.fixture
def ledger(tmp_path):
    opened, _ = ledger_place.opened(tmp_path)
    with closing(opened):
        with opened.transaction() as change:
            for number in (1, 2, 3):
                values = {"receiver": "r", "study_instance_uid": f"1.{number}", "created_at": 0.0, "due_at": 0.0}
                change.execute(insert(delivery).values(id=number, destination="d", state="waiting", **values))
        yield opened


def admits(ledger, now: float) -> bool:
    with ledger.reading() as look:
        return breaker.admits(look, reports.destination_row(look, "d"), now)


def start(ledger, number: int, now: float) -> None:
    with ledger.transaction() as change:
        noted = reports.destination_row(change, "d")
        assert deliveries.claim(change, number, now, Claimant(), slots=9)
        breaker.start(change, noted, number)


def failed(ledger, number: int, now: float) -> bool:
    with ledger.transaction() as change:
        deliveries.finish(change, number, DeliveryState.DEFERRED, "refused", due_at=now + 5)
        return breaker.failed(change, "d", REFUSED, now)


def test_a_dead_peer_is_tried_by_one_delivery_at_a_time(ledger):
    start(ledger, 1, 0)
    assert failed(ledger, 1, now=0)
    assert not admits(ledger, now=1)
    assert admits(ledger, now=10)
    start(ledger, 2, 10)
    assert not admits(ledger, now=10), "another process sees the trial, too"
    with ledger.transaction() as change:
        deliveries.finish(change, 2, DeliveryState.DELIVERED, None)
        assert breaker.succeeded(change, "d", 11)
        assert not breaker.succeeded(change, "d", 11), "that is no news"
    assert admits(ledger, now=11)
    with ledger.reading() as look:
        assert deliveries.due(look, "d", 11) == [1, 3], "what had been put off is due"


def test_a_trial_that_failed_makes_the_next_one_later(ledger):
    start(ledger, 1, 0)
    failed(ledger, 1, now=0)
    start(ledger, 2, 100)
    assert not failed(ledger, 2, now=100)
    assert not admits(ledger, now=149)
    assert admits(ledger, now=150)


def test_a_clock_set_back_does_not_keep_a_dead_peer_from_being_tried(ledger):
    start(ledger, 1, 1e9)
    failed(ledger, 1, now=1e9)
    assert not admits(ledger, now=1e9 + 1)
    assert admits(ledger, now=1e9 - 86400)


def test_the_trial_of_a_worker_that_died_is_over_when_its_delivery_is_taken_back(ledger):
    start(ledger, 1, 0)
    failed(ledger, 1, now=0)
    start(ledger, 2, 10)
    assert not admits(ledger, now=10)
    with ledger.transaction() as change:
        deliveries.resume(change, deliveries.sending(change, Claimant().worker), 10)
    assert admits(ledger, now=10)


def test_a_delivery_for_an_order_that_goes_anyhow_takes_no_trial_away(ledger):
    start(ledger, 1, 0)
    failed(ledger, 1, now=0)
    start(ledger, 2, 10)
    start(ledger, 3, 10)
    with ledger.transaction() as change:
        deliveries.finish(change, 3, DeliveryState.REFUSED, "refused")
    assert not admits(ledger, now=10), "the trial goes on"


def test_a_start_of_the_worker_tries_a_dead_peer_at_once(ledger):
    start(ledger, 1, 0)
    failed(ledger, 1, now=1e9)
    assert not admits(ledger, now=1e9 + 1)
    with ledger.transaction() as change:
        destination_states.try_soon(change)
    assert admits(ledger, now=1e9 + 1)


def test_a_paused_destination_keeps_the_reason_that_a_person_gave(ledger):
    with ledger.transaction() as change:
        destination_states.change_row(change, "d", paused=True, reason="no paper")
        change.execute(update(delivery).values(state="sending"))
        assert breaker.failed(change, "d", REFUSED, 0)
        row = reports.destination_row(change, "d")
        assert (row.reason, row.down_since) == ("no paper", 0)
        assert breaker.succeeded(change, "d", 1)
        row = reports.destination_row(change, "d")
        assert (row.reason, row.down_since, row.try_at) == ("no paper", None, None)
