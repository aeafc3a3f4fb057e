"""The ledger's statements about arrivals: admit, take in, settle, quarantine, age out."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    exists,
    insert,
    not_,
    or_,
    select,
    update,
)

from pipeline.dicom.reasons import DELETED
from pipeline.ledger import tallies
from pipeline.ledger.batches import batches
from pipeline.ledger.instance_rows import GOOD
from pipeline.ledger.rerouting import DECIDED
from pipeline.ledger.scope import OF_ORDERS, is_of_kind
from pipeline.ledger.tables import arrival, delivery, instance, receipt
from pipeline.model import ARRIVED, ArrivalState, DeliveryState, InstanceState


def admit(connection: Connection, values: Mapping[str, Any]) -> None:
    """Enter an arrival whose files are durable in the room `arrivals`."""
    connection.execute(_ADMIT, {"state": ArrivalState.ADMITTED, **values})


_ADMIT = insert(arrival)


def is_known(connection: Connection, name: str) -> bool:
    """Tell whether an arrival has a row, also if its files are gone."""
    return connection.scalar(select(arrival.c.name).where(arrival.c.name == name)) is not None


def names(connection: Connection, *states: ArrivalState) -> set[str]:
    """Return the names of the arrivals in these states whose files are still here."""
    wanted = select(arrival.c.name).where(arrival.c.state.in_(states), arrival.c.gone_at.is_(None))
    return set(connection.scalars(wanted))


def set_state(
    connection: Connection, name: str, state: ArrivalState, reason: str | None = None, **more: Any
) -> None:
    """Move an arrival to `state`."""
    connection.execute(_CHANGE, {"its_name": name, "state": state, "reason": reason, **more})


_CHANGE = update(arrival).where(arrival.c.name == bindparam("its_name"))


def take_in(connection: Connection, name: str, rows: Sequence[Mapping[str, Any]], **counts: int) -> bool:
    """Enter the identified instances, once; return False if another worker has done so.

    Raises IntegrityError if a key has been taken meanwhile: look again.
    """
    values = {"state": ArrivalState.PROCESSING, **counts}
    is_new = connection.execute(_TAKE_IN, {"its_name": name, **values}).rowcount
    if rows and is_new:
        connection.execute(_ENTER, list(rows))
        tallies.taken_in(connection, name, rows)
    return bool(is_new)


_TAKE_IN = _CHANGE.where(arrival.c.state == ArrivalState.ADMITTED)
_ENTER = insert(instance)


def forget_instances(connection: Connection, name: str) -> None:
    """Delete the instances of an arrival that is to be taken in again, if nothing of it was sent."""
    connection.execute(instance.delete().where(instance.c.arrival == name))


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


_READY_TO_SETTLE = select(arrival.c.name).where(
    arrival.c.state == ArrivalState.PROCESSING,
    not_(exists(select(instance.c.id).where(instance.c.arrival == arrival.c.name, _UNFINISHED))),
)


def ready_to_settle(connection: Connection) -> list[str]:
    """Return the arrivals whose every instance has an account and every delivery an end (docs/design.md)."""
    return list(connection.scalars(_READY_TO_SETTLE))


def may_settle(connection: Connection, name: str) -> bool:
    """Tell whether one arrival is ready to settle."""
    return not connection.scalar(_HAS_UNFINISHED, {"name": name})


_IS_IN = instance.c.arrival == bindparam("name")
_HAS_UNFINISHED = select(exists(select(instance.c.id).where(_IS_IN, _UNFINISHED)))


def has_instances(connection: Connection, name: str) -> bool:
    """Tell whether an arrival has been taken in: whether any file of it is recorded."""
    return bool(connection.scalar(select(exists(select(instance.c.id).where(instance.c.arrival == name)))))


def holds_an_instance(connection: Connection, name: str) -> bool:
    """Tell whether any file of the arrival could be read as an instance."""
    return bool(connection.scalar(_HAS_READABLE, {"name": name}))


_HAS_READABLE = select(exists(select(instance.c.id).where(_IS_IN, instance.c.study_instance_uid.is_not(None))))


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
    return not connection.scalar(_HAS_KEPT_FOR_EVER, {"name": name})


_HAS_KEPT_FOR_EVER = select(exists(select(instance.c.id).where(_IS_IN, _KEPT_FOR_EVER)))


def settled_of(connection: Connection, delivery_number: int) -> list[str]:
    """Return the settled arrivals in which instances of a delivery came."""
    return list(connection.scalars(_SETTLED_OF, {"number": delivery_number}))


_SETTLED_OF = (
    select(arrival.c.name)
    .join(instance, instance.c.arrival == arrival.c.name)
    .join(receipt, receipt.c.instance == instance.c.id)
    .where(
        receipt.c.delivery == bindparam("number"),
        arrival.c.state == ArrivalState.SETTLED,
        arrival.c.gone_at.is_(None),
    )
    .distinct()
)


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


_STATES_OF = select(arrival.c.name, arrival.c.state).where(
    arrival.c.name.in_(bindparam("names", expanding=True)), arrival.c.gone_at.is_(None)
)


def states_of(connection: Connection, names: Iterable[str]) -> dict[str, ArrivalState]:
    """Return the state of each of these arrivals that is known and whose files should be here."""
    found: dict[str, ArrivalState] = {}
    for batch in batches(sorted(names)):
        found |= {row[0]: row[1] for row in connection.execute(_STATES_OF, {"names": batch})}
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
