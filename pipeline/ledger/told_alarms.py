"""Which alarms somebody was told of, and when: a worker that starts again tells nobody twice."""

from typing import NamedTuple

from sqlalchemy import Connection, delete, insert, select

from pipeline.ledger import notes
from pipeline.ledger.tables import told_alarm

SUMMARY_KEY = "alarm.summary-at"  # the note of when the last daily summary was sent


class ToldAlarm(NamedTuple):
    """One alarm: since when it holds, when it was last told (0: not yet), when it ended (None: it holds)."""

    key: str
    since: float
    told_at: float
    ended_at: float | None


def read(connection: Connection) -> list[ToldAlarm]:
    """Return every alarm that holds, or ended not long ago."""
    return [ToldAlarm(*row) for row in connection.execute(select(told_alarm))]


def write(connection: Connection, alarms: list[ToldAlarm]) -> None:
    """Put these alarms in the place of those that are known."""
    connection.execute(delete(told_alarm))
    if alarms:
        connection.execute(insert(told_alarm), [known._asdict() for known in alarms])


def summary_at(connection: Connection) -> float | None:
    """Return when the last daily summary was sent (seconds since the epoch), None where none ever was."""
    text = notes.read(connection, SUMMARY_KEY)
    return None if text is None else float(text)


def set_summary_at(connection: Connection, moment: float) -> None:
    """Note when the last daily summary was sent."""
    notes.write(connection, SUMMARY_KEY, str(moment))
