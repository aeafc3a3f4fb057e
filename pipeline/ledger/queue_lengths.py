"""Count what waits, what is set aside and what is open now; indexes answer, however large the ledger is."""

from typing import NamedTuple

from sqlalchemy import Connection, and_, exists, func, select

from pipeline.ledger.reports import OPEN, SET_ASIDE
from pipeline.ledger.tables import arrival, delivery, instance, orders
from pipeline.model import ArrivalState, OrderState


class Queue(NamedTuple):
    """The open deliveries to one destination, and when the oldest was opened."""

    deliveries: int
    oldest_at: float


def queues(connection: Connection) -> dict[str, Queue]:
    """Return the queues by destination, including destinations no longer configured."""
    wanted = (
        select(delivery.c.destination, func.count(), func.min(delivery.c.created_at))
        .where(delivery.c.state.in_(OPEN))
        .group_by(delivery.c.destination)
    )
    return {name: Queue(count, oldest) for name, count, oldest in connection.execute(wanted)}


def set_aside(connection: Connection) -> dict[str, int]:
    """Count the instances that a person must look at, by their code."""
    wanted = (
        select(instance.c.state, instance.c.code, func.count())
        .where(instance.c.state.in_(SET_ASIDE), instance.c.discarded_at.is_(None))
        .group_by(instance.c.state, instance.c.code)
    )
    counted: dict[str, int] = {}
    for state, code, count in connection.execute(wanted):
        name = code or ("conflict" if state == "conflict" else "unusable")
        counted[name] = counted.get(name, 0) + count
    return counted


def arrivals_set_aside(connection: Connection) -> int:
    """Count the arrivals that are set aside as a whole: none of their files is a recorded instance."""
    has_instances = exists(select(instance.c.id).where(instance.c.arrival == arrival.c.name))
    is_one = and_(arrival.c.state == ArrivalState.QUARANTINED, arrival.c.gone_at.is_(None), ~has_instances)
    return connection.scalar(select(func.count()).select_from(arrival).where(is_one)) or 0


def open_orders(connection: Connection) -> int:
    """Count the orders that have not ended."""
    is_open = orders.c.state == OrderState.OPEN
    return connection.scalar(select(func.count()).select_from(orders).where(is_open)) or 0
