"""`storestow retry`: a person decides that deliveries are tried again."""

import time

from pipeline import engine
from pipeline.errors import Usage
from pipeline.events import Event, emit
from pipeline.ledger import Ledger, deliveries, reports
from pipeline.model import DeliveryState


def retry(ledger: Ledger, subject: str | None, destination: str | None, *, release_guard: bool) -> list[int]:
    """Make due what is refused, deferred or held of `subject` (None: of everything); return the deliveries.

    Raises Usage if there is nothing to retry.
    """
    states = (DeliveryState.REFUSED, DeliveryState.DEFERRED, DeliveryState.WAITING)
    with ledger.transaction() as connection:
        numbers = reports.deliveries_of(connection, subject, destination, states)
        deliveries.retry(connection, numbers, time.time(), release_guard=release_guard)
        ledger.engine.ring(connection, engine.deliver(destination) if destination else engine.DELIVERIES)
    if not numbers:
        raise Usage(f"nothing of {subject or 'all that is known'} is refused, deferred or held")
    for number in numbers:
        emit(Event.RETRIED, delivery=number, release_guard=release_guard or None)
    return numbers
