"""The ledger's statements about retrievals: share, begin, follow, end, and which instances they brought."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, exists, func, insert, not_, select, update

from pipeline.ledger import nodes, unclaimed
from pipeline.ledger.claims import Claimant, Fenced
from pipeline.ledger.completeness import Key
from pipeline.ledger.instance_rows import HOLDS_ITS_KEY, sound_instances
from pipeline.ledger.rows import RetrievalRow, SoundInstanceRow, WantedStudyRow, read_all, read_one
from pipeline.ledger.scope import AT_THE_RECEIVER_OF_ORDERS, ScopeKind, is_of_kind
from pipeline.ledger.tables import arrival, instance, order_study, orders, retrieval, retrieved
from pipeline.model import InstanceState, OrderState, RetrievalState

OPEN = (RetrievalState.QUEUED, RetrievalState.MOVING, RetrievalState.RECEIVING)


def open_one(connection: Connection, study: str, modalities: tuple[str, ...]) -> int | None:
    """Return the running retrieval that will bring these modalities of a study, or all of it."""
    wanted = select(retrieval.c.id).where(
        retrieval.c.study_instance_uid == study,
        retrieval.c.state.in_(OPEN),
        retrieval.c.modalities.in_([modalities, ()]),
    )
    number: int | None = connection.scalar(wanted.order_by(retrieval.c.id).limit(1))
    return number


def enter(
    connection: Connection, study: str, modalities: tuple[str, ...], instances: Sequence[int], now: float
) -> int:
    """Queue a retrieval; `instances` are held already and need not be retrieved."""
    values = {
        "study_instance_uid": study,
        "modalities": modalities,
        "state": RetrievalState.QUEUED,
        "created_at": now,
        "last_progress_at": now,
    }
    made = connection.execute(insert(retrieval).values(**values)).inserted_primary_key
    assert made is not None
    number: int = made[0]
    add(connection, number, instances)
    return number


def add(connection: Connection, number: int, instances: Iterable[int]) -> None:
    """Record that a retrieval has these instances."""
    rows = [{"retrieval": number, "instance": identity} for identity in instances]
    if not rows:
        return
    connection.execute(insert(retrieved), rows)
    unclaimed.claim_retrieved(connection, number)


def take_in(
    connection: Connection, arrival_name: str, belongings: Mapping[str, Iterable[int]], now: float
) -> bool:
    """Record which files of an arrival belong to which retrievals; False if one of these has ended meanwhile."""
    numbers = {number for members in belongings.values() for number in members}
    if not numbers:
        return True
    still = select(retrieval.c.id).where(retrieval.c.id.in_(numbers), retrieval.c.state.in_(OPEN))
    if numbers - set(connection.scalars(still)):
        return False
    by_file = select(instance.c.file, instance.c.id).where(instance.c.arrival == arrival_name)
    ids = {row[0]: row[1] for row in connection.execute(by_file)}
    for number in sorted(numbers):
        add(connection, number, [ids[file] for file, members in belongings.items() if number in members])
        change_row(connection, number, last_progress_at=now)
    return True


def row(connection: Connection, number: int) -> RetrievalRow:
    """Return a retrieval."""
    return read_one(RetrievalRow, connection.execute(select(retrieval).where(retrieval.c.id == number)))


_OPEN_ONES = select(retrieval).where(retrieval.c.state.in_(OPEN)).order_by(retrieval.c.id)


def open_ones(connection: Connection) -> list[RetrievalRow]:
    """Return the retrievals that wait, move or receive, the oldest first."""
    return read_all(RetrievalRow, connection.execute(_OPEN_ONES))


def claims(connection: Connection, studies: Iterable[str]) -> list[RetrievalRow]:
    """Return the running retrievals of these studies, to which new instances belong, the oldest first."""
    wanted = select(retrieval).where(
        retrieval.c.study_instance_uid.in_(list(studies)),
        retrieval.c.state.in_(OPEN),
        retrieval.c.started_at.is_not(None),
    )
    return read_all(RetrievalRow, connection.execute(wanted.order_by(retrieval.c.id)))


def asked_series(connection: Connection, number: int) -> set[str]:
    """Return the series that orders with modalities asked for in a retrieval."""
    lists = connection.scalars(select(order_study.c.series).where(order_study.c.retrieval == number))
    return {uid for series in lists for uid, _, _ in series}


def change_row(connection: Connection, number: int, **values: Any) -> None:
    """Write the progress of a retrieval."""
    connection.execute(update(retrieval).where(retrieval.c.id == number).values(**values))


def begin(connection: Connection, number: int, by: Claimant, now: float) -> RetrievalRow | None:
    """Claim a queued retrieval and return its new row; None if it is not queued any more, or our node drains."""
    values = {
        "state": RetrievalState.MOVING,
        "started_at": func.coalesce(retrieval.c.started_at, now),
        "attempts": retrieval.c.attempts + 1,
        "last_progress_at": now,
        **by.values(),
    }
    is_free = (retrieval.c.id == number) & (retrieval.c.state == RetrievalState.QUEUED)
    is_free &= not_(nodes.drains(by.worker))
    if not connection.execute(update(retrieval).where(is_free).values(**values)).rowcount:
        return None
    return row(connection, number)


def change_claimed(connection: Connection, mine: RetrievalRow, **values: Any) -> None:
    """Write the progress of a retrieval that was begun as `mine`; raises Fenced if another has it by now."""
    is_mine = (retrieval.c.id == mine.id) & (retrieval.c.claim == mine.claim)
    if not connection.execute(update(retrieval).where(is_mine).values(**values)).rowcount:
        raise Fenced


def require(connection: Connection, mine: RetrievalRow) -> None:
    """Raise Fenced unless a retrieval that was begun as `mine` is still followed by who began it."""
    is_mine = (retrieval.c.id == mine.id) & (retrieval.c.claim == mine.claim)
    if connection.scalar(select(retrieval.c.id).where(is_mine)) is None:
        raise Fenced


def let_go(connection: Connection, mine: RetrievalRow, now: float) -> bool:
    """Let a retrieval whose worker died be judged by what has come: its program may still be running.

    Returns False if who began it as `mine` has it no more.
    """
    is_mine = (retrieval.c.id == mine.id) & (retrieval.c.claim == mine.claim)
    values = {"state": RetrievalState.RECEIVING, "finished_at": now, "attempts": max(0, mine.attempts - 1)}
    return bool(connection.execute(update(retrieval).where(is_mine).values(claim=None, **values)).rowcount)


def held(connection: Connection, number: int) -> dict[Key, SoundInstanceRow]:
    """Return the sound instances of a retrieval by their key; of several, the one received last."""
    wanted = (
        sound_instances()
        .join(retrieved, retrieved.c.instance == instance.c.id)
        .where(retrieved.c.retrieval == number, instance.c.state.in_(HOLDS_ITS_KEY), arrival.c.gone_at.is_(None))
        .order_by(instance.c.id)
    )
    found = read_all(SoundInstanceRow, connection.execute(wanted))
    return {(row.series_instance_uid, row.sop_instance_uid): row for row in found}


def from_strangers(connection: Connection, study: str, since: float) -> dict[tuple[str, str | None], int]:
    """Count instances of a study from senders other than the PACS since then, by AE title and address."""
    wanted = (
        select(
            instance.c.calling_ae_title,
            arrival.c.peer,
            instance.c.series_instance_uid,
            instance.c.sop_instance_uid,
        )
        .join(arrival, arrival.c.name == instance.c.arrival)
        .where(
            instance.c.study_instance_uid == study,
            is_of_kind(instance, ScopeKind.STRANGER),
            instance.c.state.in_(HOLDS_ITS_KEY),
            arrival.c.admitted_at >= since,
        )
    )
    return Counter((row[0], row[1]) for row in set(connection.execute(wanted)))


def contradicted(connection: Connection, number: int) -> set[Key]:
    """Return the keys that came several times for a retrieval with different contents.

    It is unknown which of them the PACS means.
    """
    wanted = (
        select(instance.c.series_instance_uid, instance.c.sop_instance_uid)
        .join(retrieved, retrieved.c.instance == instance.c.id)
        .where(
            retrieved.c.retrieval == number,
            instance.c.state.in_((*HOLDS_ITS_KEY, InstanceState.CONFLICT)),
            instance.c.discarded_at.is_(None),
        )
        .group_by(instance.c.series_instance_uid, instance.c.sop_instance_uid)
        .having(func.count(instance.c.data_set_sha256.distinct()) > 1)
    )
    return {(series, uid) for series, uid in connection.execute(wanted)}


def set_aside(connection: Connection, number: int) -> dict[str, int]:
    """Count the instances of a retrieval that came and are quarantined, by the reason."""
    wanted = (
        select(instance.c.reason, func.count())
        .join(retrieved, retrieved.c.instance == instance.c.id)
        .where(retrieved.c.retrieval == number, instance.c.state == InstanceState.QUARANTINED)
        .group_by(instance.c.reason)
    )
    return {reason or "": count for reason, count in connection.execute(wanted)}


def came(connection: Connection, number: int) -> dict[Key, int]:
    """Return the sound instances of a retrieval by their key, each with its Number of Frames.

    Contradicted keys do not count.
    """
    wanted = (
        select(instance.c.series_instance_uid, instance.c.sop_instance_uid, instance.c.frames)
        .join(retrieved, retrieved.c.instance == instance.c.id)
        .join(arrival, arrival.c.name == instance.c.arrival)
        .where(retrieved.c.retrieval == number, instance.c.state.in_(HOLDS_ITS_KEY), arrival.c.gone_at.is_(None))
    )
    doubtful = contradicted(connection, number)
    found = {(series, uid): frames or 1 for series, uid, frames in connection.execute(wanted)}
    return {key: frames for key, frames in found.items() if key not in doubtful}


def kept(connection: Connection, study: str) -> list[SoundInstanceRow]:
    """Return every sound instance of a study that came to the receiver of orders from any sender, and is kept.

    Each row has the sender's address; the caller must check whether it is the PACS.
    """
    wanted = (
        sound_instances()
        .where(
            instance.c.study_instance_uid == study,
            is_of_kind(instance, *AT_THE_RECEIVER_OF_ORDERS),
            instance.c.state.in_(HOLDS_ITS_KEY),
            arrival.c.gone_at.is_(None),
        )
        .order_by(instance.c.id)
    )
    return read_all(SoundInstanceRow, connection.execute(wanted))


def open_links(connection: Connection, number: int) -> list[WantedStudyRow]:
    """Return the studies of open orders that wait for a retrieval."""
    wanted = (
        select(order_study, orders.c.modalities)
        .join(orders, orders.c.id == order_study.c.order_id)
        .where(order_study.c.retrieval == number, orders.c.state == OrderState.OPEN)
        .order_by(order_study.c.order_id)
    )
    return read_all(WantedStudyRow, connection.execute(wanted))


def is_being_taken_in(connection: Connection, receiver: str) -> bool:
    """Tell whether an arrival at `receiver` is known whose instances are not yet."""
    waits = exists(select(arrival.c.name).where(arrival.c.receiver == receiver, arrival.c.state == "admitted"))
    return bool(connection.scalar(select(waits)))
