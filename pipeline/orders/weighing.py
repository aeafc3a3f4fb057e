"""What an order has of each of its studies, and whether that is all: asked when it came, and before it leaves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from pipeline.ledger import orders, retrievals
from pipeline.model import OrderError, RetrievalState
from pipeline.orders import retrieval

GRAVEST = (  # of several reasons, the one a person should see
    OrderError.INTERNAL,
    OrderError.RECEIVER_NOT_READY,
    OrderError.PACS_UNREACHABLE,
    OrderError.MOVE_TIMED_OUT,
    OrderError.MOVE_INCOMPLETE,
    OrderError.NO_DATA,
)


@dataclass(frozen=True, slots=True)
class Weighed:
    """A study of an order, its retrieval, and what has come of it and can be read."""

    wish: Any
    move: Any
    received: int
    is_lacking: bool

    @property
    def has_grown(self) -> bool:
        """Say whether the order has asked the PACS later than the retrieval did, and been told of more."""
        started = self.move.started_at
        return self.move.state != RetrievalState.FAILED and started is not None and started < self.wish.found_at

    @property
    def reason(self) -> str | None:
        """Return why something lacks; a retrieval that was complete does not know what became of it since."""
        if self.move.state != RetrievalState.COMPLETE:
            detail: str | None = self.move.detail
            return detail
        wanted = retrieval.wished(self.move, self.wish)
        return f"{self.received} of {wanted or 'an unknown number of'} instances are here and can be read"


def weigh(look: Connection, order: Any) -> list[Weighed]:
    """Return how every study of an order stands."""
    studies = []
    for wish in orders.wishes(look, order.id):
        move = retrievals.row(look, wish.retrieval)
        held = set(retrievals.held(look, wish.retrieval))
        is_lacking = not retrieval.satisfies(move, held, wish)
        studies.append(Weighed(wish, move, len(retrieval.of_wish(held, wish)), is_lacking))
    return studies


def lacking(look: Connection, order: Any) -> list[Weighed]:
    """Return the studies of an order of which something lacks."""
    return [study for study in weigh(look, order) if study.is_lacking]


def gravest(studies: Sequence[Weighed]) -> tuple[OrderError, str | None]:
    """Return why an order ends that lacks something of these studies."""
    by_kind = {OrderError(study.move.error_kind or OrderError.MOVE_INCOMPLETE): study.reason for study in studies}
    kind = next(kind for kind in GRAVEST if kind in by_kind)
    return kind, by_kind[kind]
