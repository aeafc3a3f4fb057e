"""The ledger's statements about deliveries to which instances are added while their study is prepared."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, insert, not_, select, text, update

from pipeline.ledger.deliveries import OPEN
from pipeline.ledger.receipts import unanswered
from pipeline.ledger.tables import arrival, delivery, instance, receipt
from pipeline.model import DeliveryState, InstanceState, ReceiptState

GROWS_AT_MOST = 60.0  # Seconds until a delivery to which nothing was added is looked at again.


def open_one(connection: Connection, destination_name: str, receiver: str, study_instance_uid: str) -> int | None:
    """Return the delivery to which a study's instances are added while they are prepared."""
    its_study = {"receiver": receiver, "study": study_instance_uid}
    return connection.scalar(_OPEN_ONE, {"destination": destination_name, **its_study})


def all_of_study(connection: Connection, receiver: str, study_instance_uid: str) -> list[int]:
    """Return the growing deliveries of a study, whatever their destination."""
    return list(connection.scalars(_ALL_OF_STUDY, {"receiver": receiver, "study": study_instance_uid}))


_IS_GROWING = text("delivery.growing")  # in the words of the index, which SQLAlchemy would write as "= 1"
_IS_OF_STUDY = and_(
    delivery.c.receiver == bindparam("receiver"), delivery.c.study_instance_uid == bindparam("study")
)
_ALL_OF_STUDY = select(delivery.c.id).where(_IS_GROWING, _IS_OF_STUDY).order_by(delivery.c.id)
_OPEN_ONE = select(delivery.c.id).where(
    _IS_GROWING,
    _IS_OF_STUDY,
    delivery.c.state.in_((*OPEN, DeliveryState.SENDING)),
    delivery.c.destination == bindparam("destination"),
)


def add(
    connection: Connection, number: int, pinned: Sequence[Mapping[str, Any]], now: float, *, is_last: bool
) -> None:
    """Add instances to a growing delivery and make it due; a deferred one keeps its time."""
    rows = [{"delivery": number, "state": ReceiptState.PENDING, **pin} for pin in pinned]
    if rows:
        connection.execute(insert(receipt), rows)
    its_row = delivery.c.id == number
    if is_last:
        connection.execute(update(delivery).where(its_row).values(growing=False))
    connection.execute(
        update(delivery).where(its_row, delivery.c.state == DeliveryState.WAITING).values(due_at=now)
    )


_ABANDONED = select(delivery.c.id).where(
    _IS_GROWING,
    ~select(instance.c.id)
    .join(arrival, arrival.c.name == instance.c.arrival)
    .where(
        instance.c.study_instance_uid == delivery.c.study_instance_uid,
        arrival.c.receiver == delivery.c.receiver,
        instance.c.state == InstanceState.RECEIVED,
        not_(instance.c.consigned),
    )
    .exists(),
)


def abandoned(connection: Connection) -> list[int]:
    """Return deliveries that cannot grow any more: a person has taken the rest of their study away."""
    return list(connection.scalars(_ABANDONED))


def goes_on(connection: Connection, number: int, handed_over: frozenset[int], now: float) -> bool:
    """Let a delivery wait for the rest of its study, or go on at once with what was added during an attempt.

    `handed_over` are the instances of the attempt. Returns whether there is, or will be, anything else. The
    attempt does not count then, and its instances without an answer are tried again with the others.
    """
    was_added = bool(unanswered(connection, number) - handed_over)
    if not was_added and not connection.scalar(_GROWS, {"number": number}):
        return False
    values = {
        "state": DeliveryState.WAITING,
        "due_at": now if was_added else now + GROWS_AT_MOST,
        "attempts": delivery.c.attempts - 1,
        "claim": None,
    }
    connection.execute(update(delivery).where(delivery.c.id == number).values(**values))
    return True


_GROWS = select(delivery.c.growing).where(delivery.c.id == bindparam("number"))
