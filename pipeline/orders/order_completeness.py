"""What an order has of each of its studies, and whether that is all: asked when it came, and before it leaves."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from pipeline.ledger import orders, retrievals
from pipeline.ledger.completeness import StudyCompleteness, of_wish
from pipeline.ledger.rows import OrderRow, RetrievalRow, WantedStudyRow
from pipeline.model import OrderError, RetrievalState

GRAVEST = (  # of several reasons, the one a person should see
    OrderError.INTERNAL,
    OrderError.RECEIVER_NOT_READY,
    OrderError.PACS_UNREACHABLE,
    OrderError.MOVE_TIMED_OUT,
    OrderError.MOVE_INCOMPLETE,
    OrderError.NO_DATA,
)


@dataclass(frozen=True, slots=True)
class StudyStatus:
    """A study of an order, its retrieval, and what has come of it and can be read."""

    wish: WantedStudyRow
    move: RetrievalRow
    found: StudyCompleteness

    @property
    def received(self) -> int:
        """Return how many of its instances are here and can be read."""
        return len(self.found.instances)

    @property
    def is_lacking(self) -> bool:
        """Say whether something of it is not."""
        return not self.found.is_complete

    @property
    def has_grown(self) -> bool:
        """Say whether the order has asked the PACS later than the retrieval did, and been told of more."""
        started = self.move.started_at
        return self.move.state != RetrievalState.FAILED and started is not None and started < self.wish.found_at

    @property
    def reason(self) -> str | None:
        """Return why something lacks; a retrieval that was complete does not know what became of it since."""
        if self.move.state != RetrievalState.COMPLETE:
            return self.move.detail
        wanted = self.found.expected or "an unknown number of"
        return f"{self.received} of {wanted} instances are here and can be read"


def weigh(look: Connection, order: OrderRow) -> list[StudyStatus]:
    """Return how every study of an order stands."""
    studies = []
    for wish in orders.wishes(look, order.id):
        assert wish.retrieval is not None  # every study of an order has one once the order is queued
        move, came = retrievals.row(look, wish.retrieval), retrievals.came(look, wish.retrieval)
        studies.append(StudyStatus(wish, move, of_wish(wish, order.modalities, move, came)))
    return studies


def lacking(look: Connection, order: OrderRow) -> list[StudyStatus]:
    """Return the studies of an order of which something lacks."""
    return [study for study in weigh(look, order) if study.is_lacking]


def gravest(studies: Sequence[StudyStatus]) -> tuple[OrderError, str | None]:
    """Return why an order ends that lacks something of these studies."""
    by_kind = {study.move.error_kind or OrderError.MOVE_INCOMPLETE: study.reason for study in studies}
    kind = next(kind for kind in GRAVEST if kind in by_kind)
    return kind, by_kind[kind]
