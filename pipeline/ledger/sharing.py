"""What the ledger knows of many orders side by side: how many are open, and how often a wish was fulfilled."""

from collections.abc import Iterable

from sqlalchemy import Connection, func, select

from pipeline.ledger.tables import delivery, orders
from pipeline.model import OrderState


def count_open(look: Connection, verbs: Iterable[str]) -> int:
    """Count the open orders of these verbs."""
    wanted = select(func.count()).where(orders.c.state == OrderState.OPEN, orders.c.verb.in_(list(verbs)))
    return look.scalar(wanted) or 0


def files_made_for(look: Connection, number: int) -> int:
    """Count the files, kept or not, that were ever made for the wish of this order."""
    key = select(orders.c.key).where(orders.c.id == number).scalar_subquery()
    made = (
        select(func.count())
        .select_from(delivery.join(orders, delivery.c.order_id == orders.c.id))
        .where(orders.c.key == key, delivery.c.made_path.is_not(None))
    )
    return look.scalar(made) or 0
