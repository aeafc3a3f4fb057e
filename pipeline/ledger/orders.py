"""The ledger's statements about orders: enter, share, follow and end them; their studies; what they still need."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, func, insert, or_, select, update

from pipeline.ledger import REBUILT
from pipeline.ledger.rows import (
    DeliveryRow,
    OrderRow,
    OrderStudyRow,
    WantedStudyRow,
    read_all,
    read_one,
    read_one_or_none,
)
from pipeline.ledger.scope import is_of, of_send
from pipeline.ledger.tables import delivery, instance, note, order_study, orders, receipt, retrieved
from pipeline.model import ARRIVED, SEND_VERB, OrderStage, OrderState

_YEAR_2020 = 1_577_836_800  # The first second of 2020, which keeps the numbers short.


def shared(connection: Connection, key: str, done_since: float | None) -> int | None:
    """Return the open order for this request, or the last one done since `done_since`.

    Returns None if there is neither.
    """
    is_open = orders.c.state == OrderState.OPEN
    is_done = and_(
        orders.c.state == OrderState.DONE, orders.c.ended_at >= (done_since or 0), orders.c.cleared_at.is_(None)
    )
    wanted = is_open if done_since is None else or_(is_open, is_done)
    found = select(orders.c.id).where(orders.c.key == key, wanted).order_by(is_open.desc(), orders.c.id.desc())
    number: int | None = connection.scalar(found.limit(1))
    return number


def enter(connection: Connection, *, now: float, **values: Any) -> int:
    """Enter a new order and return its number."""
    first = _first_number(connection)
    made = connection.execute(
        insert(orders).values(
            **first,
            state=OrderState.OPEN,
            stage=OrderStage.PLACED,
            created_at=now,
            last_progress_at=now,
            **values,
        )
    ).inserted_primary_key
    assert made is not None
    number: int = made[0]
    if first and connection.dialect.name == "postgresql":  # SQLite goes on behind the greatest number by itself.
        connection.execute(select(func.setval(func.pg_get_serial_sequence(orders.name, "id"), number)))
    return number


def _first_number(connection: Connection) -> dict[str, int]:
    """Return the number of the first order of a rebuilt ledger, nothing for any other order.

    No order of the lost ledger had that number: files copied for one of its orders may still arrive, and must
    never be mixed with another patient's order.
    """
    rebuilt = connection.scalar(select(note.c.value).where(note.c.key == REBUILT))
    if rebuilt is None or connection.scalar(select(orders.c.id).limit(1)) is not None:
        return {}
    return {"id": int(float(rebuilt)) - _YEAR_2020}


def row(connection: Connection, number: int) -> OrderRow | None:
    """Return an order, None if there is none with that number."""
    return read_one_or_none(OrderRow, connection.execute(select(orders).where(orders.c.id == number)))


def one(connection: Connection, number: int) -> OrderRow:
    """Return an order; raises NoResultFound if there is none with that number."""
    return read_one(OrderRow, connection.execute(select(orders).where(orders.c.id == number)))


def is_open(connection: Connection, number: int) -> bool:
    """Tell whether an order has not ended."""
    return connection.scalar(select(orders.c.state).where(orders.c.id == number)) == OrderState.OPEN


def change_row(connection: Connection, number: int, **values: Any) -> None:
    """Write the progress of an order."""
    connection.execute(update(orders).where(orders.c.id == number).values(**values))


def set_stage(connection: Connection, number: int, stage: OrderStage, **more: Any) -> bool:
    """Move an open order to a stage; return whether it is still open."""
    is_it = (orders.c.id == number) & (orders.c.state == OrderState.OPEN)
    return bool(connection.execute(update(orders).where(is_it).values(stage=stage, **more)).rowcount)


_OPEN_ONES = select(orders).where(orders.c.state == OrderState.OPEN).order_by(orders.c.id)


def open_ones(connection: Connection) -> list[OrderRow]:
    """Return the orders that have not ended, the oldest first."""
    return read_all(OrderRow, connection.execute(_OPEN_ONES))


def by_state(connection: Connection) -> dict[str, int]:
    """Count all orders by their state."""
    counted = {
        row[0]: row[1] for row in connection.execute(select(orders.c.state, func.count()).group_by(orders.c.state))
    }
    return {str(state): counted.get(state, 0) for state in OrderState}


def links(connection: Connection, number: int) -> list[OrderStudyRow]:
    """Return the studies of an order."""
    wanted = select(order_study).where(order_study.c.order_id == number)
    return read_all(OrderStudyRow, connection.execute(wanted.order_by(order_study.c.study_instance_uid)))


def wishes(connection: Connection, number: int) -> list[WantedStudyRow]:
    """Return the studies of an order, each with the modalities the order asked for."""
    wanted = select(order_study, orders.c.modalities).join(orders, orders.c.id == order_study.c.order_id)
    return read_all(WantedStudyRow, connection.execute(wanted.where(order_study.c.order_id == number)))


def enter_studies(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Enter the studies that the PACS has for an order."""
    connection.execute(insert(order_study), list(rows))


