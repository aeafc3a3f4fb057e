"""When each worker that uses the ledger last reported, by the clock of its machine. Its claims have its name."""

from typing import NamedTuple

from sqlalchemy import Connection, insert, select, update

from pipeline.ledger.tables import heartbeat


def beat(connection: Connection, name: str, started_at: float, now: float) -> None:
    """Record that the worker `name`, started at `started_at`, is alive `now` (seconds since the epoch)."""
    values = {"started_at": started_at, "beat_at": now}
    if not connection.execute(update(heartbeat).where(heartbeat.c.name == name).values(**values)).rowcount:
        connection.execute(insert(heartbeat).values(name=name, **values))


def seconds_since(connection: Connection, name: str, now: float) -> float | None:
    """Return the seconds since the last report of the worker `name`, None if it never reported.

    After the clock was set back, the last report lies in the future; it counts as just now, because a living
    worker reports again within seconds.
    """
    at = connection.scalar(select(heartbeat.c.beat_at).where(heartbeat.c.name == name))
    return None if at is None else max(0.0, now - at)


class Beat(NamedTuple):
    """When a worker started, and when it last reported (seconds since the epoch)."""

    started_at: float
    beat_at: float


def row(connection: Connection, name: str) -> Beat | None:
    """Return when the worker `name` started and last reported, None if it never did."""
    wanted = select(heartbeat.c.started_at, heartbeat.c.beat_at).where(heartbeat.c.name == name)
    found = connection.execute(wanted).one_or_none()
    return None if found is None else Beat(*found)
