"""The companions of a delivery that makes a disc: what came of its study by others, and is on no disc yet.

A disc of some of a study's instances is taken for the whole study. Whatever keeps another delivery of it (a full
disk, a refusal, a lost ledger, a slot of its own), the next disc holds what that one was to bring.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, and_, select

from pipeline.ledger import deliveries
from pipeline.ledger.tables import delivery, instance, receipt
from pipeline.model import ARRIVED, DeliveryState, InstanceKey, Item

_HAS_ARRIVED = and_(receipt.c.state.in_(ARRIVED), receipt.c.verified)


@dataclass(frozen=True, slots=True)
class Companion:
    """One instance that another delivery was to bring, by that delivery's number and receiver."""

    delivery: int
    receiver: str
    identity: int
    item: Item


def of(look: Connection, row: Any, spool: Path) -> dict[InstanceKey, Companion]:
    """Return what other deliveries of the study to the destination were to bring and no disc has told of.

    Of the same key the last one consigned counts, and none where one has arrived. An instance with a code has
    been answered for: it was left out of a disc, which said so and is remembered.
    """
    wanted = _of_the_study(row).where(delivery.c.id != row.id, ~_HAS_ARRIVED, receipt.c.code == "")
    found = [_companion(one, spool) for one in look.execute(wanted)]
    arrived = arrived_of(look, row) if found else set()
    return {one.item.key: one for one in found if one.item.key not in arrived}


def arrived_of(look: Connection, row: Any) -> set[InstanceKey]:
    """Return the instances of the study that deliveries to the destination have brought, this one among them."""
    wanted = _of_the_study(row).where(_HAS_ARRIVED)
    return {deliveries.key_of(one) for one in look.execute(wanted)}


def all_of(look: Connection, row: Any) -> list[int]:
    """Return the deliveries of the study to the destination, this one among them; an order's has no others."""
    if row.order_id is not None:
        return [row.id]
    return list(look.scalars(select(delivery.c.id).where(_is_of_the_study(row))))


def _is_of_the_study(row: Any) -> Any:
    return and_(
        delivery.c.destination == row.destination,
        delivery.c.study_instance_uid == row.study_instance_uid,
        delivery.c.order_id.is_(None),
    )


def _of_the_study(row: Any) -> Any:
    return (
        select(receipt, instance, delivery.c.receiver)
        .join(delivery, delivery.c.id == receipt.c.delivery)
        .join(instance, instance.c.id == receipt.c.instance)
        .where(_is_of_the_study(row))
        .order_by(delivery.c.id, instance.c.id)
    )


def _companion(row: Any, spool: Path) -> Companion:
    return Companion(row.delivery, row.receiver, row.instance, deliveries.item_of(row, spool))


def bring_on(change: Connection, numbers: Collection[int], now: float) -> list[int]:
    """Have deliveries attempted again that were put off or refused; return them.

    Their instances are on a disc now, so they will find it. One that is held waits for a person all the same.
    """
    kept = (DeliveryState.DEFERRED, DeliveryState.REFUSED)
    wanted = select(delivery.c.id).where(
        delivery.c.id.in_(numbers), delivery.c.state.in_(kept), delivery.c.held.is_(False)
    )
    found = list(change.scalars(wanted))
    deliveries.retry(change, found, now, release_guard=False)
    return found
