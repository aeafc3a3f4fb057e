"""Requests: an instance received again makes the ledger ask its destinations whether they still have it.

A *request* is a delivery of instances that were delivered before, opened when they are received again. It keeps
what it has sent, and what was refused; if the destination still has everything, it is deleted.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, not_, or_, select, update

from pipeline.dicom.reasons import DELETED, failure
from pipeline.ledger import deliveries, receipts
from pipeline.ledger.batches import batches
from pipeline.ledger.instance_rows import first_received
from pipeline.ledger.scope import Scope
from pipeline.ledger.tables import delivery, instance, receipt
from pipeline.model import ARRIVED, DeliveryState, InstanceKey, InstanceState, Item, ReceiptState

ONCE_IN = 86400.0  # Seconds: requests send no instance again more often.
REASON = "received again: the destination is asked whether it still has it"

Line = tuple[str, str, str]  # Destination, receiver, Study Instance UID.


@dataclass(frozen=True, slots=True)
class RequestedInstance:
    """An instance of a request that needs an answer; `asked_by` is the received duplicate, if known."""

    identity: int
    item: Item
    asked_by: int | None


def open_requests(connection: Connection, arrival_name: str, destinations: Collection[str], now: float) -> None:
    """Open a request for an arrival's duplicates at each of the destinations they were delivered to."""
    asked = _asked_for(connection, arrival_name) if destinations else {}
    if not asked:
        return
    pins: dict[Line, list[dict[str, Any]]] = defaultdict(list)
    under_way = _under_way(connection, {key.study_instance_uid for key, _ in asked.values()})
    for row in _delivered(connection, asked, destinations):
        key, asked_by = asked[row.instance]
        if (row.destination, key) not in under_way:
            pin = {word: row._mapping[receipt.c[word]] for word in _PIN}  # noqa: SLF001  # SQLAlchemy's public name
            line = row.destination, row.receiver, key.study_instance_uid
            pins[line].append({"instance": row.instance, "asked_by": asked_by, **pin})
    for (destination, receiver, study), those in pins.items():
        values = {
            "destination": destination,
            "receiver": receiver,
            "study_instance_uid": study,
            "created_at": now,
            "due_at": now,
            "reason": REASON,
            "requested": True,
        }
        deliveries.consign(connection, values, those)


_PIN = ("path", "sha256", "size", "transfer_syntax_uid", "encoding")


def _asked_for(connection: Connection, arrival_name: str) -> dict[int, tuple[InstanceKey, int]]:
    """Return the key and the last duplicate in an arrival, by the instance that holds the key."""
    by_scope: dict[Scope, dict[InstanceKey, int]] = defaultdict(dict)
    for row in connection.execute(_DUPLICATES, {"arrival": arrival_name}):
        by_scope[row.scope][receipts.key_of(row)] = row.id
    return {
        holder.id: (key, duplicates[key])
        for scope, duplicates in by_scope.items()
        for key, holder in first_received(connection, scope, duplicates).items()
        if key in duplicates
    }


_DUPLICATES = (
    select(instance)
    .where(instance.c.arrival == bindparam("arrival"), instance.c.state == InstanceState.DUPLICATE)
    .order_by(instance.c.id)
)


def _delivered(connection: Connection, holders: Collection[int], destinations: Collection[str]) -> list[Any]:
    """Return the last receipt of each instance at each destination where it arrived, on the line."""
    found: dict[tuple[int, str], Any] = {}
    for batch in batches(list(holders)):
        wanted = (
            select(receipt, delivery.c.destination, delivery.c.receiver)
            .join(delivery, delivery.c.id == receipt.c.delivery)
            .where(
                receipt.c.instance.in_(batch),
                receipt.c.state.in_(ARRIVED),
                delivery.c.state.in_(
                    (DeliveryState.DELIVERED, DeliveryState.REFUSED)
                ),  # In the latter state, some instances arrived.
                delivery.c.order_id.is_(None),
                delivery.c.destination.in_(destinations),
            )
            .order_by(delivery.c.id)
        )
        found |= {(row.instance, row.destination): row for row in connection.execute(wanted)}
    return list(found.values())


