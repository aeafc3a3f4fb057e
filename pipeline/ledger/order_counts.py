"""The state of an order, counted over its studies, their retrievals and its delivery."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, or_, select

from pipeline.ledger import given_files, orders, retrievals
from pipeline.ledger.completeness import of_wish
from pipeline.ledger.instance_rows import HOLDS_ITS_KEY
from pipeline.ledger.rows import DeliveryRow, OrderRow, OrderStudyRow, RetrievalRow, read_all
from pipeline.ledger.scope import FROM_THE_PACS, is_of_kind
from pipeline.ledger.tables import arrival, instance, receipt, retrieval, retrieved
from pipeline.model import ARRIVED, LeftOutCode, OrderStage, ReceiptState, RetrievalState


@dataclass(frozen=True, slots=True)
class CountedStudy:
    """The state of a study of an order; `series` are (Series Instance UID, Modality, instances or None)."""

    study_instance_uid: str
    accession_numbers: tuple[str, ...]
    series: tuple[tuple[str, str, int | None], ...]
    retrieval: int | None
    expected: int | None
    received: int
    overruled: int | None  # The count of the PACS, if its final response says that fewer are all.


@dataclass(frozen=True, slots=True)
class NotThere:
    """How many instances the made file lacks, and why."""

    reason: str
    instances: int
    code: LeftOutCode


@dataclass(frozen=True, slots=True)
class OrderCounts:
    """The counts of an order, over all its studies and its delivery."""

    stage: OrderStage
    place_in_queue: int | None
    studies: tuple[CountedStudy, ...]
    expected: int | None
    received: int
    counted: int | None  # Counted by the PACS, if that is more than expected.
    failed: int
    sent: int
    refused: int
    late: int
    from_strangers: Mapping[tuple[str, str | None], int]  # Keys are AE title and address.
    made_path: str | None
    made_size: int
    left_out: tuple[NotThere, ...]
    last_progress_at: float
    moving_since: float | None  # When the first of its retrievals began.
    remark: str | None  # Why it waits, while it waits.


def counts(connection: Connection, order: OrderRow) -> OrderCounts:
    """Return the current counts of the order `order`."""
    links = orders.links(connection, order.id)
    moves = _retrievals(connection, [link.retrieval for link in links if link.retrieval is not None])
    studies = tuple(_study(connection, link, moves.get(link.retrieval or 0), order) for link in links)
    figures = [study.expected for study in studies]
    sent = orders.delivery_of(connection, order.id)
    answers = _answers(connection, sent.id) if sent else {}
    return OrderCounts(
        stage=_stage(order, list(moves.values())),
        place_in_queue=_place(connection, list(moves.values())),
        studies=studies,
        expected=None if None in figures or not figures else sum(figure or 0 for figure in figures),
        received=sum(study.received for study in studies),
        counted=_counted(studies),
        failed=sum(move.failed for move in moves.values()),
        sent=sum(count for state, count in answers.items() if state in ARRIVED),
        refused=answers.get(ReceiptState.REFUSED, 0),
        late=_late(connection, order, links) if sent else 0,
        from_strangers=_from_strangers(connection, order, links),
        made_path=sent.made_path if sent else None,
        made_size=(sent.made_size or 0) if sent else 0,
        left_out=_left_out(connection, sent.id) if sent else (),
        last_progress_at=max((move.last_progress_at for move in moves.values()), default=0.0),
        moving_since=min((move.started_at for move in moves.values() if move.started_at), default=None),
        remark=None if order.ended_at else _remark(connection, order, sent),
    )


def _remark(connection: Connection, order: OrderRow, sent: DeliveryRow | None) -> str | None:
    if sent:
        return sent.reason
    awaited = given_files.awaited_delivery(connection, order)
    return None if awaited is None else given_files.words_for(awaited)


def _retrievals(connection: Connection, numbers: Sequence[int]) -> dict[int, RetrievalRow]:
    wanted = select(retrieval).where(retrieval.c.id.in_(numbers))
    return {row.id: row for row in read_all(RetrievalRow, connection.execute(wanted))}


def _study(
    connection: Connection, link: OrderStudyRow, move: RetrievalRow | None, order: OrderRow
) -> CountedStudy:
    came = retrievals.came(connection, move.id) if move else {}
    found = of_wish(link, order.modalities, move, came)
    received = len(found.instances)
    if move is not None and order.ended_at is None and move.modalities == order.modalities:
        received = max(received, min(move.arrived, found.expected or move.arrived))
    return CountedStudy(
        link.study_instance_uid,
        link.accession_numbers,
        link.series,
        link.retrieval,
        found.expected,
        received,
        found.overruled,
    )


def _counted(studies: Sequence[CountedStudy]) -> int | None:
    """Return the PACS's count for all studies, None if it equals what is expected."""
    if all(study.overruled is None for study in studies):
        return None
    return sum(study.expected or 0 if study.overruled is None else study.overruled for study in studies)


