"""End orders: decide how an order ends, or let a person decide it (`storestow cancel`), record it and log it."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from pipeline import engine
from pipeline.errors import Transient, Usage
from pipeline.events import Event, alarm, emit
from pipeline.ledger import Ledger, deliveries, given_files, orders, tallies
from pipeline.ledger.rows import OrderRow
from pipeline.ledger.tallies import TallyKind
from pipeline.model import DeliveryState, OrderError, OrderStage, OrderState
from pipeline.orders.compare_sources import Findings, sentence
from pipeline.site.reason import reason_of
from pipeline.site.site import Site

Shortage = tuple[OrderError, str | None]
IN_HAND = (DeliveryState.SENDING,)


@dataclass(frozen=True, slots=True)
class OrderEnding:
    """The functions that decide how an order of one kind ends.

    `out_of_time` is the error of an order that times out before it has a delivery. `shortage` tells what an order
    lacks although its delivery is complete, `awaited` why an order has no delivery yet.
    """

    out_of_time: OrderError
    shortage: Callable[[Connection, OrderRow], Shortage | None]
    awaited: Callable[[Connection, OrderRow], str | None] = lambda _connection, _order: None


def is_at_its_end(order: OrderRow, ending: OrderEnding, site: Site, now: float, since: float) -> bool:
    """End an order that has timed out, or whose delivery has ended; return whether no other step of it is due.

    `now` and `since` are in seconds since the epoch. `since` is when the worker started: the time in which no
    worker ran does not count.
    """
    limit = site.settings.shim.order_timeout.total_seconds()
    placed = order.created_at if order.created_at <= now else since  # Otherwise the clock was set back.
    if now - max(placed, since) > limit:
        _run_out(order, ending, site)
        return True
    if order.stage == OrderStage.DELIVERING:
        _conclude(order.id, ending, site)
        return True
    return False


def _conclude(number: int, ending: OrderEnding, site: Site) -> None:
    """End an order whose delivery has ended, or which needs none because everything was sent before."""
    with site.ledger.reading() as connection:
        order = orders.one(connection, number)  # This row includes what its delivery has recorded at its end.
        delivery = orders.delivery_of(connection, number)
        shortage = ending.shortage(connection, order)
    if delivery is not None and delivery.state == DeliveryState.REFUSED:
        kind = order.error_kind or OrderError.RELAY_FAILED
        state = OrderState.PARTIAL if kind == OrderError.RELAY_INCOMPLETE else OrderState.FAILED
        end(number, state, site, kind, delivery.reason)
    elif delivery is not None and delivery.state != DeliveryState.DELIVERED:
        return
    elif shortage:
        end(number, OrderState.PARTIAL, site, *shortage)
    else:
        end(number, OrderState.DONE, site)


def _run_out(order: OrderRow, ending: OrderEnding, site: Site) -> None:
    """End an order that has timed out; if its delivery is running, a later look ends it, with the result."""
    limit = site.settings.shim.order_timeout.total_seconds()
    with site.ledger.transaction() as connection:
        delivery, awaited = orders.delivery_of(connection, order.id), ending.awaited(connection, order)
        if delivery is not None and delivery.state in deliveries.OPEN:
            reason = f"not delivered within {limit:g} s: {delivery.reason or 'its turn has not come'}"
            deliveries.finish(connection, delivery.id, DeliveryState.REFUSED, reason)
    if delivery is None:
        why = "" if awaited is None else f": {awaited}"
        end(order.id, OrderState.FAILED, site, ending.out_of_time, f"not finished within {limit:g} s{why}")
    else:
        _conclude(order.id, ending, site)


def end(
    number: int, state: OrderState, site: Site, error: OrderError | None = None, detail: str | None = None
) -> None:
    """Record and log how an order ended, and why; an order that has ended before stays unchanged."""
    with site.ledger.transaction() as connection:
        has_ended = end_within(connection, number, state, error, detail)
    site.pacs_patients.pop(number, None)
    if has_ended:
        say(number, state, error, detail)


def end_within(
    connection: Connection, number: int, state: OrderState, error: OrderError | None, detail: str | None
) -> bool:
    """End an order in the caller's transaction and return whether it was open; the caller logs it by `say`."""
    row = orders.row(connection, number)
    if row is None or row.state != OrderState.OPEN:
        return False
    now = time.time()
    orders.change_row(
        connection,
        number,
        state=state,
        stage=OrderStage.ENDED,
        error_kind=error,
        detail=detail,
        ended_at=now,
        last_progress_at=now,
    )
    tallies.add(connection, now, TallyKind.ORDER, row.destination, str(error or state))
    given_files.leave(connection, number, now)
    return True


def end_of_several_patients(number: int, findings: Findings, what: str, site: Site) -> None:
    """End an order whose sources contradict each other; `what` says what was therefore not done."""
    detail = f"{sentence(findings)}; {what}"
    alarm(Event.IDENTITY_DIFFERS, order=number, **_about(findings))
    end(number, OrderState.FAILED, site, OrderError.MORE_THAN_ONE_PATIENT, detail)


def say_let_through(number: int, findings: Findings) -> None:
    """Log that a person has accepted a difference between sources."""
    emit(Event.IDENTITY_DIFFERS, logging.WARNING, order=number, **_about(findings), identity="allowed")


def _about(findings: Findings) -> dict[str, str]:
    between = {"-".join(difference.between) for difference in findings.differing}
    attributes = {str(attribute) for difference in findings.differing for attribute in difference.attributes}
    return {"between": ",".join(sorted(between)), "attributes": ",".join(sorted(attributes))}


def say(number: int, state: OrderState, error: OrderError | None, detail: str | None) -> None:
    """Log the end of an order."""
    level = logging.INFO if state == OrderState.DONE else logging.WARNING
    emit(Event.ORDER_ENDED, level, order=number, state=state, error=error, reason=detail)


class DeliveryRunning(Transient):
    """Say that an order cannot be cancelled now, because its delivery is running."""


def cancel(ledger: Ledger, number: int, reason: str) -> None:
    """End the open order `number` as failed, with `reason`; undelivered instances are not sent.

    Instances that the PACS still sends for it are received and kept as for other orders, but not delivered.

    Raises:
        Usage: there is no such order, it has ended, or the reason has not 3 to 200 characters.
        DeliveryRunning: its delivery is running, so that the result is unknown; try again later.
    """
    detail = f"cancelled by a person: {reason_of(reason, 'why nobody needs this any more')}"
    with ledger.transaction() as connection:
        row = orders.row(connection, number)
        if row is None:
            raise Usage(f"there is no order {number}")
        if row.state != OrderState.OPEN:
            raise Usage(f"order {number} has ended: {row.state}")
        delivery = orders.delivery_of(connection, number)
        if delivery is not None and delivery.state in IN_HAND:
            where = delivery.destination
            raise DeliveryRunning(f"order {number} is being sent to {where} just now; try again later")
        if delivery is not None and delivery.state in deliveries.OPEN:
            deliveries.finish(connection, delivery.id, DeliveryState.REFUSED, detail)
        end_within(connection, number, OrderState.FAILED, OrderError.CANCELLED, detail)
        ledger.engine.ring(connection, engine.ORDERS)
    say(number, OrderState.FAILED, OrderError.CANCELLED, None)
