"""Claims: whoever works at something has written a token into its row, and writes only while the token is there.

A token is made for each attempt. Whoever takes the work over, after the death of the worker that had it, writes
another one; the first may still live, and its next write finds that out: `Fenced`.
"""

import platform
import uuid
from dataclasses import dataclass, field

from sqlalchemy import Connection, bindparam, delete, select, text

from pipeline.ledger.rows import ClaimedDeliveryRow
from pipeline.ledger.tables import delivery, instance, receipt, study_claim
from pipeline.model import DeliveryState

WORKER = "worker"  # The name of the one worker of a ledger.


class Fenced(Exception):
    """Say that another has taken the work over: drop everything, write nothing, and send nothing more.

    It is no StorestowError, so that whoever handles errors of a peer lets it pass.
    """


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who claims work.

    `worker` is the name by which a worker takes back after a restart what it had before; no two workers that use
    one ledger at once have the same. `node` is the host name, for people only: it may change between two starts.
    """

    worker: str = WORKER
    node: str = field(default_factory=platform.node)

    def values(self) -> dict[str, str]:
        """Return the columns of a new claim, with a token of its own."""
        return {"claim": uuid.uuid4().hex, "worker": self.worker}


def require_delivery(connection: Connection, row: ClaimedDeliveryRow) -> None:
    """Raise Fenced unless the attempt `row` still has its delivery; nobody takes it until the transaction ends."""
    if connection.scalar(_DELIVERY, {"number": row.id, "token": row.claim}) is None:
        raise Fenced


_DELIVERY = (
    select(delivery.c.id)
    .where(delivery.c.id == bindparam("number"), delivery.c.claim == bindparam("token"))
    .with_for_update(read=True)
)


def claim_study(connection: Connection, receiver: str, study_instance_uid: str, by: Claimant) -> str | None:
    """Claim a study that is to be prepared, and return the token; None if another worker has it, or ours drains.

    A worker prepares a study once at a time, so what it had claimed before is of a job that has ended, and is its
    own. One statement, so that it needs no transaction that is alone.
    """
    values = by.values()
    its_row = {"receiver": receiver, "study": study_instance_uid}
    made = connection.execute(_CLAIM_STUDY, {**its_row, **values})
    return values["claim"] if made.rowcount else None


_CLAIM_STUDY = text(
    "INSERT INTO study_claim (receiver, study_instance_uid, claim, worker)"
    " SELECT CAST(:receiver AS VARCHAR), CAST(:study AS VARCHAR),"
    " CAST(:claim AS VARCHAR), CAST(:worker AS VARCHAR)"
    " WHERE NOT EXISTS (SELECT 1 FROM node WHERE node.worker = CAST(:worker AS VARCHAR) AND node.draining)"
    " ON CONFLICT (receiver, study_instance_uid) DO UPDATE SET claim = excluded.claim"
    " WHERE study_claim.worker = excluded.worker"
)


def require_study(connection: Connection, claim: str) -> None:
    """Raise Fenced unless a study is still claimed by `claim`."""
    if connection.scalar(_STUDY, {"token": claim}) is None:
        raise Fenced


_STUDY = select(study_claim.c.claim).where(study_claim.c.claim == bindparam("token")).with_for_update(read=True)


def release_study(connection: Connection, claim: str) -> None:
    """Give up the claim of a study, if it still stands."""
    connection.execute(_RELEASE_STUDY, {"token": claim})


_RELEASE_STUDY = delete(study_claim).where(study_claim.c.claim == bindparam("token"))


def release_studies_of(connection: Connection, worker: str) -> int:
    """Give up every claim of a study that `worker` had before it started or died; return how many."""
    return connection.execute(delete(study_claim).where(study_claim.c.worker == worker)).rowcount


_STUDIES_OF_OTHERS = select(study_claim.c.receiver, study_claim.c.study_instance_uid).where(
    study_claim.c.worker != bindparam("worker")
)


def studies_of_others(connection: Connection, worker: str) -> set[tuple[str, str]]:
    """Return receiver and Study Instance UID of the studies that other workers prepare."""
    return {(row[0], row[1]) for row in connection.execute(_STUDIES_OF_OTHERS, {"worker": worker})}


def arrivals_of_others(connection: Connection, worker: str) -> set[str]:
    """Return the arrivals of which other workers prepare or deliver something now."""
    prepared = (
        select(instance.c.arrival)
        .join(study_claim, study_claim.c.study_instance_uid == instance.c.study_instance_uid)
        .where(study_claim.c.worker != worker)
    )
    delivered = (
        select(instance.c.arrival)
        .join(receipt, receipt.c.instance == instance.c.id)
        .join(delivery, delivery.c.id == receipt.c.delivery)
        .where(delivery.c.state == DeliveryState.SENDING, delivery.c.worker != worker)
    )
    return set(connection.scalars(prepared.union(delivered)))
