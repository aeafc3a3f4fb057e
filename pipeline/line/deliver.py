"""Despatch: one delivery of one consignment to one destination, from claim to verdict.

What the destination yields is written down; what it raises decides what happens next (errors.py). Exit codes
and HTTP statuses prove nothing: a delivery is delivered when every receipt says so.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from pipeline import schedule
from pipeline.destinations import Destination
from pipeline.dicom.archived_copy import compared
from pipeline.disc.errors import SeveralPatients
from pipeline.errors import Configuration, PeerUnavailable, Permanent, StorestowError, Transient
from pipeline.events import Event, emit
from pipeline.ledger import (
    deliveries,
    missing_from_disc,
    order_counts,
    orders,
    redeliveries,
    undelivered_instances,
)
from pipeline.ledger.rows import ClaimedDeliveryRow, DeliveryRow
from pipeline.line import settle
from pipeline.line.delivery_items import burden_of, handed_over
from pipeline.line.known_discs import end_unfinished, of_study
from pipeline.line.redeliver import burden_of_request
from pipeline.model import (
    ARRIVED,
    SEND_VERB,
    Consignment,
    ConsignmentAbout,
    ContentComparison,
    DeliveryState,
    Item,
    OrderError,
    Receipt,
    ReceiptState,
)
from pipeline.processes.limits import to_encode
from pipeline.processes.process_pool import PoolProcessDied
from pipeline.site.site import Site
from pipeline.waypoints import reached

ATTEMPTS_FOR_AN_ORDER = 3
RECORD_EVERY = 5.0  # seconds: what a crash may make us ask the peer about again


def despatch(number: int, destination: Destination, site: Site) -> StorestowError | None:
    """Attempt one delivery and write down what came of it.

    Returns the error that speaks of the peer as a whole, for the circuit breaker; None where the peer could be
    worked with, whatever it said of single instances.
    """
    with site.ledger.transaction() as change:
        row = deliveries.claim(change, number, time.time(), one_a_study=destination.makes_file)
    if row is None:
        return None
    reached("claimed")
    error: StorestowError | None = None
    try:
        _attempt(row, destination, site)
    except StorestowError as raised:
        error = raised
    reached("attempted")
    _conclude(row, error, destination, site)
    settle.renew_accounts(number, site)
    return error if isinstance(error, PeerUnavailable) else None


def _attempt(row: DeliveryRow, destination: Destination, site: Site) -> None:
    """Hand the consignment to its destination and record the receipts as they come."""
    is_study_disc = destination.makes_file and row.order_id is None
    if is_study_disc:
        end_unfinished(row, destination, site)
    load = (burden_of_request if row.requested else burden_of)(row, destination, site)
    numbers, answers = load.numbers, load.lacking

    def attempt(some: Sequence[Item]) -> None:
        with site.ledger.transaction() as change:
            # What has been answered goes along, before more leaves: after a power cut it is not sent again.
            deliveries.record(change, row.id, answers, time.time())
            deliveries.attempt(change, row.id, [numbers[item.key] for item in some if item.key in numbers])
        answers.clear()
        reached("deliver-attempt")

    def made(path: Path) -> None:
        with site.ledger.transaction() as change:
            deliveries.made(change, row.id, path, path.stat().st_size)
        reached("deliver-made")

    consignment = Consignment(
        row.id,
        row.study_instance_uid,
        tuple(load.items),
        attempt,
        row.guard_released,
        made=made,
        compare=lambda ours, theirs: _compared(ours, theirs, site),
        scratch=site.spool.run,
    )
    if is_study_disc:
        consignment = of_study(consignment, load, row, site)
    if destination.makes_file:
        with site.ledger.reading() as look:
            consignment = replace(
                consignment, set_aside=missing_from_disc.beside(look, undelivered_instances.all_of(look, row))
            )
    if row.order_id is not None:
        consignment = _of_order(consignment, row.order_id, site)
    recorded = time.monotonic()
    try:
        for answer in handed_over(consignment, load, destination):
            answers[numbers[answer.key]] = answer
            reached("deliver-receipt")
            if not destination.asks_first:  # whatever is not written now would be sent twice after a crash
                _record(row, answers, site, flushed=False)
            elif time.monotonic() - recorded > RECORD_EVERY:
                _record(row, answers, site)
                recorded = time.monotonic()
    finally:
        _record(row, answers, site)


def _compared(ours: Path, theirs: Path, site: Site) -> ContentComparison:
    """Compare in the pool; raises Permanent where that kills its process: nobody will ever compare them."""
    ((_, answer),) = site.pool.each(compared, [(ours, theirs)], lambda pair: to_encode(*pair))
    if isinstance(answer, PoolProcessDied):
        raise Permanent(f"the two cannot be compared: {answer}") from answer
    if isinstance(answer, Exception):
        raise answer
    return answer


def _of_order(consignment: Consignment, number: int, site: Site) -> Consignment:
    """Return the consignment with what a destination may want to know of the order it is for."""
    with site.ledger.reading() as look:
        order = orders.row(look, number)
        assert order is not None
        counts = order_counts.counts(look, order)
    about = ConsignmentAbout(
        order=number,
        accessions=tuple(one for one in order.accessions if one not in order.missing),
        expected=max(counts.expected or 0, counts.received),
        received=counts.received,
        missing=tuple(order.missing),
        container=order.container,
        modalities=tuple(order.modalities),
        counted=counts.counted,
        identity_allowed=order.identity_allowed if (order.identity or {}).get("differing") else None,
    )
    return replace(consignment, about=about, again=order.again and order.verb == SEND_VERB)


def _record(row: DeliveryRow, answers: dict[int, Receipt], site: Site, *, flushed: bool = True) -> None:
    if answers:
        with site.ledger.transaction(flushed=flushed) as change:
            deliveries.record(change, row.id, answers, time.time())
        answers.clear()


def _conclude(row: ClaimedDeliveryRow, error: StorestowError | None, destination: Destination, site: Site) -> None:
    """Write down where the delivery stands now."""
    now = time.time()
    with site.ledger.transaction() as change:
        counts = deliveries.tally(change, row.id)
        state, reason = verdict(counts, error, has_given_up=_has_given_up(row, error, now, site))
        more: dict[str, Any] = {"finished_at": now}
        if state == DeliveryState.DEFERRED:
            more = {"due_at": schedule.next_attempt(now, row.first_attempt_at, _retry_after(error))}
        deliveries.finish(change, row.id, state, reason, **more)
        request = _ended(change, row, state) if row.requested else None
        if row.order_id is not None and state == DeliveryState.REFUSED:
            kind = error_of(counts, error, destination)
            orders.change_row(change, row.order_id, error_kind=kind)
    reached("concluded")
    if request:
        _say_of_request(row, request)
    if not request or request.sent or state != DeliveryState.DELIVERED:
        unwanted = request.unwanted if request else None
        _say(row, state, unwanted or reason, counts, is_expected=bool(unwanted))


def _say_of_request(row: DeliveryRow, request: redeliveries.EndedRequest) -> None:
    about = {"study": row.study_instance_uid, "destination": row.destination, "delivery": row.id}
    emit(Event.ASKED_AGAIN, **about, sent=request.sent)


def _ended(change: Connection, row: DeliveryRow, state: DeliveryState) -> redeliveries.EndedRequest | None:
    """End a request where it has come to an end; what it had nothing to do for is forgotten."""
    if state not in {DeliveryState.DELIVERED, DeliveryState.REFUSED}:
        return None
    return redeliveries.close_request(change, row.id)


def _has_given_up(row: ClaimedDeliveryRow, error: StorestowError | None, now: float, site: Site) -> bool:
    """Tell whether to try no more. Somebody waits for an order: it fails soon, and asking again is theirs."""
    if row.order_id is not None:
        return row.attempts >= ATTEMPTS_FOR_AN_ORDER or isinstance(error, PeerUnavailable | Configuration)
    give_up_after = site.settings.site.give_up_after.total_seconds()
    return schedule.has_given_up(now, row.first_attempt_at, row.attempts, give_up_after)


def _retry_after(error: StorestowError | None) -> float | None:
    return error.retry_after_seconds if isinstance(error, Transient) else None


def error_of(counts: dict[str, int], error: StorestowError | None, destination: Destination) -> OrderError:
    """Return what a refused delivery means for its order; pure."""
    if destination.makes_file:
        return OrderError.MORE_THAN_ONE_PATIENT if isinstance(error, SeveralPatients) else OrderError.DISC_FAILED
    if any(counts.get(state) for state in ARRIVED):
        return OrderError.RELAY_INCOMPLETE
    return OrderError.PUBLISHER_UNREACHABLE if isinstance(error, PeerUnavailable) else OrderError.RELAY_FAILED


def verdict(
    counts: dict[str, int], error: StorestowError | None, *, has_given_up: bool
) -> tuple[DeliveryState, str | None]:
    """Return where a delivery stands after an attempt, and why; pure.

    `counts` are its receipts by state, "unanswered" those it cannot end with. Delivered means that every
    instance has arrived and was verified, but for what was there before and could not be compared.
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
    """Say how a delivery stands; a refusal that `is_expected` is for nobody to mend."""
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
