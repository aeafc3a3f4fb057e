"""Which alarms were sent, and when: after a restart the worker sends none twice."""

from typing import NamedTuple

from sqlalchemy import Connection, delete, insert, select

from pipeline.ledger import notes
from pipeline.ledger.tables import told_alarm

SUMMARY_KEY = "alarm.summary-at"  # The note of when the last daily summary was sent.


class ToldAlarm(NamedTuple):
    """One alarm: when it began, when it was last sent (0: not yet), when it ended (None: it holds).

    `node` is the node of a cluster that it is about, None for one about the site; until `claimed_until` another
    node does not send it, because the one that has claimed it may be doing so.
    """

    key: str
    since: float
    told_at: float
    ended_at: float | None
    node: str | None = None
    claimed_until: float | None = None


def read(connection: Connection) -> list[ToldAlarm]:
    """Return every alarm that holds, or ended recently."""
    return [ToldAlarm(*row) for row in connection.execute(select(told_alarm))]


def of(connection: Connection, node: str | None) -> list[ToldAlarm]:
    """Return the alarms about `node`; None: about the site."""
    return [known for known in read(connection) if known.node == node]


def write(connection: Connection, alarms: list[ToldAlarm], node: str | None = None) -> None:
    """Replace the known alarms about `node` by these; None: about the site."""
    connection.execute(delete(told_alarm).where(told_alarm.c.node.is_not_distinct_from(node)))
    if alarms:
        connection.execute(insert(told_alarm), [known._asdict() for known in alarms])


def summary_at(connection: Connection) -> float | None:
    """Return when the last daily summary was sent (seconds since the epoch), None if none ever was."""
    text = notes.read(connection, SUMMARY_KEY)
    return None if text is None else float(text)


def set_summary_at(connection: Connection, moment: float) -> None:
    """Record when the last daily summary was sent."""
    notes.write(connection, SUMMARY_KEY, str(moment))
