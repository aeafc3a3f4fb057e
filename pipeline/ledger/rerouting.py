"""Deliveries to a destination that is no longer configured: a person reroutes them, or gives them up."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, update

from pipeline.ledger import attempts
from pipeline.ledger.receipts import needs_an_answer
from pipeline.ledger.rows import DeliveryRow, read_all
from pipeline.ledger.tables import delivery, instance, receipt
from pipeline.model import DeliveryState, ReceiptState

REROUTED, GIVEN_UP = "rerouted", "discarded"  # Codes of receipts.
DECIDED = (REROUTED, GIVEN_UP)  # A person has decided: these keep no original, and `retry` ignores them.
OPEN = (DeliveryState.WAITING, DeliveryState.DEFERRED)


_STRANDED = (
    select(delivery.c.destination, func.count(), func.min(delivery.c.created_at))
    .where(
        delivery.c.state.in_((*OPEN, DeliveryState.SENDING)),
        delivery.c.destination.not_in(bindparam("configured", expanding=True)),
    )
    .group_by(delivery.c.destination)
    .order_by(delivery.c.destination)
)


def stranded(connection: Connection, configured: Collection[str]) -> dict[str, tuple[int, float]]:
    """Return, by name, how many open deliveries go to destinations not `configured`, and when the oldest began."""
    rows = connection.execute(_STRANDED, {"configured": list(configured)})
    return {row[0]: (row[1], row[2]) for row in rows}


def open_to(connection: Connection, destination: str) -> list[DeliveryRow]:
    """Return the waiting deliveries to `destination` that belong to no order; who ordered must ask again."""
    wanted = select(delivery).where(
        delivery.c.destination == destination, delivery.c.state.in_(OPEN), delivery.c.order_id.is_(None)
    )
    return read_all(DeliveryRow, connection.execute(wanted.order_by(delivery.c.id)))


def close(connection: Connection, numbers: Sequence[int], code: str, reason: str, now: float) -> None:
    """End deliveries as refused; each instance without an answer gets `code` and `reason`."""
    for number in numbers:
        values = {"state": DeliveryState.REFUSED, "reason": reason, "finished_at": now}
        connection.execute(update(delivery).where(delivery.c.id == number).values(**values))
        connection.execute(
            update(receipt)
            .where(receipt.c.delivery == number, needs_an_answer())
            .values(state=ReceiptState.REFUSED, code=code, message=reason, at=now)
        )
        # One that waits for the rest of its study is in the middle of an attempt.
        attempts.end(connection, number, DeliveryState.REFUSED, reason, now)


def open_again(  # noqa: PLR0913  # each by its name
    connection: Connection, row: DeliveryRow, destination: str, encoding: str, *, whole: bool, now: float
) -> int | None:
    """Open a delivery to `destination` for the rest of the delivery `row`, or for the `whole` of it.

    Returns its number, None if nothing is left to send. Its files are not made yet: each is pinned when it is
    made, before the first attempt.
    """
    wanted = (
        select(instance.c.id, instance.c.size, instance.c.transfer_syntax_received)
        .join(receipt, receipt.c.instance == instance.c.id)
        .where(receipt.c.delivery == row.id)
        .order_by(instance.c.id)
    )
    if not whole:
        wanted = wanted.where(needs_an_answer())
    instances = list(connection.execute(wanted))
    if not instances:
        return None
    values = {
        "destination": destination,
        "receiver": row.receiver,
        "study_instance_uid": row.study_instance_uid,
        "state": DeliveryState.WAITING,
        "created_at": now,
        "due_at": now,
    }
    made = connection.execute(insert(delivery).values(**values)).inserted_primary_key
    assert made is not None
    number: int = made[0]
    pins = {"delivery": number, "state": ReceiptState.PENDING, "path": "", "sha256": "", "encoding": encoding}
    rows = [
        {**pins, "instance": found.id, "size": found.size, "transfer_syntax_uid": found.transfer_syntax_received}
        for found in instances
    ]
    connection.execute(insert(receipt), rows)
    return number


def pin(connection: Connection, number: int, identity: int, pinned: dict[str, Any]) -> bool:
    """Record which file of an instance a delivery will send; an existing pin stays, and False says so."""
    is_unpinned = (receipt.c.delivery == number) & (receipt.c.instance == identity) & (receipt.c.sha256 == "")
    return bool(connection.execute(update(receipt).where(is_unpinned).values(**pinned)).rowcount)
