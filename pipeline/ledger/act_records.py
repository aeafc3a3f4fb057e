"""What people did, on the operator's page and by commands: who, when, why; no log line has the reason."""

from typing import NamedTuple

from sqlalchemy import Connection, insert, select

from pipeline.ledger.tables import act


class Act(NamedTuple):
    """One act; `at` is seconds since the epoch, `subject` a destination, study, arrival or order."""

    at: float
    by: str
    what: str
    subject: str
    reason: str | None


def add(connection: Connection, done: Act) -> None:
    """Record what was done."""
    connection.execute(insert(act).values(**done._asdict()))


def newest(connection: Connection, at_most: int, subject: str | None = None) -> list[Act]:
    """Return the last acts, the newest first; with `subject` only those about it."""
    wanted = select(act.c.at, act.c.by, act.c.what, act.c.subject, act.c.reason).order_by(act.c.at.desc())
    if subject is not None:
        wanted = wanted.where(act.c.subject == subject)
    return [Act(*row) for row in connection.execute(wanted.limit(at_most))]
