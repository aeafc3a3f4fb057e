"""The received instances that a disc lacks: those of its studies, or of its arrivals, that were set aside."""

from collections.abc import Collection

from sqlalchemy import Connection, and_, func, or_, select

from pipeline.ledger.tables import instance, receipt
from pipeline.model import InstanceKey, InstanceState, SetAside


def beside(connection: Connection, deliveries: Collection[int]) -> tuple[SetAside, ...]:
    """Return instances that belong to the studies of deliveries and were set aside, and not discarded since.

    An instance too damaged to name its study counts if it came in the same arrival.
    """
    own = (
        select(instance.c.arrival, instance.c.study_instance_uid, instance.c.scope)
        .join(receipt, receipt.c.instance == instance.c.id)
        .where(receipt.c.delivery.in_(deliveries))
        .distinct()
        .subquery()
    )
    is_of_study = and_(instance.c.study_instance_uid == own.c.study_instance_uid, instance.c.scope == own.c.scope)
    is_unknown = func.coalesce(instance.c.study_instance_uid, "") == ""
    came_along = and_(is_unknown, instance.c.arrival == own.c.arrival)
    wanted = (
        select(
            instance.c.id,
            instance.c.study_instance_uid,
            instance.c.series_instance_uid,
            instance.c.sop_instance_uid,
            instance.c.reason,
        )
        .join(own, or_(is_of_study, came_along))
        .where(
            instance.c.state.in_((InstanceState.QUARANTINED, InstanceState.CONFLICT)),
            instance.c.discarded_at.is_(None),
        )
        .distinct()
        .order_by(instance.c.id)
    )
    return tuple(
        SetAside(
            InstanceKey(row.study_instance_uid or "", row.series_instance_uid or "", row.sop_instance_uid)
            if row.sop_instance_uid
            else None,
            row.reason or "it was set aside",
        )
        for row in connection.execute(wanted)
    )
