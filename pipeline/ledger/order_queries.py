"""The ledger's answers about several orders: how many are open, and which files were made."""

from collections.abc import Collection, Iterable

from sqlalchemy import Connection, bindparam, func, select

from pipeline.ledger.tables import delivery, orders
from pipeline.model import OrderState


def count_open(connection: Connection, verbs: Iterable[str]) -> int:
    """Count the open orders with these verbs."""
    wanted = select(func.count()).where(orders.c.state == OrderState.OPEN, orders.c.verb.in_(list(verbs)))
    return connection.scalar(wanted) or 0


_ENDED = select(orders.c.id).where(
    orders.c.id.in_(bindparam("numbers", expanding=True)), orders.c.state != OrderState.OPEN
)


def ended(connection: Connection, numbers: Collection[int]) -> set[int]:
    """Return those of these orders that have ended."""
    return set(connection.scalars(_ENDED, {"numbers": list(numbers)}))


def newest(connection: Connection, at_most: int, *, only_open: bool) -> list[int]:
    """Return the numbers of the latest orders, the newest first."""
    wanted = select(orders.c.id).order_by(orders.c.id.desc()).limit(at_most)
    return list(connection.scalars(wanted.where(orders.c.state == OrderState.OPEN) if only_open else wanted))


def files_made_for(connection: Connection, number: int) -> int:
    """Count the files, kept or not, that were ever made for the request of this order."""
    key = select(orders.c.key).where(orders.c.id == number).scalar_subquery()
    made = (
        select(func.count())
        .select_from(delivery.join(orders, delivery.c.order_id == orders.c.id))
        .where(orders.c.key == key, delivery.c.made_path.is_not(None))
    )
    return connection.scalar(made) or 0
