"""A person ends an order that nobody needs any more, and lists those there are."""

import pytest
from support.sites.line_site import states
from support.sites.placed_orders import look, order, waiting_order

from pipeline.errors import Usage
from pipeline.ledger import destination_states, orders
from pipeline.ledger.tables import delivery
from pipeline.model import OrderError, OrderState
from pipeline.orders import list_orders
from pipeline.orders.finish import DeliveryRunning, cancel, end

WHY = "asked for by mistake"


def delivering(site, state: str) -> int:
    number, _ = waiting_order(site)
    with site.ledger.transaction() as connection:
        destination_states.change_row(connection, "nowhere", paused=True, reason="no paper")
        row = {"destination": "nowhere", "receiver": "", "study_instance_uid": "1.2.3", "order_id": number}
        connection.execute(delivery.insert().values(**row, state=state, created_at=0.0, due_at=0.0))
        orders.change_row(connection, number, stage="delivering")
    return number


def test_a_cancelled_order_has_ended_says_why_and_is_shared_with_nobody(site_and_worker):
    site, worker = site_and_worker
    number = order(site, "A1").order_id
    cancel(site.ledger, number, WHY)
    ended = look(site, number)
    assert (ended.state, ended.error_kind) == (OrderState.FAILED, OrderError.CANCELLED)
    assert ended.detail == f"cancelled by a person: {WHY}"
    worker.round()
    assert look(site, number).detail == ended.detail
    assert order(site, "A1").is_new


def test_what_waits_for_the_destination_of_a_cancelled_order_is_not_sent(site):
    number = delivering(site, "waiting")
    cancel(site.ledger, number, WHY)
    assert states(site, "deliveries") == {"refused": 1}


def test_what_a_destination_has_in_hand_is_not_cancelled(site):
    number = delivering(site, "sending")
    with pytest.raises(DeliveryRunning, match="being sent to nowhere just now"):
        cancel(site.ledger, number, WHY)
    assert look(site, number).state == OrderState.OPEN


def test_only_an_open_order_can_be_cancelled_and_not_without_a_reason(site):
    number = order(site, "A1").order_id
    with pytest.raises(Usage, match="no order 77"):
        cancel(site.ledger, 77, WHY)
    with pytest.raises(Usage, match="3 to 200 characters"):
        cancel(site.ledger, number, " ")
    end(number, OrderState.DONE, site)
    with pytest.raises(Usage, match="has ended: done"):
        cancel(site.ledger, number, WHY)


def test_orders_are_listed_the_newest_first_and_the_open_ones_alone_if_so_wished(site):
    numbers = [order(site, accession).order_id for accession in ("A1", "A2", "A3")]
    end(numbers[1], OrderState.DONE, site)
    everything = list_orders(site.ledger, at_most=10)["orders"]
    assert [found["id"] for found in everything] == numbers[::-1]
    assert [found["id"] for found in list_orders(site.ledger, at_most=1)["orders"]] == numbers[-1:]
    still_open = list_orders(site.ledger, at_most=10, only_open=True)["orders"]
    assert [found["accessions"] for found in still_open] == [["A3"], ["A1"]]
