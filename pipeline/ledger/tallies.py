"""Counts by the hour: what came in, what was delivered, what failed, and how long it took.

A count is written in the transaction of the event it counts. Metrics and charts therefore read a small table,
however large the ledger is, and continue after a restart and after old rows have been removed.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, bindparam, delete, func, insert, select, update

from pipeline.ledger.tables import arrival, delivery, instance, receipt, tally
from pipeline.model import ARRIVED, DeliveryState, InstanceState

HOUR = 3600
HOURS_KEPT = 35 * 24  # Older hours are added up into hour 0; five weeks show what an AE title usually sends.
# Upper bounds of seconds from the end of a study to its verification.
BUCKETS = (10, 30, 60, 120, 300, 600, 1800, 3600, 4 * 3600, 24 * 3600)
BEYOND = "+Inf"
SET_ASIDE = frozenset({InstanceState.QUARANTINED, InstanceState.CONFLICT})


class TallyKind(StrEnum):
    """What is counted; `name` and `detail` of a count depend on it."""

    RECEIVED = "received"  # By receiver and calling AE title; times: arrivals.
    SET_ASIDE = "set-aside"  # By receiver and code; times: instances.
    DELIVERED = "delivered"  # By destination; times: deliveries.
    DEFERRED = "deferred"  # By destination: attempts that failed and will be repeated.
    REFUSED = "refused"  # By destination: deliveries that ended without having arrived.
    VERIFIED = "verified"  # By destination and upper bound of seconds; times: deliveries.
    PIXELS_BEFORE = "pixels-before"  # By destination; bytes before encoding.
    PIXELS_AFTER = "pixels-after"  # By destination; bytes of the same pixels, encoded.
    ORDER = "order"  # By destination and result: the order's state, or its kind of error.


class Tally(NamedTuple):
    """One count, for one hour or several added up."""

    hour: int
    kind: TallyKind
    name: str
    detail: str
    times: int
    instances: int
    bytes: int
    seconds: float
    last_at: float


def add(  # noqa: PLR0913  # the columns of a count, each by its name
    connection: Connection,
    at: float,
    kind: TallyKind,
    name: str,
    detail: str = "",
    *,
    times: int = 1,
    instances: int = 0,
    size: int = 0,
    seconds: float = 0.0,
) -> None:
    """Add to the count of the hour of `at` (seconds since the epoch)."""
    key = {"hour": int(at // HOUR), "kind": kind, "name": name, "detail": detail}
    first = {"times": times, "instances": instances, "bytes": size, "seconds": seconds, "last_at": at}
    more = {f"its_{column}": value for column, value in key.items()}
    more |= {f"more_{column}": value for column, value in first.items()}
    if not connection.execute(_ADD, more).rowcount:
        connection.execute(_BEGIN, key | first)


_BEGIN = insert(tally)
_ADD = (
    update(tally)
    .where(*(tally.c[column] == bindparam(f"its_{column}") for column in ("hour", "kind", "name", "detail")))
    .values(
        {
            **{
                column: tally.c[column] + bindparam(f"more_{column}")
                for column in ("times", "instances", "bytes", "seconds")
            },
            "last_at": bindparam("more_last_at"),
        }
    )
)


def taken_in(connection: Connection, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Count the instances `rows` of the arrival `name`, which have just been entered."""
    receiver, at = connection.execute(_ADMITTED, {"arrival": name}).one()
    instances: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    aside: Counter[str] = Counter()
    for row in rows:
        title = row.get("calling_ae_title") or ""
        instances[title] += 1
        sizes[title] += row["size"]
        if row["state"] in SET_ASIDE:
            aside[_code(row)] += 1
    for title, count in instances.items():
        add(connection, at, TallyKind.RECEIVED, receiver, title, instances=count, size=sizes[title])
    for code, count in aside.items():
        add(connection, at, TallyKind.SET_ASIDE, receiver, code, times=count)


_ADMITTED = select(arrival.c.receiver, arrival.c.admitted_at).where(arrival.c.name == bindparam("arrival"))


def set_aside(connection: Connection, identity: int, values: Mapping[str, Any]) -> None:
    """Count an instance that is set aside by a later stage."""
    receiver, at = connection.execute(
        select(arrival.c.receiver, arrival.c.admitted_at)
        .join(instance, instance.c.arrival == arrival.c.name)
        .where(instance.c.id == identity)
    ).one()
    add(connection, at, TallyKind.SET_ASIDE, receiver, _code(values))


