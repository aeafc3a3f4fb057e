"""When a part of the site that works on the ledger was last alive."""

from typing import NamedTuple

from sqlalchemy import Connection, insert, select, update

from pipeline.ledger.tables import heartbeat

WORKER = "worker"


def beat(change: Connection, name: str, started_at: float, now: float) -> None:
    """Write down that the part `name`, begun at `started_at`, is alive `now` (seconds since the epoch)."""
    values = {"started_at": started_at, "beat_at": now}
    if not change.execute(update(heartbeat).where(heartbeat.c.name == name).values(**values)).rowcount:
        change.execute(insert(heartbeat).values(name=name, **values))


def seconds_since(look: Connection, name: str, now: float) -> float | None:
    """Return for how many seconds nothing was heard of the part `name`, None where it never was alive.

    A clock that was set back makes the last heartbeat lie in the future: that counts as heard just now, for the
    next one comes within seconds where the part lives.
    """
    at = look.scalar(select(heartbeat.c.beat_at).where(heartbeat.c.name == name))
    return None if at is None else max(0.0, now - at)


class Beat(NamedTuple):
    """When a part began, and when it was last heard of (seconds since the epoch)."""

    started_at: float
    beat_at: float


def row(look: Connection, name: str) -> Beat | None:
    """Return when the part `name` began and was last heard of, None where it never was alive."""
    wanted = select(heartbeat.c.started_at, heartbeat.c.beat_at).where(heartbeat.c.name == name)
    found = look.execute(wanted).one_or_none()
    return None if found is None else Beat(*found)
