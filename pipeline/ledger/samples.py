"""How things stood every few minutes: what pictures of the last days are drawn from."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import Connection, delete, insert, select

from pipeline.ledger.tables import sample

KEPT_SECONDS = 8 * 86400.0


class SampleKind(StrEnum):
    """What is measured; of a destination, `name` is its name."""

    FREE = "free"  # bytes free in the spool's file system
    LEDGER = "ledger"  # bytes of the ledger's file
    WAITING = "waiting"  # deliveries of a destination that have not ended
    OLDEST = "oldest"  # seconds since the oldest of them was opened


class Sample(NamedTuple):
    """One value at one moment (seconds since the epoch)."""

    at: float
    kind: SampleKind
    name: str
    value: float


def take(connection: Connection, at: float, values: Mapping[tuple[SampleKind, str], float]) -> None:
    """Write down how things stand at `at`, and forget what is older than `KEPT_SECONDS`."""
    connection.execute(delete(sample).where(sample.c.at < at - KEPT_SECONDS))
    connection.execute(delete(sample).where(sample.c.at >= at))  # the clock was set back
    rows = [{"at": at, "kind": kind, "name": name, "value": value} for (kind, name), value in values.items()]
    if rows:
        connection.execute(insert(sample), rows)


def since(connection: Connection, moment: float) -> list[Sample]:
    """Return what was measured since `moment`, the oldest first."""
    wanted = select(sample).where(sample.c.at >= moment).order_by(sample.c.at)
    return [Sample(row.at, SampleKind(row.kind), row.name, row.value) for row in connection.execute(wanted)]
