"""The attempts of deliveries: when each began and ended, on which machine, and what was answered.

A delivery that goes on with what was added to it meanwhile is still the same attempt, as its count says.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, delete, exists, func, insert, select, update

from pipeline.ledger.tables import attempt, delivery, instance, receipt
from pipeline.model import ARRIVED, DeliveryState

MOST = 100  # Attempts kept of one delivery: the first, and the newest. A week of trials an hour apart has 168.


class DeliveryAttempt(NamedTuple):
    """One attempt; the counts are those of the whole delivery at its end, None while it lasts."""

    delivery: int
    destination: str
    number: int
    began_at: float
    ended_at: float | None
    state: DeliveryState
    reason: str | None
    node: str
    instances: int | None
    arrived: int | None
    verified: int | None
    codes: str | None


def begin(connection: Connection, number: int, attempts: int, node: str, now: float) -> None:
    """Note that the machine `node` attempts a delivery for the time `attempts`; one that goes on keeps its row."""
    values: dict[str, Any] = {"state": DeliveryState.SENDING, "node": node}
    its_row = {"its_delivery": number, "its_number": attempts}
    if not connection.execute(_BEGIN_AGAIN, its_row | values).rowcount:
        values |= {"delivery": number, "number": attempts, "began_at": now}
        connection.execute(_BEGIN, values)
    if attempts > MOST:
        is_old = (attempt.c.number > 1) & (attempt.c.number <= attempts - MOST + 1)
        connection.execute(delete(attempt).where(attempt.c.delivery == number, is_old))


_BEGIN = insert(attempt)
_BEGIN_AGAIN = update(attempt).where(
    attempt.c.delivery == bindparam("its_delivery"), attempt.c.number == bindparam("its_number")
)


def end(connection: Connection, number: int, state: DeliveryState, reason: str | None, now: float) -> None:
    """Note how the attempt in hand ended, if there is one, with what the receipts say now."""
    row = connection.execute(_ANSWERS, {"number": number}).one()
    values: dict[str, Any] = {"instances": row[0], "arrived": row[1], "verified": row[2]}
    values |= {"codes": range_of(row[3], row[4]), "ended_at": now, "state": state, "reason": reason}
    connection.execute(_END, {"its_delivery": number, **values})


_ANSWERS = select(
    func.count(),
    func.count().filter(receipt.c.state.in_(ARRIVED)),
    func.count().filter(receipt.c.verified),
    func.min(receipt.c.code),
    func.max(receipt.c.code),
).where(receipt.c.delivery == bindparam("number"))
_END = update(attempt).where(attempt.c.delivery == bindparam("its_delivery"), attempt.c.ended_at.is_(None))


def has_ended(connection: Connection, delivery_number: int, number: int) -> bool:
    """Tell whether the end of an attempt was recorded by who made it, not by who has taken the delivery over."""
    is_it = (attempt.c.delivery == delivery_number) & (attempt.c.number == number)
    state = connection.scalar(select(attempt.c.state).where(is_it))
    return state in {DeliveryState.DELIVERED, DeliveryState.DEFERRED, DeliveryState.REFUSED}


def range_of(low: str | None, high: str | None) -> str:
    """Return the lowest and highest code of several answers as one text."""
    return (low or "") if low == high else f"{low or 'none'} to {high}"


def of_study(connection: Connection, study: str, at_most: int) -> list[DeliveryAttempt]:
    """Return the newest attempts to deliver anything of a study, the oldest of them first."""
    inside = (
        select(receipt.c.delivery)
        .join(instance, instance.c.id == receipt.c.instance)
        .where(instance.c.study_instance_uid == study)
    )
    return _of(connection, inside, at_most)


def of_subject(connection: Connection, named: Any, at_most: int) -> list[DeliveryAttempt]:
    """Return the newest attempts to deliver any instance selected by `named`, the oldest of them first."""
    inside = select(receipt.c.delivery).join(instance, instance.c.id == receipt.c.instance).where(named)
    return _of(connection, inside, at_most)


def as_json(connection: Connection, arrival: str) -> list[dict[str, Any]]:
    """Return the attempts of the deliveries of an arrival's instances, for its account."""
    return [dict(row) for row in connection.execute(_OF_ARRIVAL, {"arrival": arrival}).mappings()]


_OF_ARRIVAL = (
    select(attempt)
    .where(
        attempt.c.delivery.in_(
            select(receipt.c.delivery)
            .join(instance, instance.c.id == receipt.c.instance)
            .where(instance.c.arrival == bindparam("arrival"))
        )
    )
    .order_by(attempt.c.delivery, attempt.c.number)
)


def enter_missing(connection: Connection, rows: Iterable[Mapping[str, Any]], numbers: Mapping[int, int]) -> None:
    """Enter attempts from an account into a ledger where the deliveries have other `numbers`."""
    for row in rows:
        values = {**row, "delivery": numbers[row["delivery"]]}
        is_it = (attempt.c.delivery == values["delivery"]) & (attempt.c.number == row["number"])
        if not connection.scalar(select(exists(select(attempt.c.number).where(is_it)))):
            connection.execute(insert(attempt).values(**values))


def _of(connection: Connection, deliveries: Any, at_most: int) -> list[DeliveryAttempt]:
    columns = (
        delivery.c.destination if name == "destination" else attempt.c[name] for name in DeliveryAttempt._fields
    )
    wanted = select(*columns).join(delivery, delivery.c.id == attempt.c.delivery)
    newest = wanted.where(attempt.c.delivery.in_(deliveries)).order_by(
        attempt.c.began_at.desc(), attempt.c.delivery.desc(), attempt.c.number.desc()
    )
    return [DeliveryAttempt(*row) for row in connection.execute(newest.limit(at_most))][::-1]
