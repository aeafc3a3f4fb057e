"""The ledger's statements about nodes: the machines whose workers use it, and when each reported last.

All moments are by the database's clock, so that clocks of machines that differ do not matter.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Connection, delete, exists, func, insert, select, update

from pipeline.ledger.tables import delivery, heartbeat, node, retrieval, study_claim
from pipeline.model import DeliveryState, RetrievalState


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What a worker reports about its node; `worker` is the name of its claims, as in `claims.Claimant`."""

    name: str
    worker: str
    version: str
    receivers: Sequence[str]  # Those that are up.
    at_the_door: int  # Folders that are not admitted yet.
    site_hash: str
    door: Sequence[tuple[str, str, int]] = ()  # Studies not admitted yet: receiver, Study Instance UID, files.


@dataclass(frozen=True, slots=True)
class KnownNode:
    """A node as the others know it; `in_hand` is how many deliveries, studies and retrievals it works at."""

    report: NodeReport
    seen_seconds: float
    draining: bool
    lost_at: float | None
    in_hand: int


def clock(connection: Connection) -> float:
    """Return the seconds since the epoch by the database's clock; a file has the clock of this machine."""
    if connection.dialect.name == "sqlite":
        return time.time()
    return float(connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one())


def report(connection: Connection, its: NodeReport) -> bool:
    """Record that a node is alive; return whether it drains.

    One worker has one node: after a move to another machine, the row of the former one is deleted.
    """
    values = {
        "worker": its.worker,
        "version": its.version,
        "seen": clock(connection),
        "receivers": list(its.receivers),
        "at_the_door": its.at_the_door,
        "door": its.door,
        "site_hash": its.site_hash,
        "lost_at": None,
    }
    if not connection.execute(update(node).where(node.c.name == its.name).values(**values)).rowcount:
        connection.execute(delete(node).where(node.c.worker == its.worker))
        connection.execute(insert(node).values(name=its.name, draining=False, **values))
    return is_draining(connection, its.name)


def is_draining(connection: Connection, name: str) -> bool:
    """Tell whether a person has asked the node `name` to take nothing new."""
    return bool(connection.scalar(select(node.c.draining).where(node.c.name == name)))


def drains(worker: str | BindParameter[str]) -> ColumnElement[bool]:
    """Return the condition that the node of `worker` drains, for the statements that claim work."""
    return exists(select(node.c.name).where(node.c.worker == worker, node.c.draining))


def drain(connection: Connection, name: str, *, draining: bool) -> bool:
    """Let a node take nothing new, or take again; return whether it is known."""
    return bool(connection.execute(update(node).where(node.c.name == name).values(draining=draining)).rowcount)


def forget(connection: Connection, name: str) -> None:
    """Delete a node, and when its worker reported."""
    its_worker = select(node.c.worker).where(node.c.name == name)
    connection.execute(delete(heartbeat).where(heartbeat.c.name.in_(its_worker)))
    connection.execute(delete(node).where(node.c.name == name))


def known(connection: Connection) -> list[KnownNode]:
    """Return every node, by name."""
    now = clock(connection)
    in_hand = _in_hand(connection)
    return [
        KnownNode(
            NodeReport(row.name, row.worker, row.version, row.receivers, row.at_the_door, row.site_hash, row.door),
            max(0.0, now - row.seen),
            row.draining,
            row.lost_at,
            in_hand.get(row.worker, 0),
        )
        for row in connection.execute(select(node).order_by(node.c.name))
    ]


def _in_hand(connection: Connection) -> dict[str, int]:
    found: dict[str, int] = {}
    working: tuple[tuple[Any, Any], ...] = (
        (delivery, delivery.c.state == DeliveryState.SENDING),
        (study_claim, study_claim.c.worker.is_not(None)),
        (retrieval, retrieval.c.state == RetrievalState.MOVING),
    )
    for table, is_in_work in working:
        counted = select(table.c.worker, func.count()).where(is_in_work).group_by(table.c.worker)
        for worker, count in connection.execute(counted):
            found[worker] = found.get(worker, 0) + count
    return found


@dataclass(frozen=True, slots=True)
class OtherNodes:
    """The nodes of other workers that are not lost, as they reported last.

    `at_work` are those that do not drain, `receivers` what is up at any of them, `seen` when each reported, by the
    database's clock. `door` counts the files of studies that are not admitted, by receiver and Study Instance UID.
    """

    at_work: AbstractSet[str]
    receivers: AbstractSet[str]
    seen: Mapping[str, float]
    door: Mapping[tuple[str, str], int]


def others(connection: Connection, worker: str) -> OtherNodes:
    """Return what the other nodes say of themselves."""
    rows = connection.execute(select(node).where(node.c.worker != worker, node.c.lost_at.is_(None))).all()
    door: Counter[tuple[str, str]] = Counter()
    for row in rows:
        for receiver, study, files in row.door:
            door[receiver, study] += files
    return OtherNodes(
        {row.name for row in rows if not row.draining},
        {receiver for row in rows for receiver in row.receivers},
        {row.name: row.seen for row in rows},
        door,
    )


def silent(connection: Connection, worker: str, seconds: float) -> list[str]:
    """Return the nodes of other workers that have not reported for `seconds` and may have something in hand."""
    rows = connection.execute(select(node).where(node.c.worker != worker)).all()
    before = clock(connection) - seconds if rows else 0.0
    found = [row for row in rows if row.seen <= before]
    in_hand = _in_hand(connection) if found else {}
    return [row.name for row in found if row.lost_at is None or row.worker in in_hand]


def leave(connection: Connection, worker: str) -> None:
    """Note that a worker ends: others see to what its node has brought, until it reports again."""
    connection.execute(update(node).where(node.c.worker == worker).values(lost_at=clock(connection)))


def lose(connection: Connection, name: str, seconds: float) -> KnownNode | None:
    """Note that a node has not reported for `seconds`, and return it as it was before; None if it has."""
    found = next((one for one in known(connection) if one.report.name == name), None)
    if found is None or found.seen_seconds < seconds:
        return None
    now = clock(connection)
    is_silent = (node.c.name == name) & (node.c.seen <= now - seconds)  # It may report just now.
    values = {"lost_at": func.coalesce(node.c.lost_at, now)}
    return found if connection.execute(update(node).where(is_silent).values(**values)).rowcount else None
