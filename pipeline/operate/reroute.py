"""`storestow reroute` and `storestow discard`: decide about deliveries to a destination that is gone."""

import time

from pipeline import engine
from pipeline.errors import Usage
from pipeline.events import Event, emit
from pipeline.ledger import Ledger, arrivals, rerouting
from pipeline.ledger.rerouting import GIVEN_UP, REROUTED
from pipeline.line.settle import renew_account
from pipeline.site.reason import reason_of
from pipeline.site.settings import Settings


def reroute(settings: Settings, ledger: Ledger, old: str, new: str) -> list[int]:
    """Give the waiting deliveries of the destination `old` to the destination `new`, from the originals.

    Returns the new deliveries. What `old` has already is not sent again, unless `new` makes files: then it gets
    everything. Raises Usage if nothing waits for `old`, Configuration if `new` is not configured.
    """
    target, now = settings.destination_named(new), time.time()
    if old == new:
        raise Usage("old and new are the same destination")
    opened = []
    with ledger.transaction() as connection:
        rows = rerouting.open_to(connection, old)
        for row in rows:
            whole = target.makes_file
            number = rerouting.open_again(connection, row, new, target.encode, whole=whole, now=now)
            opened += [number] if number is not None else []
        rerouting.close(connection, [row.id for row in rows], REROUTED, f"rerouted to {new}", now)
        ledger.engine.ring(connection, engine.deliver(new))
    if not rows:
        raise Usage(f"nothing waits for the destination {old}")
    for row in rows:
        emit(Event.REROUTED, delivery=row.id, study=row.study_instance_uid, destination=new)
    return opened


def discard(settings: Settings, ledger: Ledger, destination: str, reason: str) -> list[int]:
    """Give up the deliveries that wait for `destination`; the originals stay for their time, and no longer.

    Returns the deliveries. Raises Usage if the reason has not 3 to 200 characters, or nothing waits for it.
    """
    said, now = reason_of(reason, "why nobody needs this any more"), time.time()
    with ledger.transaction() as connection:
        rows = rerouting.open_to(connection, destination)
        rerouting.close(connection, [row.id for row in rows], GIVEN_UP, f"discarded by a person: {said}", now)
        ledger.engine.ring(connection, engine.SETTLE)
    if not rows:
        raise Usage(f"nothing waits for the destination {destination}")
    for row in rows:
        with ledger.reading() as connection:
            settled = arrivals.settled_of(connection, row.id)
        for name in settled:
            renew_account(name, settings.spool, ledger)
        emit(Event.DISCARDED, delivery=row.id, destination=destination)
    return [row.id for row in rows]
