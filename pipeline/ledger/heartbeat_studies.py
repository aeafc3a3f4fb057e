"""The last heartbeat study: when it was sent, and when every destination of its receiver had it verified.

Each node of a cluster sends its own to its own receiver; elsewhere `node` is None.
"""

import json
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from pipeline.ledger import notes
from pipeline.ledger.tables import delivery
from pipeline.model import DeliveryState

_KEY = "heartbeat-study"


class SentStudy(NamedTuple):
    """One heartbeat study.

    Times are seconds since the epoch, `seconds` is the duration of the last verified one.
    """

    study_instance_uid: str
    sent_at: float
    verified_at: float | None = None
    is_missed: bool = False  # It, or an earlier one since the last verified one, was late.
    seconds: float | None = None


def read(connection: Connection, node: str | None) -> SentStudy | None:
    """Return the last heartbeat study of `node`, None if none was ever sent."""
    text = notes.read(connection, _key(node))
    return None if text is None else SentStudy(*json.loads(text))


def write(connection: Connection, study: SentStudy, node: str | None) -> None:
    """Replace the recorded heartbeat study of `node` by `study`."""
    notes.write(connection, _key(node), json.dumps(study))


def _key(node: str | None) -> str:
    return _KEY if node is None else f"{_KEY}@{node}"


def verified_at(connection: Connection, study: SentStudy, destinations: int) -> float | None:
    """Return when the last of so many destinations had it verified, None if one has not."""
    of_it = (delivery.c.study_instance_uid == study.study_instance_uid) & (delivery.c.order_id.is_(None))
    wanted = select(func.count(), func.max(delivery.c.finished_at)).where(
        of_it, delivery.c.state == DeliveryState.DELIVERED
    )
    count, last = connection.execute(wanted).one()
    return last if count >= destinations else None