def _code(values: Mapping[str, Any]) -> str:
    return str(values.get("code") or ("conflict" if values["state"] == InstanceState.CONFLICT else "unusable"))


def delivery_changed(connection: Connection, number: int, state: DeliveryState, now: float) -> None:
    """Count that a delivery was delivered, deferred or refused `now`."""
    row = connection.execute(_CHANGED, {"number": number}).one()
    if state == DeliveryState.DEFERRED:
        add(connection, now, TallyKind.DEFERRED, row.destination)
        return
    if state == DeliveryState.REFUSED:
        add(connection, now, TallyKind.REFUSED, row.destination)
    if state == DeliveryState.DELIVERED:
        _delivered(connection, row, now)


def _delivered(connection: Connection, row: Any, now: float) -> None:
    count, size, newest, verified, before, after = connection.execute(_ARRIVED, {"number": row.id}).one()
    add(connection, now, TallyKind.DELIVERED, row.destination, instances=count, size=size)
    if before and after:
        add(connection, now, TallyKind.PIXELS_BEFORE, row.destination, size=before)
        add(connection, now, TallyKind.PIXELS_AFTER, row.destination, size=after)
    if count and verified == count and row.order_id is None:
        seconds = max(0.0, now - newest)
        bound = next((str(limit) for limit in BUCKETS if seconds <= limit), BEYOND)
        add(connection, now, TallyKind.VERIFIED, row.destination, bound, seconds=seconds)


_CHANGED = select(delivery).where(delivery.c.id == bindparam("number"))
_IS_ENCODED = and_(
    receipt.c.encoding != "none", instance.c.encoded_length.is_not(None), instance.c.pixel_length.is_not(None)
)
_ARRIVED = (
    select(
        func.count(),
        func.coalesce(func.sum(receipt.c.size), 0),
        func.max(arrival.c.newest_file_at),
        func.count().filter(receipt.c.verified),
        func.sum(instance.c.pixel_length).filter(_IS_ENCODED),
        func.sum(instance.c.encoded_length).filter(_IS_ENCODED),
    )
    .select_from(receipt)
    .join(instance, instance.c.id == receipt.c.instance)
    .join(arrival, arrival.c.name == instance.c.arrival)
    .where(receipt.c.delivery == bindparam("number"), receipt.c.state.in_(ARRIVED))
)


def totals(connection: Connection) -> list[Tally]:
    """Return every count, all hours added up."""
    wanted = select(
        func.max(tally.c.hour),
        *(tally.c.kind, tally.c.name, tally.c.detail),
        *(func.sum(column) for column in (tally.c.times, tally.c.instances, tally.c.bytes, tally.c.seconds)),
        func.max(tally.c.last_at),
    ).group_by(tally.c.kind, tally.c.name, tally.c.detail)
    return [_tally(row) for row in connection.execute(wanted)]


def since(connection: Connection, moment: float, *kinds: TallyKind) -> list[Tally]:
    """Return the counts of these kinds for each hour since `moment`."""
    wanted = select(tally).where(tally.c.hour >= max(1, int(moment // HOUR)), tally.c.kind.in_(kinds))
    return [_tally(row) for row in connection.execute(wanted.order_by(tally.c.hour))]


def _tally(row: Any) -> Tally:
    return Tally(row[0], TallyKind(row[1]), *row[2:])


def roll_up(connection: Connection, now: float) -> None:
    """Add up hours older than `HOURS_KEPT` into hour 0, so that the table stays small."""
    first_kept = int(now // HOUR) - HOURS_KEPT
    is_old = (tally.c.hour > 0) & (tally.c.hour < first_kept)
    for row in list(connection.execute(select(tally).where(is_old).order_by(tally.c.last_at))):
        old = _tally(row)
        counts = {"times": old.times, "instances": old.instances, "size": old.bytes, "seconds": old.seconds}
        add(connection, 0.0, old.kind, old.name, old.detail, **counts)  # type: ignore[arg-type]  # names fit
        it = (tally.c.hour == 0) & (tally.c.kind == old.kind) & (tally.c.name == old.name)
        latest = {"last_at": old.last_at}
        connection.execute(update(tally).where(it, tally.c.detail == old.detail).values(**latest))
    connection.execute(delete(tally).where(is_old))