def _stage(order: OrderRow, moves: Sequence[RetrievalRow]) -> OrderStage:
    """Return the stage; for an order that retrieves, the stage of its furthest retrieval."""
    if order.stage not in {OrderStage.FINDING, OrderStage.QUEUED} or not moves:
        return order.stage
    states = {move.state for move in moves}
    if RetrievalState.MOVING in states:
        return OrderStage.MOVING
    return OrderStage.QUEUED if RetrievalState.QUEUED in states else OrderStage.RECEIVING


def _place(connection: Connection, moves: Sequence[RetrievalRow]) -> int | None:
    waiting = [move.id for move in moves if move.state == RetrievalState.QUEUED]
    if not waiting:
        return None
    ahead = select(func.count()).where(
        retrieval.c.id < min(waiting), retrieval.c.state.in_((RetrievalState.QUEUED, RetrievalState.MOVING))
    )
    return connection.scalar(ahead)


def _answers(connection: Connection, number: int) -> dict[str, int]:
    counted = select(receipt.c.state, func.count()).where(receipt.c.delivery == number).group_by(receipt.c.state)
    return {row[0]: row[1] for row in connection.execute(counted)}


def _left_out(connection: Connection, number: int) -> tuple[NotThere, ...]:
    """Return why instances are missing from the made file, the most frequent reason first."""
    count = func.count()
    counted = (
        select(receipt.c.message, count, receipt.c.left_out)
        .where(receipt.c.delivery == number, receipt.c.left_out.is_not(None))
        .group_by(receipt.c.message, receipt.c.left_out)
        .order_by(count.desc(), receipt.c.message)
    )
    return tuple(read_all(NotThere, connection.execute(counted)))


def _from_strangers(
    connection: Connection, order: OrderRow, links: Sequence[OrderStudyRow]
) -> Counter[tuple[str, str | None]]:
    """Count instances of the order's studies that came while it was open from senders other than the PACS."""
    counted: Counter[tuple[str, str | None]] = Counter()
    for link in links:
        counted += Counter(retrievals.from_strangers(connection, link.study_instance_uid, order.created_at))
    return counted


def _late(connection: Connection, order: OrderRow, links: Sequence[OrderStudyRow]) -> int:
    """Count instances of the order's studies that came otherwise, and are in none of its results."""
    own = [link.retrieval for link in links if link.retrieval is not None]
    held = (
        select(instance.c.sop_instance_uid)
        .join(retrieved, retrieved.c.instance == instance.c.id)
        .where(retrieved.c.retrieval.in_(own))
    )
    wanted = (
        select(instance.c.study_instance_uid, instance.c.series_instance_uid, instance.c.sop_instance_uid)
        .join(arrival, arrival.c.name == instance.c.arrival)
        .where(
            instance.c.study_instance_uid.in_([link.study_instance_uid for link in links]),
            is_of_kind(instance, *FROM_THE_PACS),
            instance.c.state.in_(HOLDS_ITS_KEY),
            instance.c.sop_instance_uid.not_in(held),
            arrival.c.admitted_at > order.created_at,
        )
    )
    if order.modalities:
        series = {uid for link in links for uid, _, _ in link.series}
        is_asked = or_(instance.c.series_instance_uid.in_(series), instance.c.modality.in_(order.modalities))
        wanted = wanted.where(is_asked)
    return connection.scalar(select(func.count()).select_from(wanted.distinct().subquery())) or 0
