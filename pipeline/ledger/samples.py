"""Measurements every few minutes, for charts of the last days."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import Connection, delete, insert, select

from pipeline.ledger.tables import sample

KEPT_SECONDS = 8 * 86400.0
SHORTEST_GROWTH_SECONDS = 3600.0  # growth of less is no rate


class SampleKind(StrEnum):
    """What is measured; for a destination, `name` is its name."""

    FREE = "free"  # Free bytes in the spool's file system.
    LEDGER = "ledger"  # Bytes of the ledger's file.
    WAITING = "waiting"  # Open deliveries of a destination.
    OLDEST = "oldest"  # Seconds since the oldest of them was opened.


class Sample(NamedTuple):
    """One value at one moment (seconds since the epoch)."""

    at: float
    kind: SampleKind
    name: str
    value: float


def take(connection: Connection, at: float, values: Mapping[tuple[SampleKind, str], float]) -> None:
    """Record the values of the moment `at`, and delete samples older than `KEPT_SECONDS`."""
    connection.execute(delete(sample).where(sample.c.at < at - KEPT_SECONDS))
    connection.execute(delete(sample).where(sample.c.at >= at))  # The clock was set back.
    rows = [{"at": at, "kind": kind, "name": name, "value": value} for (kind, name), value in values.items()]
    if rows:
        connection.execute(insert(sample), rows)


def ledger_growth(connection: Connection) -> float | None:
    """Return by how many bytes a day the ledger has grown in the last days, None where it is not known yet."""
    taken = select(sample.c.at, sample.c.value).where(sample.c.kind == SampleKind.LEDGER)
    first = connection.execute(taken.order_by(sample.c.at).limit(1)).one_or_none()
    last = connection.execute(taken.order_by(sample.c.at.desc()).limit(1)).one_or_none()
    if first is None or last is None or last.at - first.at < SHORTEST_GROWTH_SECONDS:
        return None
    return float((last.value - first.value) / (last.at - first.at) * 86400)


def since(connection: Connection, moment: float) -> list[Sample]:
    """Return the samples since `moment`, the oldest first."""
    wanted = select(sample).where(sample.c.at >= moment).order_by(sample.c.at)
    return [Sample(row.at, SampleKind(row.kind), row.name, row.value) for row in connection.execute(wanted)]
