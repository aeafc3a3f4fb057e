"""Pause a destination, and resume it: a person decides, and the ledger keeps who, when and why."""

import time

from pipeline import engine
from pipeline.errors import Usage
from pipeline.events import Event, emit
from pipeline.ledger import Ledger, destination_states
from pipeline.site.settings import Settings

LONGEST_REASON = 200  # Characters.


def pause(settings: Settings, ledger: Ledger, destination: str, reason: str, by: str | None = None) -> None:
    """Send nothing to `destination` until `resume`; `by` is the name the person typed.

    Raises Configuration if no such destination is configured, Usage if the reason is too long.
    """
    settings.destination_named(destination)
    said = " ".join(reason.split())
    if len(said) > LONGEST_REASON:
        raise Usage(f"the reason may have {LONGEST_REASON} characters")
    said = said or "paused by a person"
    with ledger.transaction() as connection:
        values = {"paused": True, "reason": said, "paused_by": by, "paused_at": time.time()}
        destination_states.change_row(connection, destination, **values)
        ledger.engine.ring(connection, engine.deliver(destination))
    emit(Event.PAUSED, destination=destination, by=by)


def resume(settings: Settings, ledger: Ledger, destination: str, by: str | None = None) -> None:
    """Send to a paused `destination` again; raises Configuration if no such destination is configured."""
    settings.destination_named(destination)
    with ledger.transaction() as connection:
        values = {"paused": False, "reason": None, "paused_by": None, "paused_at": None}
        destination_states.change_row(connection, destination, **values)
        ledger.engine.ring(connection, engine.deliver(destination))
    emit(Event.RESUMED, destination=destination, by=by)
