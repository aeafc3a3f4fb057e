"""The ledger's statements about arrivals and instances: admit, take in, settle, quarantine, age out."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    exists,
    func,
    insert,
    not_,
    or_,
    select,
    update,
)

from pipeline.dicom.reasons import DELETED
from pipeline.ledger import tallies
from pipeline.ledger.claims import Fenced
from pipeline.ledger.deliveries import batches
from pipeline.ledger.rerouting import DECIDED
from pipeline.ledger.rows import SoundInstanceRow, read_all, read_one
from pipeline.ledger.scope import OF_ORDERS, Scope, is_of_kind
from pipeline.ledger.tables import arrival, delivery, instance, receipt
from pipeline.model import ARRIVED, ArrivalState, DeliveryState, InstanceKey, InstanceState

HOLDS_ITS_KEY = (InstanceState.RECEIVED, InstanceState.PASSED, InstanceState.ENCODED)
GOOD = (*HOLDS_ITS_KEY, InstanceState.DUPLICATE)


@dataclass(frozen=True, slots=True)
class WaitingStudy:
    """Instances of one study at one receiver that no delivery holds yet (docs/design.md, Gathering)."""

    receiver: str
    study_instance_uid: str
    newest_file_at: float
    first_admitted_at: float
    instances: int


def admit(connection: Connection, values: Mapping[str, Any]) -> None:
    """Enter an arrival whose files are durable in the room `arrivals`."""
    connection.execute(insert(arrival).values(state=ArrivalState.ADMITTED, **values))


def names(connection: Connection, *states: ArrivalState) -> set[str]:
    """Return the names of the arrivals in these states whose files are still here."""
    wanted = select(arrival.c.name).where(arrival.c.state.in_(states), arrival.c.gone_at.is_(None))
    return set(connection.scalars(wanted))


def set_state(
    connection: Connection, name: str, state: ArrivalState, reason: str | None = None, **more: Any
) -> None:
    """Move an arrival to `state`."""
    connection.execute(update(arrival).where(arrival.c.name == name).values(state=state, reason=reason, **more))


def take_in(connection: Connection, name: str, rows: Sequence[Mapping[str, Any]], **counts: int) -> None:
    """Enter the identified instances, once.

    Raises IntegrityError if a key has been taken meanwhile: look again.
    """
    admitted = (arrival.c.name == name) & (arrival.c.state == ArrivalState.ADMITTED)
    values = {"state": ArrivalState.PROCESSING, **counts}
    is_new = connection.execute(update(arrival).where(admitted).values(**values)).rowcount
    if rows and is_new:
        connection.execute(insert(instance), list(rows))
        tallies.taken_in(connection, name, rows)


def forget_instances(connection: Connection, name: str) -> None:
    """Delete the instances of an arrival that is to be taken in again, if nothing of it was sent."""
    connection.execute(instance.delete().where(instance.c.arrival == name))


def first_received(
    connection: Connection, scope: Scope, keys: Iterable[InstanceKey]
) -> dict[InstanceKey, SoundInstanceRow]:
    """Return the row that holds each of `keys` within `scope`."""
    rows: dict[InstanceKey, SoundInstanceRow] = {}
    studies = sorted({key.study_instance_uid for key in keys})
    for study in studies:
        wanted = sound_instances().where(
            instance.c.scope == scope,
            instance.c.study_instance_uid == study,
            instance.c.state.in_(HOLDS_ITS_KEY),
        )
        rows |= {row.key: row for row in read_all(SoundInstanceRow, connection.execute(wanted))}
    return rows


def waiting(connection: Connection) -> list[WaitingStudy]:
    """Return the studies that wait for a consignment, the longest waiting first."""
    wanted = (
        select(
            arrival.c.receiver,
            instance.c.study_instance_uid,
            func.max(arrival.c.newest_file_at),
            func.min(arrival.c.admitted_at),
            func.count(),
        )
        .join(arrival, arrival.c.name == instance.c.arrival)
        .where(not_(instance.c.consigned), instance.c.state == InstanceState.RECEIVED)
        .group_by(arrival.c.receiver, instance.c.study_instance_uid)
        .order_by(func.min(arrival.c.admitted_at))
    )
    return [WaitingStudy(*row) for row in connection.execute(wanted)]


def instances_waiting(connection: Connection, receiver: str, study_instance_uid: str) -> list[SoundInstanceRow]:
    """Return the rows of one study at one receiver that no delivery holds yet, in the order received."""
    wanted = (
        sound_instances()
        .where(
            arrival.c.receiver == receiver,
            instance.c.study_instance_uid == study_instance_uid,
            instance.c.state == InstanceState.RECEIVED,
            not_(instance.c.consigned),
        )
        .order_by(instance.c.id)
    )
    return read_all(SoundInstanceRow, connection.execute(wanted))


def require_not_consigned(connection: Connection, identities: Collection[int]) -> None:
    """Raise Fenced if somebody else has consigned one of these instances, or decided about it, meanwhile."""
    for batch in batches(list(identities)):
        wanted = select(func.count()).where(instance.c.id.in_(batch), not_(instance.c.consigned))
        if connection.scalar(wanted) != len(batch):
            raise Fenced


def instance_row(connection: Connection, identity: int) -> SoundInstanceRow:
    """Return the row of one instance, with what its arrival knows of the sender."""
    return read_one(SoundInstanceRow, connection.execute(sound_instances().where(instance.c.id == identity)))


def sound_instances() -> Select[Any]:
    """Return the SELECT of instances with the columns of their arrivals that `SoundInstanceRow` has."""
    return select(instance, arrival.c.admitted_at, arrival.c.peer).join(
        arrival, arrival.c.name == instance.c.arrival
    )


def set_instances(connection: Connection, found_out: Mapping[int, Mapping[str, Any]]) -> None:
    """Write what a stage found out about many instances, by row number: a statement for each set of columns."""
    by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for identity, values in found_out.items():
        by_columns.setdefault(tuple(sorted(values)), []).append(
            {"row_number": identity, **{f"new_{column}": value for column, value in values.items()}}
        )
    for columns, rows in by_columns.items():
        changed: dict[str, Any] = {column: bindparam(f"new_{column}") for column in columns}
        connection.execute(
            update(instance).where(instance.c.id == bindparam("row_number")).values(**changed), rows
        )
    for identity, values in found_out.items():
        if values.get("state") in tallies.SET_ASIDE:
            tallies.set_aside(connection, identity, values)


def set_instance(connection: Connection, identity: int, values: Mapping[str, Any]) -> None:
    """Write the results of a stage for one instance."""
    connection.execute(update(instance).where(instance.c.id == identity).values(**values))
    if values.get("state") in tallies.SET_ASIDE:
        tallies.set_aside(connection, identity, values)


_UNFINISHED = or_(
    and_(instance.c.state == InstanceState.RECEIVED),
    exists(
        select(receipt.c.instance)
        .join(delivery, delivery.c.id == receipt.c.delivery)
        .where(
            receipt.c.instance == instance.c.id,
            delivery.c.state.not_in((DeliveryState.DELIVERED, DeliveryState.REFUSED)),
        )
    ),
    exists(  # A request that this duplicate has opened.
        select(receipt.c.instance)
        .join(delivery, delivery.c.id == receipt.c.delivery)
        .where(
            receipt.c.asked_by == instance.c.id,
            delivery.c.state.not_in((DeliveryState.DELIVERED, DeliveryState.REFUSED)),
        )
    ),
)


def ready_to_settle(connection: Connection) -> list[str]:
    """Return the arrivals whose every instance has an account and every delivery an end (docs/design.md)."""
    wanted = select(arrival.c.name).where(
        arrival.c.state == ArrivalState.PROCESSING,
        not_(exists(select(instance.c.id).where(instance.c.arrival == arrival.c.name, _UNFINISHED))),
    )
    return list(connection.scalars(wanted))


def may_settle(connection: Connection, name: str) -> bool:
    """Tell whether one arrival is ready to settle."""
    return not connection.scalar(
        select(exists(select(instance.c.id).where(instance.c.arrival == name, _UNFINISHED)))
    )


def has_instances(connection: Connection, name: str) -> bool:
    """Tell whether an arrival has been taken in: whether any file of it is recorded."""
    return bool(connection.scalar(select(exists(select(instance.c.id).where(instance.c.arrival == name)))))


def holds_an_instance(connection: Connection, name: str) -> bool:
    """Tell whether any file of the arrival could be read as an instance."""
    readable = (instance.c.arrival == name) & instance.c.study_instance_uid.is_not(None)
    return bool(connection.scalar(select(exists(select(instance.c.id).where(readable)))))


_KEPT_FOR_EVER = or_(
    and_(instance.c.state.not_in(GOOD), instance.c.discarded_at.is_(None)),
    exists(
        select(receipt.c.instance)
        .join(delivery, delivery.c.id == receipt.c.delivery)
        .where(
            or_(receipt.c.instance == instance.c.id, receipt.c.asked_by == instance.c.id),
            or_(receipt.c.state.not_in(ARRIVED), not_(receipt.c.verified)),
            receipt.c.code.not_in(DECIDED),
            # It was stored there, and was deleted there.
            not_(and_(delivery.c.requested, receipt.c.code == DELETED)),
        )
    ),
)


def all_is_well(connection: Connection, name: str) -> bool:
    """Tell whether no instance of an arrival was refused, quarantined or in conflict: it may be deleted by age."""
    return not connection.scalar(
        select(exists(select(instance.c.id).where(instance.c.arrival == name, _KEPT_FOR_EVER)))
    )


def settled_of(connection: Connection, delivery_number: int) -> list[str]:
    """Return the settled arrivals in which instances of a delivery came."""
    wanted = (
        select(arrival.c.name)
        .join(instance, instance.c.arrival == arrival.c.name)
        .join(receipt, receipt.c.instance == instance.c.id)
        .where(
            receipt.c.delivery == delivery_number,
            arrival.c.state == ArrivalState.SETTLED,
            arrival.c.gone_at.is_(None),
        )
        .distinct()
    )
    return list(connection.scalars(wanted))


def set_settled_at(connection: Connection, name: str, now: float) -> None:
    """Restart the retention time of a settled arrival."""
    connection.execute(update(arrival).where(arrival.c.name == name).values(settled_at=now))


def set_gone(connection: Connection, name: str, now: float) -> None:
    """Note that the originals of an arrival are deleted; its rows stay for `trace`."""
    connection.execute(update(arrival).where(arrival.c.name == name).values(gone_at=now))


def is_gone(connection: Connection, name: str) -> bool:
    """Tell whether the originals of an arrival were deleted by age or by a person."""
    gone = (arrival.c.name == name) & arrival.c.gone_at.is_not(None)
    return bool(connection.scalar(select(exists(select(arrival.c.name).where(gone)))))


def discarded(connection: Connection) -> list[tuple[str, str]]:
    """Return arrival and file of everything a person has discarded in arrivals that are still here."""
    wanted = (
        select(instance.c.arrival, instance.c.file)
        .join(arrival, arrival.c.name == instance.c.arrival)
        .where(
            instance.c.discarded_at.is_not(None),
            instance.c.state.not_in(GOOD),
            arrival.c.gone_at.is_(None),
        )
    )
    return [(row[0], row[1]) for row in connection.execute(wanted)]


def with_stale_accounts(connection: Connection) -> list[str]:
    """Return settled arrivals with instances delivered, given up, accepted or discarded since."""
    wanted = (
        select(arrival.c.name)
        .join(instance, instance.c.arrival == arrival.c.name)
        .outerjoin(receipt, receipt.c.instance == instance.c.id)
        .outerjoin(delivery, delivery.c.id == receipt.c.delivery)
        .where(
            arrival.c.state == ArrivalState.SETTLED,
            arrival.c.gone_at.is_(None),
            or_(
                delivery.c.finished_at > arrival.c.settled_at,
                receipt.c.at > arrival.c.settled_at,
                instance.c.discarded_at > arrival.c.settled_at,
            ),
        )
        .distinct()
    )
    return list(connection.scalars(wanted))


def states_of(connection: Connection, names: Iterable[str]) -> dict[str, ArrivalState]:
    """Return the state of each of these arrivals that is known and whose files should be here."""
    found: dict[str, ArrivalState] = {}
    for batch in batches(sorted(names)):
        wanted = select(arrival.c.name, arrival.c.state).where(
            arrival.c.name.in_(batch), arrival.c.gone_at.is_(None)
        )
        found |= {row[0]: row[1] for row in connection.execute(wanted)}
    return found


def states(connection: Connection) -> dict[str, ArrivalState]:
    """Return the state of every arrival whose files should be here."""
    return {
        row[0]: row[1]
        for row in connection.execute(select(arrival.c.name, arrival.c.state).where(arrival.c.gone_at.is_(None)))
    }


_IS_OF_ORDERS = exists(
    select(instance.c.id).where(instance.c.arrival == arrival.c.name, is_of_kind(instance, *OF_ORDERS))
)


def results_before(connection: Connection, moment: float) -> list[tuple[str, float]]:
    """Return arrivals for orders settled at or before `moment`, except those a person must look at.

    It does not matter whether they were delivered, because their sender still has them.
    """
    is_set_aside = and_(instance.c.state.not_in(GOOD), instance.c.discarded_at.is_(None))
    wanted = select(arrival.c.name, arrival.c.settled_at).where(
        arrival.c.state == ArrivalState.SETTLED,
        arrival.c.gone_at.is_(None),
        arrival.c.settled_at <= moment,
        _IS_OF_ORDERS,
        not_(exists(select(instance.c.id).where(instance.c.arrival == arrival.c.name, is_set_aside))),
        not_(exists(select(instance.c.id).where(instance.c.arrival == arrival.c.name, _UNFINISHED))),
    )
    return [(row[0], row[1]) for row in connection.execute(wanted)]


def settled_before(connection: Connection, moment: float) -> list[tuple[str, float]]:
    """Return settled arrivals without problems, settled at or before `moment`."""
    wanted = select(arrival.c.name, arrival.c.settled_at).where(_is_settled_well_before(moment))
    return [(row[0], row[1]) for row in connection.execute(wanted)]


def may_be_deleted(connection: Connection, name: str, moment: float) -> bool:
    """Tell whether `settled_before` still returns an arrival."""
    wanted = select(arrival.c.name).where(arrival.c.name == name, _is_settled_well_before(moment))
    return connection.scalar(wanted) is not None


def _is_settled_well_before(moment: float) -> ColumnElement[bool]:
    return and_(
        arrival.c.state == ArrivalState.SETTLED,
        arrival.c.gone_at.is_(None),
        arrival.c.settled_at <= moment,
        not_(_IS_OF_ORDERS),
        not_(exists(select(instance.c.id).where(instance.c.arrival == arrival.c.name, _KEPT_FOR_EVER))),
        not_(exists(select(instance.c.id).where(instance.c.arrival == arrival.c.name, _UNFINISHED))),
    )