def change_link(connection: Connection, number: int, study: str, **values: Any) -> None:
    """Write what is known of one study of an order."""
    is_it = (order_study.c.order_id == number) & (order_study.c.study_instance_uid == study)
    connection.execute(update(order_study).where(is_it).values(**values))


def delivery_of(connection: Connection, number: int) -> DeliveryRow | None:
    """Return the delivery of an order, None if there is none yet."""
    return read_one_or_none(DeliveryRow, connection.execute(select(delivery).where(delivery.c.order_id == number)))


def brought_before(connection: Connection, order: OrderRow) -> set[tuple[str, str, str]]:
    """Return Series UID, SOP Instance UID and data set hash of what earlier orders for the same request delivered.

    Only orders that were not done count: a done one is shared, or asked for again, which means all of it.
    """
    earlier = and_(
        orders.c.key == order.key,
        orders.c.id < order.id,
        orders.c.state.in_((OrderState.PARTIAL, OrderState.FAILED)),
        orders.c.id
        > select(func.coalesce(func.max(orders.c.id), 0))
        .where(orders.c.key == order.key, orders.c.state == OrderState.DONE)
        .scalar_subquery(),
    )
    wanted = (
        select(instance.c.series_instance_uid, instance.c.sop_instance_uid, instance.c.data_set_sha256)
        .join(receipt, receipt.c.instance == instance.c.id)
        .join(delivery, delivery.c.id == receipt.c.delivery)
        .join(orders, orders.c.id == delivery.c.order_id)
        .where(earlier, receipt.c.state.in_(ARRIVED), receipt.c.verified)
    )
    return {(row[0], row[1], row[2]) for row in connection.execute(wanted)}


def arrivals_in_use(connection: Connection) -> set[str]:
    """Return the arrivals whose files open orders still need."""
    scopes = [of_send(number) for number in connection.scalars(_OPEN_SENDS)]
    sent = select(instance.c.arrival).where(is_of(instance, scopes)) if scopes else None
    found = set(connection.scalars(_RETRIEVED_FOR_OPEN_ORDERS))
    return found if sent is None else found | set(connection.scalars(sent.distinct()))


_OPEN_SENDS = select(orders.c.id).where(orders.c.state == OrderState.OPEN, orders.c.verb == SEND_VERB)
_RETRIEVED_FOR_OPEN_ORDERS = (
    select(instance.c.arrival)
    .join(retrieved, retrieved.c.instance == instance.c.id)
    .join(order_study, order_study.c.retrieval == retrieved.c.retrieval)
    .join(orders, orders.c.id == order_study.c.order_id)
    .where(orders.c.state == OrderState.OPEN)
    .distinct()
)


def made_before(connection: Connection, moment: float) -> list[tuple[int, str]]:
    """Return the orders that ended at or before `moment` and whose file is still kept, with its path."""
    wanted = (
        select(orders.c.id, delivery.c.made_path)
        .join(delivery, delivery.c.order_id == orders.c.id)
        .where(orders.c.ended_at <= moment, orders.c.cleared_at.is_(None), delivery.c.made_path.is_not(None))
    )
    return [(row[0], row[1]) for row in connection.execute(wanted)]


def cleared(connection: Connection) -> set[str]:
    """Return the paths of files marked for deletion that no other order has made anew."""
    wanted = (
        select(delivery.c.made_path)
        .join(orders, delivery.c.order_id == orders.c.id)
        .where(delivery.c.made_path.is_not(None))
    )
    return set(connection.scalars(wanted.where(orders.c.cleared_at.is_not(None)))) - set(
        connection.scalars(wanted.where(orders.c.cleared_at.is_(None)))
    )


def is_made_by_another(connection: Connection, path: str) -> bool:
    """Tell whether an order whose file is still kept has made the file at this path."""
    wanted = (
        select(orders.c.id)
        .join(delivery, delivery.c.order_id == orders.c.id)
        .where(delivery.c.made_path == path, orders.c.cleared_at.is_(None))
    )
    return connection.execute(wanted).first() is not None
