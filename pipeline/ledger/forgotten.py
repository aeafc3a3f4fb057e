"""What the ledger may forget: arrivals and orders that are over, once nothing in it needs them any more."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, exists, func, or_, select, update

from pipeline.ledger import sqlite
from pipeline.ledger.scope import is_of_send
from pipeline.ledger.tables import (
    arrival,
    delivery,
    disc,
    instance,
    on_disc,
    order_study,
    orders,
    receipt,
    retrieval,
    retrieved,
    study_patient,
)
from pipeline.model import ArrivalState, DeliveryState, OrderState, RetrievalState

_ENDED = (DeliveryState.DELIVERED, DeliveryState.REFUSED)
_NANOSECONDS = 1_000_000_000


def arrivals_over(connection: Connection, before: float, at_most: int) -> dict[str, float]:
    """Return settled arrivals whose originals were deleted by `before`, each with the moment it settled.

    Those are left out that something needs: an open delivery needs its instances, an order that is open or ended
    later what was retrieved or given for it, a disc of the line must know what it holds. The arrival of the newest
    instance stays: the number of a later one must be greater.
    """
    inside = instance.c.arrival == arrival.c.name
    is_needed_by_order = or_(orders.c.state == OrderState.OPEN, orders.c.ended_at > before)
    of_delivery = (
        select(receipt.c.delivery)
        .join(instance, or_(instance.c.id == receipt.c.instance, instance.c.id == receipt.c.asked_by))
        .join(delivery, delivery.c.id == receipt.c.delivery)
        .where(inside, delivery.c.state.not_in(_ENDED))
    )
    of_retrieval = (
        select(retrieved.c.retrieval)
        .join(instance, instance.c.id == retrieved.c.instance)
        .join(order_study, order_study.c.retrieval == retrieved.c.retrieval)
        .join(orders, orders.c.id == order_study.c.order_id)
        .where(inside, is_needed_by_order)
    )
    of_sending = (
        select(orders.c.id).join(instance, is_of_send(instance, orders.c.id)).where(inside, is_needed_by_order)
    )
    of_disc = select(on_disc.c.disc).join(instance, instance.c.id == on_disc.c.instance).where(inside)
    newest = select(instance.c.arrival).order_by(instance.c.id.desc()).limit(1)
    wanted = select(arrival.c.name, func.coalesce(arrival.c.settled_at, arrival.c.gone_at)).where(
        arrival.c.name < str(int(before * _NANOSECONDS)),  # names begin with the moment of admission: by the index
        arrival.c.state == ArrivalState.SETTLED,
        arrival.c.gone_at <= before,
        arrival.c.name.not_in(newest),
        *(~exists(needed) for needed in (of_delivery, of_retrieval, of_sending, of_disc)),
    )
    return {row[0]: row[1] for row in connection.execute(wanted.order_by(arrival.c.name).limit(at_most))}


def forget_arrivals(connection: Connection, names: Sequence[str]) -> None:
    """Delete arrivals with their instances and receipts, and the deliveries of which no receipt is left."""
    inside = select(instance.c.id).where(instance.c.arrival.in_(names))
    of_them = set(connection.scalars(select(receipt.c.delivery).where(receipt.c.instance.in_(inside)).distinct()))
    connection.execute(update(receipt).where(receipt.c.asked_by.in_(inside)).values(asked_by=None))
    connection.execute(delete(receipt).where(receipt.c.instance.in_(inside)))
    connection.execute(delete(retrieved).where(retrieved.c.instance.in_(inside)))
    connection.execute(delete(instance).where(instance.c.arrival.in_(names)))
    same_study = (instance.c.scope == study_patient.c.scope) & (
        instance.c.study_instance_uid == study_patient.c.study_instance_uid
    )
    is_left = exists(select(instance.c.id).where(same_study))
    connection.execute(delete(study_patient).where(study_patient.c.arrival.in_(names), ~is_left))
    connection.execute(delete(arrival).where(arrival.c.name.in_(names)))
    connection.execute(
        delete(delivery).where(
            delivery.c.id.in_(of_them),
            delivery.c.order_id.is_(None),
            delivery.c.id < select(func.max(delivery.c.id)).scalar_subquery(),
            ~exists(select(receipt.c.delivery).where(receipt.c.delivery == delivery.c.id)),
            ~exists(select(disc.c.id).where(disc.c.delivery == delivery.c.id)),
            ~exists(select(on_disc.c.disc).where(on_disc.c.delivery == delivery.c.id)),
        )
    )


def orders_over(connection: Connection, before: float, at_most: int) -> list[int]:
    """Return orders that ended at or before `before`, whose file is deleted and whose arrivals are forgotten.

    The newest stays: the number of a later one must be greater, or files given for one would be the other's.
    """
    of_it = delivery.c.order_id == orders.c.id
    has_file = select(delivery.c.id).where(of_it, delivery.c.made_path.is_not(None), orders.c.cleared_at.is_(None))
    has_receipt = select(receipt.c.delivery).join(delivery, delivery.c.id == receipt.c.delivery).where(of_it)
    was_given = select(instance.c.id).where(is_of_send(instance, orders.c.id))
    wanted = select(orders.c.id).where(
        orders.c.state != OrderState.OPEN,
        orders.c.ended_at <= before,
        orders.c.id < select(func.max(orders.c.id)).scalar_subquery(),
        *(~exists(needed) for needed in (has_file, has_receipt, was_given)),
    )
    return list(connection.scalars(wanted.order_by(orders.c.id).limit(at_most)))


def order_as_json(connection: Connection, number: int) -> dict[str, Any]:
    """Return an order as a line of the archive: its row and its studies."""
    row = connection.execute(select(orders).where(orders.c.id == number)).one()
    studies = connection.execute(select(order_study).where(order_study.c.order_id == number))
    plain = [dict(study._mapping) for study in studies]  # noqa: SLF001  # SQLAlchemy's public mapping
    return {"version": 1, "order": dict(row._mapping), "studies": plain}  # noqa: SLF001


def forget_orders(connection: Connection, numbers: Sequence[int], before: float) -> None:
    """Delete orders with their deliveries, and retrievals that ended by `before` and that nothing speaks of."""
    connection.execute(delete(delivery).where(delivery.c.order_id.in_(numbers)))
    connection.execute(delete(order_study).where(order_study.c.order_id.in_(numbers)))
    connection.execute(delete(orders).where(orders.c.id.in_(numbers)))
    is_over = retrieval.c.state.in_((RetrievalState.COMPLETE, RetrievalState.INCOMPLETE, RetrievalState.FAILED))
    connection.execute(
        delete(retrieval).where(
            is_over,
            retrieval.c.ended_at <= before,
            retrieval.c.id < select(func.max(retrieval.c.id)).scalar_subquery(),
            ~exists(select(order_study.c.order_id).where(order_study.c.retrieval == retrieval.c.id)),
            ~exists(select(retrieved.c.instance).where(retrieved.c.retrieval == retrieval.c.id)),
        )
    )


def give_pages_back(connection: Connection, at_most: int) -> None:
    """Let up to `at_most` pages that are free now shrink a SQLite file; PostgreSQL uses them again by itself."""
    if connection.dialect.name == "sqlite":
        sqlite.give_pages_back(connection, at_most)
