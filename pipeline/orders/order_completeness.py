"""Tell what an order has of each of its studies, and whether that is all: after retrieval, and before delivery."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from pipeline.ledger import orders, retrievals
from pipeline.ledger.completeness import StudyCompleteness, of_wish
from pipeline.ledger.rows import OrderRow, RetrievalRow, WantedStudyRow
from pipeline.model import OrderError, RetrievalState

GRAVEST = (  # A person sees the first of several reasons, in this order.
    OrderError.INTERNAL,
    OrderError.RECEIVER_NOT_READY,
    OrderError.PACS_UNREACHABLE,
    OrderError.MOVE_TIMED_OUT,
    OrderError.MOVE_INCOMPLETE,
    OrderError.NO_DATA,
)


@dataclass(frozen=True, slots=True)
class StudyStatus:
    """A study of an order, its retrieval, and its readable instances."""

    wish: WantedStudyRow
    move: RetrievalRow
    found: StudyCompleteness

    @property
    def received(self) -> int:
        """Return the number of the study's instances that are here and readable."""
        return len(self.found.instances)

    @property
    def is_lacking(self) -> bool:
        """Say whether instances of the study are missing."""
        return not self.found.is_complete

    @property
    def has_grown(self) -> bool:
        """Say whether the order queried the PACS after the retrieval had started, so that it may know of more."""
        started = self.move.started_at
        return self.move.state != RetrievalState.FAILED and started is not None and started < self.wish.found_at

    @property
    def reason(self) -> str | None:
        """Return why instances are missing; if the retrieval was complete, some were lost or became unreadable."""
        if self.move.state != RetrievalState.COMPLETE:
            return self.move.detail
        wanted = self.found.expected or "an unknown number of"
        return f"{self.received} of {wanted} instances are here and can be read"


def weigh(connection: Connection, order: OrderRow) -> list[StudyStatus]:
    """Return the status of every study of an order."""
    studies = []
    for wish in orders.wishes(connection, order.id):
        assert wish.retrieval is not None  # Every study of a queued order has a retrieval.
        move, came = retrievals.row(connection, wish.retrieval), retrievals.came(connection, wish.retrieval)
        studies.append(StudyStatus(wish, move, of_wish(wish, order.modalities, move, came)))
    return studies


def lacking(connection: Connection, order: OrderRow) -> list[StudyStatus]:
    """Return the studies of an order with missing instances."""
    return [study for study in weigh(connection, order) if study.is_lacking]


def gravest(studies: Sequence[StudyStatus]) -> tuple[OrderError, str | None]:
    """Return the error, and the reason in words, with which an order with these incomplete studies ends."""
    by_kind = {study.move.error_kind or OrderError.MOVE_INCOMPLETE: study.reason for study in studies}
    kind = next(kind for kind in GRAVEST if kind in by_kind)
    return kind, by_kind[kind]