def _under_way(connection: Connection, studies: Collection[str]) -> set[tuple[str, InstanceKey]]:
    """Return destination and key of instances that open deliveries of these studies already bring."""
    wanted = (
        select(delivery.c.destination, *_KEY)
        .join(receipt, receipt.c.delivery == delivery.c.id)
        .join(instance, instance.c.id == receipt.c.instance)
        .where(
            delivery.c.study_instance_uid.in_(studies),
            delivery.c.state.not_in((DeliveryState.DELIVERED, DeliveryState.REFUSED)),
            delivery.c.order_id.is_(None),
        )
    )
    return {(row.destination, receipts.key_of(row)) for row in connection.execute(wanted)}


_KEY = (instance.c.study_instance_uid, instance.c.series_instance_uid, instance.c.sop_instance_uid)


def wanted_of(connection: Connection, number: int, root: Any) -> list[RequestedInstance]:
    """Return the instances of a request that need an answer."""
    wanted = select(receipt.c.instance, receipt.c.asked_by).where(receipt.c.delivery == number)
    asked_by: Mapping[int, int | None] = {row.instance: row.asked_by for row in connection.execute(wanted)}
    return [
        RequestedInstance(identity, item, asked_by[identity])
        for identity, item in receipts.items(connection, number, root)
    ]


def answered_since(connection: Connection, destination: str, study: str, moment: float) -> set[InstanceKey]:
    """Return instances that requests have sent to a destination since `moment` and have an answer to."""
    wanted = (
        select(*_KEY)
        .join(receipt, receipt.c.instance == instance.c.id)
        .join(delivery, delivery.c.id == receipt.c.delivery)
        .where(
            delivery.c.study_instance_uid == study,
            delivery.c.destination == destination,
            delivery.c.requested,
            receipt.c.attempted,
            receipt.c.at > moment,
            or_(receipt.c.state != ReceiptState.PENDING, receipt.c.code.startswith("HTTP 2")),
        )
    )
    return {receipts.key_of(row) for row in connection.execute(wanted)}


def put_in_its_place(
    connection: Connection,
    number: int,
    requested: RequestedInstance,
    pin: Mapping[str, Any],
    values: Mapping[str, Any],
) -> None:
    """Let a request deliver the duplicate itself, pinned anew, and write `values` into the duplicate's row."""
    old = (receipt.c.delivery == number) & (receipt.c.instance == requested.identity)
    connection.execute(delete(receipt).where(old))
    new = {
        "delivery": number,
        "instance": requested.asked_by,
        "asked_by": requested.asked_by,
        "state": ReceiptState.PENDING,
    }
    connection.execute(insert(receipt).values(**new, **pin))
    connection.execute(update(instance).where(instance.c.id == requested.asked_by).values(**values))


@dataclass(frozen=True, slots=True)
class EndedRequest:
    """How a request has ended: how many instances it sent, and why the archive refused them."""

    sent: int
    unwanted: str | None = None


def close_request(connection: Connection, number: int) -> EndedRequest:
    """Delete the part of an ended request that had nothing to do, and the request if nothing else is left.

    A request refused only because the archive has deleted what it sent gets that as its reason.
    """
    of_it = receipt.c.delivery == number
    sent = connection.scalar(select(func.count()).where(of_it, receipt.c.attempted)) or 0
    refused = of_it & (receipt.c.state == ReceiptState.REFUSED)
    unwanted = None
    if set(connection.scalars(select(receipt.c.code).where(refused).distinct())) == {DELETED}:
        unwanted = failure(int(DELETED, 16)).sentence
        connection.execute(update(delivery).where(delivery.c.id == number).values(reason=unwanted))
    idle = not_(receipt.c.attempted) & (receipt.c.state != ReceiptState.REFUSED)
    connection.execute(delete(receipt).where(of_it, idle))
    if connection.scalar(select(func.count()).where(of_it)) == 0:
        connection.execute(delete(delivery).where(delivery.c.id == number))
    return EndedRequest(sent, unwanted)
