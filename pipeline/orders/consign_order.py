"""Make one consignment of the instances that were retrieved for an order.

Instances from the PACS are not coerced. Before anything is delivered, the patient of every instance is checked: an
archive may answer a query for one patient and send another's images, and no disc or print of two patients may be
made.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from pipeline import engine
from pipeline.destinations import Destination
from pipeline.dicom.patient import Patient
from pipeline.errors import Configuration, Transient
from pipeline.events import Event, alarm
from pipeline.ledger import orders, retrievals
from pipeline.ledger.completeness import of_wish
from pipeline.ledger.rows import OrderRow, SoundInstanceRow
from pipeline.line.consign import NewDelivery, open_delivery, pins_for, record_outcomes
from pipeline.line.prepare import PrepareTask
from pipeline.line.prepare_study import limits_of, task_of
from pipeline.line.prepare_with_patient import (
    PreparedWithPatient,
    as_received,
    goes_as_received,
    prepare_identified,
)
from pipeline.model import OrderError, OrderStage, OrderState
from pipeline.orders import prove
from pipeline.orders.finish import end, end_within, say
from pipeline.orders.order_completeness import lacking
from pipeline.site.site import Site
from pipeline.spool.hashed_files import state_of


@dataclass(frozen=True, slots=True)
class OrderItems:
    """The instances that an order must deliver; `sent_before` counts those that an earlier order has delivered."""

    rows: Sequence[SoundInstanceRow]
    receiver: str  # The receiver whose rules apply; "" if instances are sent unchanged.
    sent_before: int = 0


def consign(number: int, site: Site) -> None:
    """Prepare the instances of an order, and open its one delivery with a pin for each file.

    The order ends instead if it must not be delivered, and is queued again if it lacks instances. Raises Transient
    if this machine cannot prepare an instance now; the step is then tried again.
    """
    with site.ledger.reading() as connection:
        order = orders.one(connection, number)
    if (destination := destination_of(order, site)) is None:
        return
    with site.ledger.reading() as connection:
        is_short = not order.incomplete_allowed and bool(lacking(connection, order))
        load = _load(connection, order, destination)
    if is_short:  # Another order has found that an instance of this order cannot be read.
        with site.ledger.transaction() as connection:
            orders.set_stage(connection, number, OrderStage.QUEUED)
        return
    ready = prepared(load, destination, site)
    if prove.before_delivery(order, patients_of(load, ready), site):
        open_one_delivery(order, load, ready, destination, site)


def destination_of(order: OrderRow, site: Site) -> Destination | None:
    """Return the destination of an order; None if the order has ended because it is no longer configured."""
    try:
        return site.settings.destination_named(order.destination)
    except Configuration as error:
        end(order.id, OrderState.FAILED, site, OrderError.NOT_CONFIGURED, str(error))
        return None


def open_one_delivery(  # noqa: PLR0913, PLR0917  # one order with what it brings, and the last question
    order: OrderRow,
    load: OrderItems,
    ready: Mapping[int, PreparedWithPatient | Exception],
    destination: Destination,
    site: Site,
    is_still_to_go: Callable[[Connection], bool] = lambda _: True,
) -> None:
    """Record the result for every instance, and open the delivery; or end an order that must not be incomplete.

    Nothing is done if the order has ended meanwhile, or `is_still_to_go` is False: the next look decides again.
    """
    lost = sum(isinstance(answer, Exception) for answer in ready.values())
    unreadable = f"{lost} of {len(ready)} instances cannot be read; nothing was sent"
    how = (OrderState.PARTIAL, OrderError.MOVE_INCOMPLETE, unreadable)
    is_short = bool(lost) and not order.incomplete_allowed
    outcomes = {
        identity: answer.prepared if isinstance(answer, PreparedWithPatient) else answer
        for identity, answer in ready.items()
    }
    with site.ledger.transaction() as connection:
        if not orders.is_open(connection, order.id) or not is_still_to_go(connection):
            return
        if orders.delivery_of(connection, order.id) is not None:  # Another node took the steps over meanwhile.
            return
        record_outcomes(connection, outcomes)
        if is_short:
            end_within(connection, order.id, *how)
        else:
            more = {"sent_before": load.sent_before, "last_progress_at": time.time()}
            orders.set_stage(connection, order.id, OrderStage.DELIVERING, **more)
        if load.rows and not is_short:
            new = NewDelivery(load.receiver, load.rows[0].study_instance_uid, order.id)
            open_delivery(connection, new, pins_for(destination, outcomes, site), destination.name)
            site.ledger.engine.ring(connection, engine.deliver(destination.name))
    if is_short:
        say(order.id, *how)


def _load(connection: Connection, order: OrderRow, destination: Destination) -> OrderItems:
    """Return the retrieved instances, except those that an earlier order for the same request has delivered.

    A file is made of all instances, and so is the delivery of an order with `again`.
    """
    rows = _retrieved(connection, order)
    if destination.makes_file or order.again:
        return OrderItems(rows, "")
    brought = orders.brought_before(connection, order)
    left = [row for row in rows if content_of(row) not in brought]
    return OrderItems(left, "", len(rows) - len(left))


def content_of(row: SoundInstanceRow) -> tuple[str, str, str]:
    """Return Series and SOP Instance UID and the SHA-256 of the data set."""
    return row.series_instance_uid, row.sop_instance_uid, row.data_set_sha256


def _retrieved(connection: Connection, order: OrderRow) -> list[SoundInstanceRow]:
    """Return the instances of all studies of an order, one for each key, in the order received."""
    found = {}
    for link in orders.wishes(connection, order.id):
        if link.retrieval is None:
            continue
        held = retrievals.held(connection, link.retrieval)
        counting = of_wish(
            link,
            order.modalities,
            retrievals.row(connection, link.retrieval),
            retrievals.came(connection, link.retrieval),
        ).instances
        for key in counting:
            found[(link.study_instance_uid, *key)] = held[key]
    return sorted(found.values(), key=lambda row: row.id)


def prepared(load: OrderItems, destination: Destination, site: Site) -> dict[int, PreparedWithPatient | Exception]:
    """Return for each instance what was prepared, or its error; raises Transient if one cannot be prepared now."""
    tasks = [task_of(row, load.receiver, {destination.encode}, site) for row in load.rows]
    ready = _ready_as_received(zip(tasks, load.rows, strict=True), site)
    to_read = [task for task in tasks if task.instance not in ready]
    for task, answer in site.pool_for_orders.each(prepare_identified, to_read, limits_of):
        if isinstance(answer, Transient):
            raise answer
        if isinstance(answer, Exception):
            uid = task.key.sop_instance_uid
            alarm(Event.QUARANTINED, study=task.key.study_instance_uid, instance=uid, reason=answer)
        ready[task.instance] = answer
    return ready


def _ready_as_received(
    tasks: Iterable[tuple[PrepareTask, SoundInstanceRow]], site: Site
) -> dict[int, PreparedWithPatient | Exception]:
    """Return the results for instances that are sent as received and whose patient was kept when identified."""
    ready: dict[int, PreparedWithPatient | Exception] = {}
    for task, row in tasks:
        if not goes_as_received(task):
            continue
        with contextlib.suppress(OSError):  # The next step reads the file, and reports the error.
            if patient := site.as_received.take(state_of(task.source.stat())):
                prepared = as_received(task, row.transfer_syntax_received)
                ready[task.instance] = PreparedWithPatient(prepared, patient)
    return ready


def patients_of(
    load: OrderItems, ready: Mapping[int, PreparedWithPatient | Exception]
) -> list[tuple[SoundInstanceRow, Patient]]:
    """Return the instances that are ready, each with its patient."""
    return [(row, one.patient) for row in load.rows if isinstance(one := ready[row.id], PreparedWithPatient)]
