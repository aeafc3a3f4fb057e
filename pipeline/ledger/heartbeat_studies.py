"""The last heartbeat study: when it was sent, and when it was verified at every destination of its receiver."""

import json
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from pipeline.ledger import notes
from pipeline.ledger.tables import delivery
from pipeline.model import DeliveryState

_KEY = "heartbeat-study"


class SentStudy(NamedTuple):
    """One heartbeat study; times are seconds since the epoch, `seconds` what the last verified one took."""

    study_instance_uid: str
    sent_at: float
    verified_at: float | None = None
    is_missed: bool = False  # it, or one before it since the last verified one, was late
    seconds: float | None = None


def read(connection: Connection) -> SentStudy | None:
    """Return the last one, None where none was ever sent."""
    text = notes.read(connection, _KEY)
    return None if text is None else SentStudy(*json.loads(text))


def write(connection: Connection, study: SentStudy) -> None:
    """Put `study` in the place of the one that is known."""
    notes.write(connection, _KEY, json.dumps(study))


def verified_at(connection: Connection, study: SentStudy, destinations: int) -> float | None:
    """Return when the last of so many destinations had it, None where one has not."""
    of_it = (delivery.c.study_instance_uid == study.study_instance_uid) & (delivery.c.order_id.is_(None))
    wanted = select(func.count(), func.max(delivery.c.finished_at)).where(
        of_it, delivery.c.state == DeliveryState.DELIVERED
    )
    count, last = connection.execute(wanted).one()
    return last if count >= destinations else None
