"""Consign: open a delivery with one pinned receipt an instance, for the line and for orders alike."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from pipeline.destinations import Destination
from pipeline.errors import Transient
from pipeline.ledger import arrivals, deliveries
from pipeline.ledger.arrivals import WaitingStudy
from pipeline.line.prepare import Prepared, PreparedFile
from pipeline.line.prepare_study import PreparedStudy, outcome_of
from pipeline.model import InstanceState
from pipeline.site.site import Site


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A delivery that is to be opened; `held_because` says why it waits for `retry`, None where it does not."""

    receiver: str
    study_instance_uid: str
    order_id: int | None = None
    held_because: str | None = None


def consign(prepared: PreparedStudy, site: Site) -> None:
    """Write down what became of a study's instances, and open a delivery for each destination, in one transaction.

    Raises Transient where an instance could not be prepared now: the study will be due again, for that instance.
    """
    destinations = site.destinations_of(prepared.study.receiver)
    if not destinations:
        _leave_unclaimed(prepared, site)
        return
    put_off = [outcome for outcome in prepared.outcomes.values() if isinstance(outcome, Transient)]
    decided = {
        identity: outcome for identity, outcome in prepared.outcomes.items() if not isinstance(outcome, Transient)
    }
    with site.ledger.transaction() as connection:
        record_outcomes(connection, decided)
        for destination in destinations:
            open_delivery(connection, _of_line(prepared.study, destination, site), decided, destination, site)
    if put_off:
        raise put_off[0]


def _leave_unclaimed(prepared: PreparedStudy, site: Site) -> None:
    """Keep what nobody ordered, for its time; an order may still come for it."""
    with site.ledger.transaction() as connection:
        for identity in prepared.instances:
            values = {"state": InstanceState.PASSED, "reason": "unclaimed", "consigned": True}
            arrivals.set_instance(connection, identity, values)


def _of_line(study: WaitingStudy, destination: Destination, site: Site) -> NewDelivery:
    is_held = not destination.asks_first and study.first_admitted_at < (site.rebuilt_at or 0)
    reason = "the ledger was lost: this may have been delivered before; `retry` sends it" if is_held else None
    return NewDelivery(study.receiver, study.study_instance_uid, held_because=reason)


def record_outcomes(connection: Connection, outcomes: Mapping[int, Prepared | Exception]) -> None:
    """Write down what became of each instance, by its row number."""
    for identity, outcome in outcomes.items():
        arrivals.set_instance(connection, identity, outcome_of(outcome))


def open_delivery(
    connection: Connection,
    new: NewDelivery,
    outcomes: Mapping[int, Prepared | Exception],
    destination: Destination,
    site: Site,
) -> None:
    """Open one delivery of everything that is ready for the destination, pinned file by file; none of nothing."""
    pins = [
        {"instance": identity, **pin_of(output, site)}
        for identity, ready in outcomes.items()
        if isinstance(ready, Prepared)
        for output in ready.outputs
        if output.encoding == destination.encode
    ]
    if not pins:
        return
    now = time.time()
    values = {
        "destination": destination.name,
        "receiver": new.receiver,
        "study_instance_uid": new.study_instance_uid,
        "created_at": now,
        "due_at": now,
        "held": new.held_because is not None,
        "reason": new.held_because,
        "order_id": new.order_id,
    }
    deliveries.consign(connection, values, pins)


def pin_of(output: PreparedFile, site: Site) -> dict[str, Any]:
    """Return what the receipt says of the very file that will be sent."""
    return {
        "path": str(output.path.relative_to(site.spool.root)),
        "sha256": output.sha256,
        "size": output.size,
        "transfer_syntax_uid": output.transfer_syntax_uid,
        "encoding": output.encoding,
    }
