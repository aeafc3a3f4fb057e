"""The ledger's answers about several orders: how many are open, which waits for which, which files were made."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, and_, func, select

from pipeline.ledger.arrivals import SENT
from pipeline.ledger.deliveries import needs_an_answer
from pipeline.ledger.rows import OrderRow
from pipeline.ledger.tables import delivery, instance, orders, receipt
from pipeline.model import SEND_VERB, DeliveryState, InstanceState, OrderState

ENDED = (DeliveryState.DELIVERED, DeliveryState.REFUSED)


def count_open(look: Connection, verbs: Iterable[str]) -> int:
    """Count the open orders with these verbs."""
    wanted = select(func.count()).where(orders.c.state == OrderState.OPEN, orders.c.verb.in_(list(verbs)))
    return look.scalar(wanted) or 0


def newest(look: Connection, at_most: int, *, only_open: bool) -> list[int]:
    """Return the numbers of the latest orders, the newest first."""
    wanted = select(orders.c.id).order_by(orders.c.id.desc()).limit(at_most)
    return list(look.scalars(wanted.where(orders.c.state == OrderState.OPEN) if only_open else wanted))


def files_made_for(look: Connection, number: int) -> int:
    """Count the files, kept or not, that were ever made for the request of this order."""
    key = select(orders.c.key).where(orders.c.id == number).scalar_subquery()
    made = (
        select(func.count())
        .select_from(delivery.join(orders, delivery.c.order_id == orders.c.id))
        .where(orders.c.key == key, delivery.c.made_path.is_not(None))
    )
    return look.scalar(made) or 0


def awaited(look: Connection, order: OrderRow) -> int | None:
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
            given.c.scope == f"{SENT}{order.id}",
            given.c.state == InstanceState.RECEIVED,
            delivery.c.destination == order.destination,
            delivery.c.state.not_in(ENDED),
            needs_an_answer(),
        )
    )
    number: int | None = look.scalar(wanted.order_by(delivery.c.id).limit(1))
    return number


def _are_of_one_series(given: Any) -> Any:
    """Return the condition in terms without an index: by study, every instance would find all of its study."""
    uids = ("study_instance_uid", "series_instance_uid")
    return and_(*(func.coalesce(given.c[uid], "") == func.coalesce(instance.c[uid], "") for uid in uids))


def words_for(awaited_delivery: int) -> str:
    """Return the text for a person while, or because, an order waits for a delivery."""
    return f"delivery {awaited_delivery} has the same instances for that destination, and has not ended"
