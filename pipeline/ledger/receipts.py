"""The ledger's statements about receipts: what a delivery brings, and what was answered of each instance."""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, func, or_, select, true, update

from pipeline.ledger.batches import batches
from pipeline.ledger.tables import delivery, instance, receipt
from pipeline.model import ARRIVED, InstanceKey, Item, Receipt, ReceiptState


def items(connection: Connection, number: int, spool: Path, *, answered: bool = False) -> list[tuple[int, Item]]:
    """Return the instances of a delivery without a receipt, or all if `answered`, with their row numbers."""
    wanted = _items(answered=answered)
    return [(row.instance, item_of(row, spool)) for row in connection.execute(wanted, {"number": number})]


# The other columns would cost as much again: each is converted for each of maybe thousands of instances.
_OF_AN_ITEM = (
    *(receipt.c[name] for name in ("path", "sha256", "size", "transfer_syntax_uid", "attempted")),
    *(instance.c[name] for name in ("study_instance_uid", "series_instance_uid", "sop_instance_uid")),
    *(instance.c[name] for name in ("sop_class_uid", "calling_ae_title", "called_ae_title", "institution")),
)


@cache
def _items(*, answered: bool) -> Select[Any]:
    """Return the statement of `items`, made once: to make it takes longer than to execute it."""
    return (
        select(receipt.c.instance, *_OF_AN_ITEM)
        .join(instance, instance.c.id == receipt.c.instance)
        .where(receipt.c.delivery == bindparam("number"), true() if answered else needs_an_answer())
        .order_by(instance.c.id)
    )


def unanswered(connection: Connection, number: int) -> frozenset[int]:
    """Return the row numbers of a delivery's instances that still need a receipt."""
    return frozenset(connection.scalars(_UNANSWERED, {"number": number}))


def needs_an_answer() -> Any:
    """Return the condition on a receipt that the delivery cannot end with.

    A receipt for another sender's instance that could not be compared is an end: asking again would not make it
    comparable.
    """
    awaits_proof = receipt.c.state.in_(ARRIVED - {ReceiptState.PRESENT}) & receipt.c.verified.is_(False)
    return or_(receipt.c.state == ReceiptState.PENDING, awaits_proof)


def is_not_compared() -> Any:
    """Return the condition on a receipt that a person must `accept` before its original may be deleted."""
    return and_(receipt.c.state == ReceiptState.PRESENT, receipt.c.verified.is_(False))


_UNANSWERED = select(receipt.c.instance).where(receipt.c.delivery == bindparam("number"), needs_an_answer())


def accept(
    connection: Connection, named: Any, destination_name: str | None, reason: str, now: float
) -> tuple[list[int], int]:
    """Count as verified the instances selected by `named` that could not be compared.

    Returns their deliveries, and the number of instances.
    """
    wanted = (
        select(receipt.c.delivery, receipt.c.instance, receipt.c.message)
        .join(delivery, delivery.c.id == receipt.c.delivery)
        .join(instance, instance.c.id == receipt.c.instance)
        .where(named, is_not_compared())
    )
    if destination_name is not None:
        wanted = wanted.where(delivery.c.destination == destination_name)
    rows = list(connection.execute(wanted))
    for row in rows:
        is_it = (receipt.c.delivery == row.delivery) & (receipt.c.instance == row.instance)
        values = {"verified": True, "message": f"{row.message}; accepted by a person: {reason}", "at": now}
        connection.execute(update(receipt).where(is_it).values(**values))
    return sorted({row.delivery for row in rows}), len(rows)


def key_of(row: Any) -> InstanceKey:
    """Return the key of an instance; `row` has its columns."""
    return InstanceKey(row.study_instance_uid, row.series_instance_uid, row.sop_instance_uid)


def item_of(row: Any, spool: Path) -> Item:
    """Return an instance as its receipt pins it; `row` has at least the columns of an item."""
    return Item(
        key=key_of(row),
        path=spool / row.path,
        sha256=row.sha256,
        size=row._mapping[receipt.c.size],  # noqa: SLF001  # SQLAlchemy's public mapping has this name
        sop_class_uid=row.sop_class_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        calling_ae_title=row.calling_ae_title,
        called_ae_title=row.called_ae_title,
        institution=row.institution,
        attempted=row.attempted,
    )


def attempt(connection: Connection, number: int, instances: Iterable[int]) -> None:
    """Record that these instances may be at the peer from now on, whatever happens next."""
    for batch in batches(list(instances)):
        connection.execute(_ATTEMPT, {"number": number, "instances": batch})


_ATTEMPT = (
    update(receipt)
    .where(
        receipt.c.delivery == bindparam("number"),
        receipt.c.instance.in_(bindparam("instances", expanding=True)),
    )
    .values(attempted=True)
)


def record(connection: Connection, number: int, answers: Mapping[int, Receipt], now: float) -> None:
    """Write what the peer said of each instance."""
    if not answers:
        return
    columns = ("state", "code", "message", "verified", "left_out")
    rows = [
        {
            "number": number,
            "row_number": identity,
            "at": now,
            **{column: getattr(answer, column) for column in columns},
        }
        for identity, answer in answers.items()
    ]
    connection.execute(_RECORD, rows)


_RECORD = update(receipt).where(
    receipt.c.delivery == bindparam("number"), receipt.c.instance == bindparam("row_number")
)


def tally(connection: Connection, number: int) -> dict[str, int]:
    """Count the receipts of a delivery by state.

    "unanswered" are those it cannot end with, "not_compared" those of `present` that a person must accept.
    """
    rows = connection.execute(_TALLY, {"number": number}).all()
    counted: dict[str, int] = {row[0]: row[1] for row in rows}
    return counted | {"unanswered": sum(row[2] for row in rows), "not_compared": sum(row[3] for row in rows)}


_TALLY = (
    select(
        receipt.c.state,
        func.count(),
        func.count().filter(needs_an_answer()),
        func.count().filter(is_not_compared()),
    )
    .where(receipt.c.delivery == bindparam("number"))
    .group_by(receipt.c.state)
)
