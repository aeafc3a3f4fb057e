"""The circuit breaker of one destination: one delivery at a time tries a peer that is down, instead of all.

It is closed while the peer answers; after a failure it is open until `try_at`; then one trial decides. Its state
is in the destination's row, so that all workers and pages see the same.
"""

from sqlalchemy import Connection

from pipeline import schedule
from pipeline.errors import StorestowError, Transient
from pipeline.ledger import deliveries, destination_states, reports
from pipeline.ledger.rows import DestinationRow


def is_down(noted: DestinationRow | None) -> bool:
    """Tell whether the peer failed at the last attempt; `noted` is the destination's row, None if it has none."""
    return noted is not None and noted.down_since is not None


def admits(connection: Connection, noted: DestinationRow | None, now: float) -> bool:
    """Tell whether a delivery may start now; the one that starts while the breaker is open is the trial.

    If the clock was set back, the trial must not be delayed by that time.
    """
    if noted is None or noted.down_since is None:
        return True
    if 0 < (noted.try_at or 0.0) - now <= schedule.LONGEST_WAIT:
        return False
    return not deliveries.is_in_hand(connection, noted.trial)


def start(connection: Connection, noted: DestinationRow | None, delivery: int) -> None:
    """Note that a delivery has been claimed: if the peer is down and has no trial, this delivery is the trial."""
    if noted is not None and noted.down_since is not None and not deliveries.is_in_hand(connection, noted.trial):
        destination_states.change_row(connection, noted.name, trial=delivery)


def failed(connection: Connection, name: str, error: StorestowError, now: float) -> bool:
    """Record that the peer as a whole failed, and when to try again; return whether it worked before."""
    noted = reports.destination_row(connection, name)
    since = noted.down_since if noted is not None else None
    down_since = now if since is None else since
    retry_after = error.retry_after_seconds if isinstance(error, Transient) else None
    try_at = schedule.next_attempt(now, down_since, retry_after)
    _note(connection, name, noted, str(error), down_since=down_since, try_at=try_at)
    return since is None


def succeeded(connection: Connection, name: str, now: float) -> bool:
    """Record that the peer worked, and make its waiting deliveries due; return whether it was down before."""
    noted = reports.destination_row(connection, name)
    if noted is None or noted.down_since is None:
        return False
    _note(connection, name, noted, None, down_since=None, try_at=None)
    deliveries.make_due(connection, name, now)
    return True


def _note(
    connection: Connection, name: str, noted: DestinationRow | None, reason: str | None, **values: float | None
) -> None:
    """Record how a destination answers; one that a person has paused meanwhile keeps the person's reason."""
    said = {} if noted is not None and noted.paused else {"reason": reason}
    destination_states.change_row(connection, name, **values, **said)
