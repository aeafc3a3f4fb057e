"""The ledger's statements about files given to a `send`: identified, already delivered, not sent and why."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, func, select, update

from pipeline.ledger.instance_rows import sound_instances
from pipeline.ledger.receipts import needs_an_answer
from pipeline.ledger.rows import OrderRow, SoundInstanceRow, read_all
from pipeline.ledger.scope import is_of, of_send
from pipeline.ledger.tables import delivery, instance, receipt
from pipeline.model import ARRIVED, SEND_VERB, DeliveryState, InstanceState

ENDED = (DeliveryState.DELIVERED, DeliveryState.REFUSED)


def instances_of(connection: Connection, number: int) -> list[SoundInstanceRow]:
    """Return the sound instances given to a `send`, with what their arrival knows."""
    wanted = (
        sound_instances()
        .where(is_of(instance, of_send(number)), instance.c.state == InstanceState.RECEIVED)
        .order_by(instance.c.id)
    )
    return read_all(SoundInstanceRow, connection.execute(wanted))


def are_taken_in(connection: Connection, number: int) -> bool:
    """Tell whether the files given to a `send` have been taken in."""
    return connection.execute(select(instance.c.id).where(is_of(instance, of_send(number)))).first() is not None


def data_sets_at(
    connection: Connection, destination: str, rows: Sequence[SoundInstanceRow]
) -> dict[tuple[str, str, str], set[str]]:
    """Return the data sets a destination has of the instances of `rows`, by Study, Series and SOP Instance UID."""
    key = (instance.c.study_instance_uid, instance.c.series_instance_uid, instance.c.sop_instance_uid)
    wanted = (
        select(*key, instance.c.data_set_sha256)
        .join(receipt, receipt.c.instance == instance.c.id)
        .join(delivery, delivery.c.id == receipt.c.delivery)
        .where(
            delivery.c.destination == destination,
            instance.c.study_instance_uid.in_({row.study_instance_uid for row in rows}),
            receipt.c.state.in_(ARRIVED),
            receipt.c.verified,
        )
    )
    found: dict[tuple[str, str, str], set[str]] = {}
    for study, series, uid, data_set in connection.execute(wanted):
        found.setdefault((study, series, uid), set()).add(data_set)
    return found


def awaited_delivery(connection: Connection, order: OrderRow) -> int | None:
    """Return the delivery a `send` must wait for before it is prepared, None if there is none.

    It is an open delivery that may still bring the destination an instance given to the `send`, so that it is
    unknown whether the instance must be sent. A `send` with `again` waits for none.
    """
    if order.verb != SEND_VERB or order.again:
        return None
    given = instance.alias()
    wanted = (
        select(delivery.c.id)
        .join(receipt, receipt.c.delivery == delivery.c.id)
        .join(instance, instance.c.id == receipt.c.instance)
        .join(given, and_(given.c.sop_instance_uid == instance.c.sop_instance_uid, _are_of_one_series(given)))
        .where(
            is_of(given, of_send(order.id)),
            given.c.state == InstanceState.RECEIVED,
            delivery.c.destination == order.destination,
            delivery.c.state.not_in(ENDED),
            needs_an_answer(),
        )
    )
    number: int | None = connection.scalar(wanted.order_by(delivery.c.id).limit(1))
    return number


def _are_of_one_series(given: Any) -> Any:
    """Return the condition in terms without an index: by study, every instance would find all of its study."""
    uids = ("study_instance_uid", "series_instance_uid")
    return and_(*(func.coalesce(given.c[uid], "") == func.coalesce(instance.c[uid], "") for uid in uids))


def words_for(delivery_number: int) -> str:
    """Return the text for a person while, or because, an order waits for a delivery."""
    return f"delivery {delivery_number} has the same instances for that destination, and has not ended"


def reasons_unsent(connection: Connection, number: int) -> list[str]:
    """Return why files given to a `send` could not be sent."""
    is_unsound = instance.c.state.in_((InstanceState.QUARANTINED, InstanceState.CONFLICT))
    wanted = select(instance.c.reason).where(is_of(instance, of_send(number)), is_unsound)
    return [reason or "" for reason in connection.scalars(wanted.order_by(instance.c.id))]


def leave(connection: Connection, number: int, now: float) -> None:
    """Release files given to a `send` and not sent: the person still has them, and has been told."""
    of_it = is_of(instance, of_send(number))
    waiting = of_it & (instance.c.state == InstanceState.RECEIVED)
    values = {"state": InstanceState.PASSED, "reason": "not sent"}
    connection.execute(update(instance).where(waiting).values(**values))
    unsound = of_it & instance.c.state.in_((InstanceState.QUARANTINED, InstanceState.CONFLICT))
    connection.execute(update(instance).where(unsound).values(discarded_at=now))
