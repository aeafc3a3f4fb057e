"""The discs made of studies on the line: the instances on each, and which discs were ever visible."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, and_, delete, exists, func, insert, literal, select, update

from pipeline.ledger import undelivered_instances
from pipeline.ledger.rows import DeliveryRow
from pipeline.ledger.tables import delivery, disc, on_disc, receipt
from pipeline.model import EarlierDisc, InstanceKey, NewDisc, ReceiptState

Rows = Mapping[InstanceKey, tuple[int, int]]  # For each instance, its delivery and the row number of its receipt.


@dataclass(frozen=True, slots=True)
class UnfinishedDisc:
    """A disc that an attempt recorded and did not mark as visible."""

    identity: str
    new: NewDisc


def earlier_of(connection: Connection, row: DeliveryRow) -> EarlierDisc | None:
    """Return the latest visible disc of the study at the destination of the delivery `row`.

    If the ledger was lost since, or an earlier version made the disc, the receipts tell its volume identifier.
    """
    wanted = (
        select(disc.c.name, disc.c.volume_id, disc.c.made_at)
        .join(delivery, delivery.c.id == disc.c.delivery)
        .where(undelivered_instances.is_of_the_study(row), disc.c.offered_at.is_not(None))
        .order_by(disc.c.number.desc())
    )
    found = connection.execute(wanted).first() or connection.execute(_told_by_receipts(row)).first()
    return EarlierDisc(found[0], found[1], datetime.fromtimestamp(found[2], UTC)) if found else None


def _told_by_receipts(row: DeliveryRow) -> Any:
    return (
        select(literal(""), receipt.c.code, receipt.c.at)
        .join(delivery, delivery.c.id == receipt.c.delivery)
        .where(
            undelivered_instances.is_of_the_study(row),
            undelivered_instances.HAS_ARRIVED,
            receipt.c.at.is_not(None),
        )
        .order_by(receipt.c.at.desc())
    )


def unfinished_of(connection: Connection, row: DeliveryRow) -> UnfinishedDisc | None:
    """Return the recorded disc of the study whose attempt ended before it was marked as visible."""
    wanted = (
        select(disc)
        .join(delivery, delivery.c.id == disc.c.delivery)
        .where(undelivered_instances.is_of_the_study(row), disc.c.offered_at.is_(None))
    )
    found = connection.execute(wanted).first()
    if found is None:
        return None
    made_at = datetime.fromtimestamp(found.made_at, UTC)
    new = NewDisc(found.name, found.volume_id, found.size, found.sha256, made_at, (), {})
    return UnfinishedDisc(found.id, new)


def remember(connection: Connection, row: DeliveryRow, new: NewDisc, rows: Rows) -> str:
    """Record the contents of a disc that the delivery `row` is about to publish; the last name counts."""
    tried = select(disc.c.id).where(disc.c.delivery == row.id, disc.c.offered_at.is_(None))
    for identity in list(connection.scalars(tried)):
        forget(connection, identity)
    identity, of_it = uuid.uuid4().hex, undelivered_instances.is_of_the_study(row)
    before = connection.scalar(
        select(func.max(disc.c.number)).join(delivery, delivery.c.id == disc.c.delivery).where(of_it)
    )
    values = {
        "id": identity,
        "delivery": row.id,
        "number": (before or 0) + 1,
        "name": new.name,
        "volume_id": new.volume_id,
        "size": new.size,
        "sha256": new.sha256,
        "made_at": new.made_at.timestamp(),
    }
    connection.execute(insert(disc).values(**values))
    reasons = {**dict.fromkeys(new.on_it, (None, None)), **new.left_out}
    held = [
        {
            "disc": identity,
            "delivery": rows[key][0],
            "instance": rows[key][1],
            "left_out": reason,
            "left_out_code": code,
        }
        for key, (code, reason) in reasons.items()
    ]
    connection.execute(insert(on_disc), held)
    return identity


def offered(connection: Connection, identity: str, now: float) -> list[int]:
    """Mark a disc as visible: its instances have arrived, and those it lists as left out are refused.

    Returns the deliveries that must be attempted again because of it.
    """
    connection.execute(update(disc).where(disc.c.id == identity).values(offered_at=now))
    volume_id = connection.scalar(select(disc.c.volume_id).where(disc.c.id == identity))
    same = and_(
        on_disc.c.disc == identity,
        on_disc.c.delivery == receipt.c.delivery,
        on_disc.c.instance == receipt.c.instance,
    )
    concerned = receipt.c.delivery.in_(select(on_disc.c.delivery).where(on_disc.c.disc == identity))
    is_new = and_(
        concerned, ~undelivered_instances.HAS_ARRIVED, exists().where(same, on_disc.c.left_out.is_(None))
    )
    helped = list(connection.scalars(select(receipt.c.delivery).where(is_new).distinct()))
    values = {"state": ReceiptState.STORED, "code": volume_id, "message": "", "verified": True, "at": now}
    connection.execute(update(receipt).where(is_new).values(**values))
    told = select(on_disc.c.left_out).where(same, on_disc.c.left_out.is_not(None))
    is_left_out = and_(concerned, ~undelivered_instances.HAS_ARRIVED, told.exists())
    code = select(on_disc.c.left_out_code).where(same, on_disc.c.left_out.is_not(None))
    values = {
        "state": ReceiptState.REFUSED,
        "code": volume_id,
        "message": told.scalar_subquery(),
        "left_out": code.scalar_subquery(),
        "at": now,
    }
    connection.execute(update(receipt).where(is_left_out).values(**values))
    return undelivered_instances.retry_helped(connection, helped, now)


def forget(connection: Connection, identity: str) -> None:
    """Delete the record of a disc that was never visible."""
    connection.execute(delete(on_disc).where(on_disc.c.disc == identity))
    connection.execute(delete(disc).where(disc.c.id == identity))
