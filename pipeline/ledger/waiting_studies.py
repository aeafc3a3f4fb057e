"""The ledger's statements about studies of which instances wait for a delivery."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import (
    Connection,
    bindparam,
    func,
    not_,
    select,
)

from pipeline.ledger.batches import batches
from pipeline.ledger.claims import Fenced
from pipeline.ledger.instance_rows import sound_instances
from pipeline.ledger.rows import SoundInstanceRow, read_all
from pipeline.ledger.tables import arrival, instance
from pipeline.model import InstanceState


@dataclass(frozen=True, slots=True)
class WaitingStudy:
    """Instances of one study at one receiver that no delivery holds yet (docs/design.md, Gathering).

    `newest_arrival` is the name of the arrival that was admitted last, which says what node brought it.
    """

    receiver: str
    study_instance_uid: str
    newest_file_at: float
    first_admitted_at: float
    instances: int
    newest_arrival: str


_WAITING = (
    select(
        arrival.c.receiver,
        instance.c.study_instance_uid,
        func.max(arrival.c.newest_file_at),
        func.min(arrival.c.admitted_at),
        func.count(),
        func.max(arrival.c.name),
    )
    .join(arrival, arrival.c.name == instance.c.arrival)
    .where(not_(instance.c.consigned), instance.c.state == InstanceState.RECEIVED)
    .group_by(arrival.c.receiver, instance.c.study_instance_uid)
    .order_by(func.min(arrival.c.admitted_at))
)


def waiting(connection: Connection) -> list[WaitingStudy]:
    """Return the studies that wait for a consignment, the longest waiting first."""
    return [WaitingStudy(*row) for row in connection.execute(_WAITING)]


def instances_of(connection: Connection, receiver: str, study_instance_uid: str) -> list[SoundInstanceRow]:
    """Return the rows of one study at one receiver that no delivery holds yet, in the order received."""
    its_study = {"receiver": receiver, "study": study_instance_uid}
    return read_all(SoundInstanceRow, connection.execute(_INSTANCES, its_study))


_INSTANCES = (
    sound_instances()
    .where(
        arrival.c.receiver == bindparam("receiver"),
        instance.c.study_instance_uid == bindparam("study"),
        instance.c.state == InstanceState.RECEIVED,
        not_(instance.c.consigned),
    )
    .order_by(instance.c.id)
)


def require_not_consigned(connection: Connection, identities: Collection[int]) -> None:
    """Raise Fenced if somebody else has consigned one of these instances, or decided about it, meanwhile."""
    for batch in batches(list(identities)):
        if connection.scalar(_NOT_CONSIGNED, {"instances": batch}) != len(batch):
            raise Fenced


_NOT_CONSIGNED = select(func.count()).where(
    instance.c.id.in_(bindparam("instances", expanding=True)), not_(instance.c.consigned)
)
