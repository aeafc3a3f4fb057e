"""Deliver one consignment: hand it to its destination, and record the response to each instance."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from pipeline.destinations import Destination
from pipeline.dicom.archived_copy import compared
from pipeline.errors import Permanent, StorestowError, Transient
from pipeline.events import Event, alarm
from pipeline.ledger import (
    claims,
    deliveries,
    order_counts,
    orders,
    receipts,
    reports,
    undelivered_instances,
)
from pipeline.ledger.claims import Fenced
from pipeline.ledger.rows import ClaimedDeliveryRow
from pipeline.line import breaker
from pipeline.line.delivery_items import DeliveryItems, burden_of, handed_over
from pipeline.line.known_discs import end_unfinished, of_study
from pipeline.line.redeliver import burden_of_request
from pipeline.model import (
    SEND_VERB,
    Consignment,
    ConsignmentAbout,
    ContentComparison,
    Item,
    Receipt,
)
from pipeline.processes.limits import to_encode
from pipeline.processes.process_pool import PoolProcessDied
from pipeline.site.site import Site

# Seconds of an attempt; what is added later waits for its turn beside other deliveries, and until what was sent is
# looked up: a large study must not be cut in two.
ADDED_WITHIN = 60.0
RECORD_EVERY = 5.0  # Seconds; after a crash the peer is asked again about the receipts of at most this time.


class NotAttempted(Enum):
    """The result for a delivery that was not attempted, or that another worker has taken over."""

    NOT_ATTEMPTED = "not attempted"


NOT_ATTEMPTED = NotAttempted.NOT_ATTEMPTED


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """A delivery that its destination may attempt now."""

    number: int
    destination: Destination


@dataclass(frozen=True, slots=True)
class AttemptedDelivery:
    """A delivery after an attempt, with its row from the beginning, and the error that ended the attempt.

    `handed_over` are the row numbers of the instances in the attempt: others may have been added since.

    `was_asked` says whether the destination was asked anything: if no file could be made, it was not.
    """

    row: ClaimedDeliveryRow
    destination: Destination
    error: StorestowError | None
    handed_over: frozenset[int]
    was_asked: bool


def deliver(due: DueDelivery, site: Site) -> AttemptedDelivery | NotAttempted:
    """Claim and attempt one delivery; return NOT_ATTEMPTED if it cannot be claimed (see `deliveries.claim`)."""
    with site.ledger.step() as connection:
        row = _claimed(connection, due, site)
    if row is None:
        return NOT_ATTEMPTED
    error: StorestowError | None = None
    was_asked = False
    with site.ledger.reading() as connection:
        handed = set(receipts.unanswered(connection, row.id))
    try:
        if due.destination.makes_file and row.order_id is None:
            end_unfinished(row, due.destination, site)
        load = (burden_of_request if row.requested else burden_of)(row, due.destination, site)
        consignment = _consignment_of(row, due.destination, load, site)
        if row.growing:
            consignment = replace(consignment, added=_added(row, due.destination, load, handed, site))
        was_asked = bool(load.items or (row.requested and load.numbers))  # A request has been asked for by now.
        _hand_over(row, due.destination, load, consignment, site)
    except Fenced:
        report_fenced(row)
        return NOT_ATTEMPTED
    except StorestowError as raised:
        error = raised
    except OSError as raised:
        error = Transient(f"a file cannot be read or made now: {raised.strerror}")
    return AttemptedDelivery(row, due.destination, error, frozenset(handed), was_asked)


def _claimed(connection: Connection, due: DueDelivery, site: Site) -> ClaimedDeliveryRow | None:
    """Claim a delivery and return its row, None if it may not start; if the destination is down, as its trial."""
    destination, now = due.destination, time.time()
    noted = reports.destination_row(connection, destination.name)
    row = deliveries.claim(
        connection,
        due.number,
        now,
        site.claimant,
        slots=destination.slots,
        one_a_study=destination.makes_file,
        only_for_orders=not breaker.admits(connection, noted, now),
    )
    if row is not None:
        breaker.start(connection, noted, row.id)
    return row


def report_fenced(row: ClaimedDeliveryRow) -> None:
    """Log that another worker has taken a delivery over; this worker records nothing more of it."""
    about = {"study": row.study_instance_uid, "destination": row.destination, "delivery": row.id}
    alarm(Event.FENCED, what="deliver", **about)


def _consignment_of(
    row: ClaimedDeliveryRow, destination: Destination, load: DeliveryItems, site: Site
) -> Consignment:
    numbers, answers = load.numbers, load.lacking

    def attempt(some: Sequence[Item]) -> None:
        with site.ledger.transaction() as change:
            claims.require_delivery(change, row)
            # Receipts are recorded before more instances are sent: after a power cut these are not sent again.
            receipts.record(change, row.id, answers, time.time())
            receipts.attempt(change, row.id, [numbers[item.key] for item in some if item.key in numbers])
        answers.clear()

    def made(path: Path) -> None:
        with site.ledger.transaction() as change:
            claims.require_delivery(change, row)
            deliveries.made(change, row.id, path, path.stat().st_size)

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
    if destination.makes_file and row.order_id is None:
        consignment = of_study(consignment, load, row, site)
    if destination.makes_file:
        with site.ledger.reading() as look:
            consignment = replace(consignment, set_aside=undelivered_instances.set_aside(look, row))
    return consignment if row.order_id is None else _of_order(consignment, row.order_id, site)


def _added(
    row: ClaimedDeliveryRow, destination: Destination, load: DeliveryItems, handed: set[int], site: Site
) -> Callable[[], Sequence[Item]]:
    """Return the function that adds to `load` what was added to the delivery, and to `handed` its row numbers."""
    until = time.monotonic() + ADDED_WITHIN

    def added() -> Sequence[Item]:
        if time.monotonic() > until:
            return ()
        with site.ledger.reading() as look:
            new = receipts.unanswered(look, row.id) - handed
        if not new:
            return ()
        more = burden_of(row, destination, site, new)
        load.numbers.update(more.numbers)
        load.lacking.update(more.lacking)
        handed.update(more.numbers.values())
        return more.items

    return added


def _hand_over(
    row: ClaimedDeliveryRow, destination: Destination, load: DeliveryItems, consignment: Consignment, site: Site
) -> None:
    """Hand the consignment to its destination and record the receipts as they come."""
    numbers, answers = load.numbers, load.lacking
    recorded = time.monotonic()
    # Not alone: no one else changes these rows.
    unflushed = partial(site.ledger.transaction, flushed=False, alone=False)
    try:
        # An error's traceback would keep it: what it has under way would go on beside the next attempt.
        with closing(handed_over(consignment, load, destination)) as coming:
            for answer in coming:
                answers[numbers[answer.key]] = answer
                # Unrecorded instances would be sent twice after a crash; a made file holds all or nothing.
                if not (destination.asks_first or destination.makes_file):
                    site.ledger.insist(lambda: _record(row, answers, unflushed))
                elif time.monotonic() - recorded > RECORD_EVERY:
                    site.ledger.insist(lambda: _record(row, answers, site.ledger.transaction))
                    recorded = time.monotonic()
    finally:
        site.ledger.insist(lambda: _record(row, answers, site.ledger.step))


def _compared(ours: Path, theirs: Path, site: Site) -> ContentComparison:
    """Compare two files in the pool; raises Permanent if that kills its process, as it would every time."""
    ((_, answer),) = site.pool.each(compared, [(ours, theirs)], lambda pair: to_encode(*pair))
    if isinstance(answer, PoolProcessDied):
        raise Permanent(f"the two cannot be compared: {answer}") from answer
    if isinstance(answer, Exception):
        raise answer
    return answer


def _of_order(consignment: Consignment, number: int, site: Site) -> Consignment:
    """Return the consignment with the facts about its order that a destination may need."""
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


def _record(
    row: ClaimedDeliveryRow,
    answers: dict[int, Receipt],
    transaction: Callable[[], AbstractContextManager[Connection]],
) -> None:
    """Record receipts in a `transaction`."""
    if answers:
        with transaction() as change:
            claims.require_delivery(change, row)
            receipts.record(change, row.id, answers, time.time())
        answers.clear()
