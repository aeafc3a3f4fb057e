"""Consign: open a delivery with one pinned receipt for each instance, for the line and for orders."""

import logging
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from pipeline import engine
from pipeline.destinations import Destination
from pipeline.errors import Transient
from pipeline.events import Event, alarm, emit
from pipeline.ledger import (
    claims,
    deliveries,
    growing_deliveries,
    instance_rows,
    study_routes,
    unclaimed,
    waiting_studies,
)
from pipeline.ledger.claims import Fenced
from pipeline.ledger.rows import SoundInstanceRow
from pipeline.ledger.waiting_studies import WaitingStudy
from pipeline.line.prepare import Prepared, PreparedFile
from pipeline.line.prepare_study import PreparedPart, give_up, outcome_of
from pipeline.site.site import Site


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A delivery to open; `held_because` is the reason why it waits for `retry`, None if it does not wait."""

    receiver: str
    study_instance_uid: str
    order_id: int | None = None
    held_because: str | None = None
    growing: bool = False  # Later parts of the study will be added.


def consign(parts: Iterable[PreparedPart], site: Site) -> None:
    """Record the results for a study's instances, part by part, and give each part to its destinations.

    The first part opens a delivery for each destination, and the others are added to it; each part is one
    transaction. A crash between two parts leaves the rest of the study waiting: it is prepared again and added.
    If another worker has taken the study over, or a person has decided about one of its instances since they were
    read, nothing more is recorded; instances that still wait are prepared again.

    Raises Transient if an instance could not be prepared now: the study will be due again, for that instance.
    """
    part: PreparedPart | None = None
    put_off: list[Transient] = []
    try:
        for part in parts:
            put_off += [outcome for outcome in part.outcomes.values() if isinstance(outcome, Transient)]
            _consign_part(part, site)
    except BaseException as error:
        # What prepares gives up, too, and does so now: the garbage collector would have it do so in whichever
        # thread it runs, maybe within a transaction, for whose end it then would wait.
        if isinstance(parts, Generator):
            parts.close()
        if part is not None:
            give_up(part.claim, site)
        if not isinstance(error, Fenced):
            raise
        assert part is not None
        about = {"study": part.study.study_instance_uid, "receiver": part.study.receiver}
        alarm(Event.FENCED, what="process", **about)
    if put_off:
        raise put_off[0]


def _consign_part(part: PreparedPart, site: Site) -> None:
    decided = {key: outcome for key, outcome in part.outcomes.items() if not isinstance(outcome, Transient)}
    with site.ledger.step() as connection:
        claims.require_study(connection, part.claim)
        waiting_studies.require_not_consigned(connection, [*part.outcomes, *part.unrouted])
        if part.is_first and not (part.is_last and len(decided) == len(part.outcomes)):
            study_routes.decide(connection, _undecided(part))
        # No route and no `to` sends these anywhere; they are kept, and deleted by age.
        instance_rows.change_rows(connection, dict.fromkeys(part.unrouted, unclaimed.COLUMNS))
        record_outcomes(connection, decided)
        for destination in part.routes.destinations():
            _give(connection, part, decided, destination, site)
            site.ledger.engine.ring(connection, engine.deliver(destination))
        if part.is_last:
            _end_growth(connection, part.study)
            claims.release_study(connection, part.claim)
    if part.unrouted:  # Only the first part has any.
        about = {"study": part.study.study_instance_uid, "receiver": part.study.receiver}
        emit(Event.UNCLAIMED, logging.WARNING, **about, instances=len(part.unrouted))
    if not part.is_last:
        site.spool.wake_worker()


def _give(
    connection: Connection,
    part: PreparedPart,
    outcomes: Mapping[int, Prepared | Exception],
    destination: str,
    site: Site,
) -> None:
    """Add a part of a study to the delivery that an earlier part has opened, or open one."""
    study, pins = part.study, _pins_on_route(part, outcomes, destination, site)
    if part.is_first and (along := part.routes.along.get(destination)):
        pins += [_not_made_yet(row, encode) for row, encode in along]
        unclaimed.claim(connection, [row.id for row, _ in along])
    number = growing_deliveries.open_one(connection, destination, study.receiver, study.study_instance_uid)
    if number is not None:
        growing_deliveries.add(connection, number, pins, time.time(), is_last=part.is_last)
    elif pins:
        open_delivery(connection, _of_line(part, destination, site), pins, destination)


def _end_growth(connection: Connection, study: WaitingStudy) -> None:
    """End the growth of all deliveries of the study, also of those to which the last part adds nothing."""
    for number in growing_deliveries.all_of_study(connection, study.receiver, study.study_instance_uid):
        growing_deliveries.add(connection, number, (), time.time(), is_last=True)


def _undecided(part: PreparedPart) -> dict[int, study_routes.Decided]:
    """Return the routes of the instances whose routes are not in the ledger yet."""
    return {
        identity: tuple((way.destination, way.encode) for way in part.routes.of[identity])
        for identity in part.routes.undecided
    }


def _pins_on_route(
    part: PreparedPart, outcomes: Mapping[int, Prepared | Exception], destination: str, site: Site
) -> list[dict[str, Any]]:
    """Return the pins of the files that go to a destination, each in the encoding of its route."""
    return _pins(outcomes, lambda identity: part.routes.encode_for(destination, identity), site)


def _not_made_yet(row: SoundInstanceRow, encode: str) -> dict[str, Any]:
    """Return the pin of an instance whose file for the destination is made before the first attempt."""
    pin = {"path": "", "sha256": "", "encoding": encode}
    return {"instance": row.id, "size": row.size, "transfer_syntax_uid": row.transfer_syntax_received, **pin}


def _of_line(part: PreparedPart, name: str, site: Site) -> NewDelivery:
    study = part.study
    destination = next((one for one in site.settings.destination if one.name == name), None)
    asks_first = destination is not None and destination.asks_first
    is_held = not asks_first and study.first_admitted_at < (site.rebuilt_at or 0)
    reason = "the ledger was lost: this may have been delivered before; `retry` sends it" if is_held else None
    return NewDelivery(study.receiver, study.study_instance_uid, held_because=reason, growing=not part.is_last)


def record_outcomes(connection: Connection, outcomes: Mapping[int, Prepared | Exception]) -> None:
    """Record the result for each instance, by its row number."""
    instance_rows.change_rows(connection, {key: outcome_of(outcome) for key, outcome in outcomes.items()})


def pins_for(
    destination: Destination, outcomes: Mapping[int, Prepared | Exception], site: Site
) -> list[dict[str, Any]]:
    """Return the pins of the files that are ready for a destination, one for each instance."""
    return _pins(outcomes, lambda _identity: destination.encode, site)


def _pins(
    outcomes: Mapping[int, Prepared | Exception], encode_for: Callable[[int], str | None], site: Site
) -> list[dict[str, Any]]:
    return [
        {"instance": identity, **pin_of(output, site)}
        for identity, ready in outcomes.items()
        if isinstance(ready, Prepared)
        for output in ready.outputs
        if output.encoding == encode_for(identity)
    ]


def open_delivery(
    connection: Connection, new: NewDelivery, pins: Sequence[Mapping[str, Any]], destination: str
) -> None:
    """Open one delivery with a receipt for each of `pins`; do nothing if there are none."""
    if not pins:
        return
    now = time.time()
    values = {
        "destination": destination,
        "receiver": new.receiver,
        "study_instance_uid": new.study_instance_uid,
        "created_at": now,
        "due_at": now,
        "held": new.held_because is not None,
        "reason": new.held_because,
        "order_id": new.order_id,
        "growing": new.growing,
    }
    deliveries.consign(connection, values, pins)


def pin_of(output: PreparedFile, site: Site) -> dict[str, Any]:
    """Return the pin of a file that will be sent, and keep its hash: the file may be sent a moment later."""
    if output.state:
        site.hashed.keep(output.state, output.sha256)
    return {
        "path": str(output.path.relative_to(site.spool.store)),
        "sha256": output.sha256,
        "size": output.size,
        "transfer_syntax_uid": output.transfer_syntax_uid,
        "encoding": output.encoding,
    }
