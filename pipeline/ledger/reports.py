"""Answers for people: counts, the history of an instance, what is set aside (docs/design.md)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, String, and_, bindparam, cast, exists, func, not_, or_, select, text

from pipeline.dicom.reasons import DELETED
from pipeline.ledger.rerouting import DECIDED
from pipeline.ledger.rows import (
    ArrivalRow,
    DeliveryRow,
    DestinationRow,
    InstanceRow,
    OrderRow,
    SetAsideRow,
    TraceRow,
    read_all,
    read_one_or_none,
)
from pipeline.ledger.tables import arrival, delivery, destination, instance, order_study, orders, receipt
from pipeline.model import ArrivalState, DeliveryState, InstanceState, ReceiptState

SET_ASIDE = (InstanceState.QUARANTINED, InstanceState.CONFLICT)
OPEN = (DeliveryState.WAITING, DeliveryState.SENDING, DeliveryState.DEFERRED)

_HAS_DECIDED = exists(
    select(receipt.c.delivery)
    .where(receipt.c.delivery == delivery.c.id, receipt.c.code.in_(DECIDED))
    .correlate(delivery)  # Any receipt of the delivery, even if the question concerns one of them.
)


@dataclass(frozen=True, slots=True)
class NotCompared:
    """How many instances of a study a destination had before, and could not be compared."""

    study_instance_uid: str
    destination: str
    instances: int


def counts(connection: Connection) -> dict[str, dict[str, int]]:
    """Return how many arrivals, instances and deliveries are in each state."""
    tables = (("arrivals", arrival, ArrivalState), ("instances", instance, InstanceState))
    answer = {name: _by_state(connection, table, list(states)) for name, table, states in tables}
    answer["deliveries"] = _by_state(connection, delivery, list(DeliveryState))
    return answer


def _by_state(connection: Connection, table: Any, states: Sequence[str]) -> dict[str, int]:
    counted = {
        row[0]: row[1] for row in connection.execute(select(table.c.state, func.count()).group_by(table.c.state))
    }
    return {str(state): counted.get(state, 0) for state in states}


def waiting_at(connection: Connection, name: str) -> tuple[int, float | None]:
    """Return the number of open deliveries to a destination, and when the oldest was created."""
    wanted = select(func.count(), func.min(delivery.c.created_at)).where(
        delivery.c.destination == name, delivery.c.state.in_(OPEN)
    )
    row = connection.execute(wanted).one()
    return row[0], row[1]


_DESTINATION = select(destination).where(destination.c.name == bindparam("destination"))


def destination_row(connection: Connection, name: str) -> DestinationRow | None:
    """Return the notes about a destination as a whole, None if there are none."""
    return read_one_or_none(DestinationRow, connection.execute(_DESTINATION, {"destination": name}))


def destination_rows(connection: Connection) -> dict[str, DestinationRow]:
    """Return, by name, the notes about each destination that has any."""
    return {row.name: row for row in read_all(DestinationRow, connection.execute(select(destination)))}


def open_deliveries(connection: Connection) -> list[DeliveryRow]:
    """Return the open deliveries, and those that `refused_deliveries` counts, the oldest first."""
    wanted = select(delivery).where(or_(delivery.c.state.in_(OPEN), _is_refused())).order_by(delivery.c.created_at)
    return read_all(DeliveryRow, connection.execute(wanted))


def refused_deliveries(connection: Connection) -> int:
    """Count the refused deliveries that a person must look at."""
    return connection.scalar(select(func.count()).select_from(delivery).where(_is_refused())) or 0


def _is_refused() -> Any:
    """Return the condition that a refused delivery needs a person; a failed order's delivery has ended.

    A delivery also counts as ended if a person has decided that it shall not arrive.
    """
    refused = select(receipt.c.instance).where(
        receipt.c.delivery == delivery.c.id, receipt.c.state == ReceiptState.REFUSED, receipt.c.code != DELETED
    )
    needs_a_person = or_(not_(delivery.c.requested), refused.exists())
    is_of_the_line = and_(delivery.c.state == DeliveryState.REFUSED, delivery.c.order_id.is_(None))
    return and_(is_of_the_line, needs_a_person, not_(_HAS_DECIDED))


def not_compared(connection: Connection) -> list[NotCompared]:
    """Return, by study and destination, how many instances of others await `accept`."""
    wanted = (
        select(instance.c.study_instance_uid, delivery.c.destination, func.count().label("instances"))
        .join(receipt, receipt.c.instance == instance.c.id)
        .join(delivery, delivery.c.id == receipt.c.delivery)
        .where(text("receipt.state = 'present' AND NOT receipt.verified"))  # in the words of its index
        .group_by(instance.c.study_instance_uid, delivery.c.destination)
        .order_by(func.min(receipt.c.at))
    )
    return read_all(NotCompared, connection.execute(wanted))


def named_by(subject: str) -> Any:
    """Return the condition that an accession number, a study UID or an arrival selects an instance."""
    return or_(
        instance.c.accession_number == subject,
        instance.c.study_instance_uid == subject,
        instance.c.arrival == subject,
    )


def trace(connection: Connection, subject: str) -> list[TraceRow]:
    """Return a row for each receipt of each instance `subject` selects.

    An instance without receipts has one row.
    """
    wanted: Select[Any] = (
        select(
            *instance.c,
            delivery.c.id.label("delivery"),
            delivery.c.destination,
            receipt.c.state.label("receipt_state"),
            receipt.c.code.label("receipt_code"),
            receipt.c.message,
            receipt.c.left_out,
            receipt.c.verified,
            receipt.c.at,
            receipt.c.sha256.label("sent_sha256"),
            receipt.c.transfer_syntax_uid.label("receipt_transfer_syntax"),
            delivery.c.state.label("delivery_state"),
            delivery.c.reason.label("delivery_reason"),
            delivery.c.due_at,
            delivery.c.order_id,
        )
        .outerjoin(receipt, receipt.c.instance == instance.c.id)
        .outerjoin(delivery, delivery.c.id == receipt.c.delivery)
        .where(named_by(subject))
        .order_by(instance.c.id, delivery.c.id)
    )
    return read_all(TraceRow, connection.execute(wanted))


def orders_of(connection: Connection, subject: str) -> list[OrderRow]:
    """Return the orders that asked for `subject`, or found it; an arrival selects none."""
    found = select(order_study.c.order_id).where(
        or_(order_study.c.study_instance_uid == subject, order_study.c.accession_numbers == (subject,))
    )
    # LIKE would ignore case in SQLite.
    listed, sought = cast(orders.c.accessions, String), json.dumps(subject)
    asked = select(orders.c.id).where(func.replace(listed, sought, "") != listed)
    wanted = select(orders).where(or_(orders.c.id.in_(found), orders.c.id.in_(asked)))
    return read_all(OrderRow, connection.execute(wanted.order_by(orders.c.id)))


def deliveries_of(
    connection: Connection, subject: str | None, name: str | None, states: Sequence[str]
) -> list[int]:
    """Return deliveries in `states`, of `subject` and to destination `name`; None means any.

    Deliveries of orders are left out: the person was told of the failure, and asks again or does not want it any
    more. Rerouted and discarded ones are left out, too.
    """
    is_one = and_(delivery.c.state.in_(states), delivery.c.order_id.is_(None), not_(_HAS_DECIDED))
    wanted = select(delivery.c.id).where(is_one).distinct().order_by(delivery.c.id)
    if name is not None:
        wanted = wanted.where(delivery.c.destination == name)
    if subject is not None:
        wanted = (
            wanted.join(receipt, receipt.c.delivery == delivery.c.id)
            .join(instance, instance.c.id == receipt.c.instance)
            .where(named_by(subject))
        )
    return list(connection.scalars(wanted))


def set_aside(connection: Connection) -> list[SetAsideRow]:
    """Return the instances a person must look at, with when their arrival was admitted."""
    wanted = (
        select(instance, arrival.c.admitted_at)
        .join(arrival, arrival.c.name == instance.c.arrival)
        .where(instance.c.state.in_(SET_ASIDE), instance.c.discarded_at.is_(None))
        .order_by(arrival.c.admitted_at, instance.c.id)
    )
    return read_all(SetAsideRow, connection.execute(wanted))


def arrivals_set_aside(connection: Connection) -> list[ArrivalRow]:
    """Return quarantined arrivals without any recorded instance."""
    has_instances = select(instance.c.id).where(instance.c.arrival == arrival.c.name).exists()
    wanted = (
        select(arrival)
        .where(and_(arrival.c.state == ArrivalState.QUARANTINED, ~has_instances), arrival.c.gone_at.is_(None))
        .order_by(arrival.c.admitted_at)
    )
    return read_all(ArrivalRow, connection.execute(wanted))


def arrival_row(connection: Connection, name: str) -> ArrivalRow | None:
    """Return the row of an arrival."""
    return read_one_or_none(ArrivalRow, connection.execute(select(arrival).where(arrival.c.name == name)))


def instances_of(connection: Connection, name: str, file: str | None = None) -> list[InstanceRow]:
    """Return the instances of an arrival, or the one that is `file`."""
    wanted = select(instance).where(instance.c.arrival == name).order_by(instance.c.id)
    if file is not None:
        wanted = wanted.where(instance.c.file == file)
    return read_all(InstanceRow, connection.execute(wanted))
