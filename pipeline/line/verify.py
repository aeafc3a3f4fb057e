"""Verify a delivery: decide its state after an attempt, by its receipts alone.

Exit codes and HTTP statuses prove nothing: a delivery is delivered when every receipt says so. The error that the
destination raised decides about instances without a final receipt (errors.py).
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from pipeline import schedule
from pipeline.destinations import Destination
from pipeline.disc.errors import SeveralPatients
from pipeline.errors import Configuration, PeerUnavailable, Permanent, StorestowError, Transient
from pipeline.events import Event, alarm, emit
from pipeline.ledger import attempts, claims, deliveries, growing_deliveries, orders, receipts, redeliveries
from pipeline.ledger.claims import Fenced
from pipeline.ledger.rows import ClaimedDeliveryRow, DeliveryRow
from pipeline.line import breaker, settle
from pipeline.line.deliver import NOT_ATTEMPTED, AttemptedDelivery, NotAttempted, report_fenced
from pipeline.model import ARRIVED, DeliveryState, OrderError, ReceiptState
from pipeline.site.site import Site

ATTEMPTS_FOR_AN_ORDER = 3


def verify(
    attempted: AttemptedDelivery | NotAttempted, site: Site, look_at_order: Callable[[int], None] = lambda _: None
) -> StorestowError | NotAttempted | None:
    """Count the receipts, and record whether and how the delivery has ended, and whether its destination answers.

    Returns the error that concerns the peer as a whole; None if the peer worked, also if it refused instances; and
    NOT_ATTEMPTED if the peer was not asked, or if another worker has taken the delivery over: then nothing is
    recorded. `look_at_order` is called with the number of the delivery's order once that is recorded.
    """
    if attempted is NOT_ATTEMPTED:
        return NOT_ATTEMPTED
    try:
        site.ledger.insist(lambda: _conclude(attempted, site))
    except Fenced:
        if not _is_concluded(attempted.row, site):
            report_fenced(attempted.row)
            return NOT_ATTEMPTED
    if attempted.row.order_id is not None:
        look_at_order(attempted.row.order_id)
    settle.renew_accounts(attempted.row.id, site)
    if isinstance(attempted.error, PeerUnavailable):
        return attempted.error
    return None if attempted.was_asked else NOT_ATTEMPTED


def _conclude(attempted: AttemptedDelivery, site: Site) -> None:
    """Record the state of the delivery, or that it continues with instances that were added meanwhile."""
    row, error, destination = attempted.row, attempted.error, attempted.destination
    now = time.time()
    request = None
    with site.ledger.transaction() as change:
        claims.require_delivery(change, row)
        # In the transaction that ends the trial, so that no worker begins another trial in between.
        is_news = _judge_peer(change, attempted, now)
        goes_on = error is None and growing_deliveries.goes_on(change, row.id, attempted.handed_over, now)
        if not goes_on:
            counts = receipts.tally(change, row.id)
            state, reason = verdict(counts, error, has_given_up=_has_given_up(row, error, now, site))
            more: dict[str, Any] = {"finished_at": now}
            if state == DeliveryState.DEFERRED:
                more = {"due_at": schedule.next_attempt(now, row.first_attempt_at, _retry_after(error))}
            deliveries.finish(change, row.id, state, reason, **more)
            request = _ended(change, row, state) if row.requested else None
            if row.order_id is not None and state == DeliveryState.REFUSED:
                kind = error_of(counts, error, destination)
                orders.change_row(change, row.order_id, error_kind=kind)
    if is_news:
        _say_of_peer(destination, error)
    if goes_on:
        return
    if request:
        _say_of_request(row, request)
    if not request or request.sent or state != DeliveryState.DELIVERED:
        unwanted = request.unwanted if request else None
        _say(row, state, unwanted or reason, counts, is_expected=bool(unwanted))


def _is_concluded(row: ClaimedDeliveryRow, site: Site) -> bool:
    """Tell whether the end of this very attempt is recorded: the connection was lost before the server said so."""
    with site.ledger.reading() as look:
        return attempts.has_ended(look, row.id, row.attempts)


def _judge_peer(change: Connection, attempted: AttemptedDelivery, now: float) -> bool:
    """Record whether the destination as a whole works; return whether that has changed.

    If the destination was not asked, nothing is known: a trial ends without a verdict, and another one may begin.
    """
    name, error = attempted.destination.name, attempted.error
    if isinstance(error, PeerUnavailable):
        return breaker.failed(change, name, error, now)
    return attempted.was_asked and breaker.succeeded(change, name, now)


def _say_of_peer(destination: Destination, error: StorestowError | None) -> None:
    if isinstance(error, PeerUnavailable):
        alarm(Event.PEER_DOWN, destination=destination.name, reason=error)
    else:
        emit(Event.PEER_UP, destination=destination.name)


def _say_of_request(row: DeliveryRow, request: redeliveries.EndedRequest) -> None:
    about = {"study": row.study_instance_uid, "destination": row.destination, "delivery": row.id}
    emit(Event.ASKED_AGAIN, **about, sent=request.sent)


def _ended(change: Connection, row: DeliveryRow, state: DeliveryState) -> redeliveries.EndedRequest | None:
    """Close a request if its delivery has ended, and delete the part of it for which nothing had to be sent."""
    if state not in {DeliveryState.DELIVERED, DeliveryState.REFUSED}:
        return None
    return redeliveries.close_request(change, row.id)


def _has_given_up(row: ClaimedDeliveryRow, error: StorestowError | None, now: float, site: Site) -> bool:
    """Tell whether to stop trying; an order fails soon, because a person waits for it and can ask again."""
    if row.order_id is not None:
        return row.attempts >= ATTEMPTS_FOR_AN_ORDER or isinstance(error, PeerUnavailable | Configuration)
    give_up_after = site.settings.site.give_up_after.total_seconds()
    return schedule.has_given_up(now, row.first_attempt_at, row.attempts, give_up_after)


def _retry_after(error: StorestowError | None) -> float | None:
    return error.retry_after_seconds if isinstance(error, Transient) else None


def error_of(counts: dict[str, int], error: StorestowError | None, destination: Destination) -> OrderError:
    """Return the error of an order whose delivery was refused; a pure function."""
    if destination.makes_file:
        return OrderError.MORE_THAN_ONE_PATIENT if isinstance(error, SeveralPatients) else OrderError.DISC_FAILED
    if any(counts.get(state) for state in ARRIVED):
        return OrderError.RELAY_INCOMPLETE
    return OrderError.PUBLISHER_UNREACHABLE if isinstance(error, PeerUnavailable) else OrderError.RELAY_FAILED


def verdict(
    counts: dict[str, int], error: StorestowError | None, *, has_given_up: bool
) -> tuple[DeliveryState, str | None]:
    """Return the state of a delivery after an attempt, and the reason; a pure function.

    `counts` has the number of receipts by state, and as "unanswered" the number of those that are not final.
    Delivered means that every instance has arrived and was verified, except instances that somebody else had
    stored and that could not be compared.
    """
    refused = counts.get(ReceiptState.REFUSED, 0)
    unanswered = counts["unanswered"]
    instances = sum(counts.get(state, 0) for state in ReceiptState)
    if isinstance(error, Permanent):
        return DeliveryState.REFUSED, str(error)
    if unanswered:
        reason = str(error) if error else f"{unanswered} of {instances} instances are without an answer"
        if has_given_up:
            return DeliveryState.REFUSED, f"given up: {reason}"
        return DeliveryState.DEFERRED, reason
    if refused:
        return DeliveryState.REFUSED, f"{refused} of {instances} instances were refused"
    return DeliveryState.DELIVERED, None


def _say(
    row: DeliveryRow, state: DeliveryState, reason: str | None, counts: dict[str, int], *, is_expected: bool
) -> None:
    """Log the state of a delivery; a refusal that `is_expected` needs no correction."""
    about: dict[str, object] = {
        "study": row.study_instance_uid,
        "destination": row.destination,
        "delivery": row.id,
    }
    about |= {str(key): count for key, count in sorted(counts.items()) if count}
    if state == DeliveryState.DELIVERED:
        emit(Event.DELIVERED, logging.WARNING if counts["not_compared"] else logging.INFO, **about)
        if not counts["not_compared"]:
            emit(Event.VERIFIED, **about)
    elif state == DeliveryState.DEFERRED:
        emit(Event.DEFERRED, **about, reason=reason)
    else:
        emit(Event.REFUSED, logging.INFO if is_expected else logging.ERROR, **about, reason=reason)
