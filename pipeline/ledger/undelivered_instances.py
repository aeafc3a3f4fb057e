"""For a delivery that makes a disc: all other instances of its study received for the same destination.

A reader takes a disc with some of a study's instances for the whole study. Every disc is therefore made of the
whole study: of what earlier discs hold, and of what other deliveries could not bring (a full disk, a refusal, …).
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, and_, func, not_, or_, select, update

from pipeline.ledger import receipts
from pipeline.ledger.rows import DeliveryRow
from pipeline.ledger.tables import arrival, delivery, instance, receipt
from pipeline.model import ARRIVED, DeliveryState, InstanceKey, InstanceState, Item, ReceiptState, SetAside

_ON_A_DISC = "its instances are on the disc that another delivery of the study has made"
HAS_ARRIVED = and_(receipt.c.state.in_(ARRIVED), receipt.c.verified)


@dataclass(frozen=True, slots=True)
class UndeliveredInstance:
    """One instance, with the number and the receiver of its delivery.

    `has_arrived`: it is on a disc that was visible. `is_answered`: it is, or a visible disc had to leave it out.
    `is_gone`: its original has been deleted.
    """

    delivery: int
    receiver: str
    identity: int
    item: Item
    has_arrived: bool
    is_answered: bool
    is_gone: bool


def of(connection: Connection, row: DeliveryRow, spool: Path) -> dict[InstanceKey, UndeliveredInstance]:
    """Return all instances of the study for the destination, except those `row` must still deliver.

    For the same key the last one consigned counts, or the last one that has arrived. Instances that a person
    discarded before they arrived are left out.
    """
    is_waiting = and_(delivery.c.id == row.id, receipts.needs_an_answer())
    found: dict[InstanceKey, UndeliveredInstance] = {}
    for receipt_row in connection.execute(_of_the_study(row).where(~is_waiting)):
        companion = _companion(receipt_row, spool)
        before = found.get(companion.item.key)
        if companion.is_gone and not companion.has_arrived:
            continue
        if before is None or companion.has_arrived or not before.has_arrived:
            found[companion.item.key] = companion
    return found


def all_of(connection: Connection, row: DeliveryRow) -> list[int]:
    """Return the deliveries of the study to the destination, including this one.

    An order's delivery has no others.
    """
    if row.order_id is not None:
        return [row.id]
    return list(connection.scalars(select(delivery.c.id).where(is_of_the_study(row))))


def set_aside(connection: Connection, row: DeliveryRow) -> tuple[SetAside, ...]:
    """Return instances that belong to the studies of a disc and were set aside, and not discarded since.

    The disc lacks them. An instance too damaged to name its study counts if it came in the same arrival.
    """
    own = (
        select(instance.c.arrival, instance.c.study_instance_uid, instance.c.scope)
        .join(receipt, receipt.c.instance == instance.c.id)
        .where(receipt.c.delivery.in_(all_of(connection, row)))
        .distinct()
        .subquery()
    )
    is_of_study = and_(instance.c.study_instance_uid == own.c.study_instance_uid, instance.c.scope == own.c.scope)
    is_unknown = func.coalesce(instance.c.study_instance_uid, "") == ""
    came_along = and_(is_unknown, instance.c.arrival == own.c.arrival)
    wanted = (
        select(
            instance.c.id,
            instance.c.study_instance_uid,
            instance.c.series_instance_uid,
            instance.c.sop_instance_uid,
            instance.c.reason,
        )
        .join(own, or_(is_of_study, came_along))
        .where(
            instance.c.state.in_((InstanceState.QUARANTINED, InstanceState.CONFLICT)),
            instance.c.discarded_at.is_(None),
        )
        .distinct()
        .order_by(instance.c.id)
    )
    return tuple(
        SetAside(
            InstanceKey(row.study_instance_uid or "", row.series_instance_uid or "", row.sop_instance_uid)
            if row.sop_instance_uid
            else None,
            row.reason or "it was set aside",
        )
        for row in connection.execute(wanted)
    )


def is_of_the_study(row: DeliveryRow) -> Any:
    """Return the condition that a delivery is of the study and to the destination of the delivery `row`."""
    return and_(
        delivery.c.destination == row.destination,
        delivery.c.study_instance_uid == row.study_instance_uid,
        delivery.c.order_id.is_(None),
    )


def _of_the_study(row: DeliveryRow) -> Any:
    return (
        select(receipt, instance, delivery.c.receiver, arrival.c.gone_at)
        .join(delivery, delivery.c.id == receipt.c.delivery)
        .join(instance, instance.c.id == receipt.c.instance)
        .join(arrival, arrival.c.name == instance.c.arrival)
        .where(is_of_the_study(row), or_(delivery.c.id == row.id, not_(delivery.c.growing)))
        .order_by(delivery.c.id, instance.c.id)
    )


def _companion(row: Any, spool: Path) -> UndeliveredInstance:
    state = row._mapping[receipt.c.state]  # noqa: SLF001  # SQLAlchemy's public mapping has this name
    has_arrived = state in ARRIVED and row.verified
    return UndeliveredInstance(
        delivery=row.delivery,
        receiver=row.receiver,
        identity=row.instance,
        item=receipts.item_of(row, spool),
        has_arrived=has_arrived,
        is_answered=has_arrived or (state == ReceiptState.REFUSED and row.code != ""),
        is_gone=row.gone_at is not None or row.discarded_at is not None,
    )


def retry_helped(connection: Connection, numbers: Collection[int], now: float) -> list[int]:
    """Let deferred or refused deliveries be attempted again, and return them.

    Their instances are on a disc now, so they will end. A held one still waits for a person.
    """
    kept = (DeliveryState.DEFERRED, DeliveryState.REFUSED)
    is_to_end = and_(delivery.c.id.in_(numbers), delivery.c.state.in_(kept), delivery.c.held.is_(False))
    found = list(connection.scalars(select(delivery.c.id).where(is_to_end)))
    values = {"state": DeliveryState.WAITING, "due_at": now, "finished_at": None, "reason": _ON_A_DISC}
    connection.execute(update(delivery).where(delivery.c.id.in_(found)).values(**values))
    return found
