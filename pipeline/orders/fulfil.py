"""Bring orders on: look how each open one stands, and take the step that is due. What takes long is handed out.

Every look asks the ledger alone, so it does not matter which process died when.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from pipeline import send
from pipeline.ledger import deliveries, orders, retrievals
from pipeline.model import SEND_VERB, DeliveryState, OrderError, OrderStage, OrderState, RetrievalState
from pipeline.orders import retrieval
from pipeline.orders.consigning import consign
from pipeline.orders.ending import end
from pipeline.orders.finding import find
from pipeline.site import Site
from pipeline.waypoints import reached

ENDED = {RetrievalState.COMPLETE, RetrievalState.INCOMPLETE, RetrievalState.FAILED}
GRAVEST = (  # of several reasons, the one a person should see
    OrderError.INTERNAL,
    OrderError.RECEIVER_NOT_READY,
    OrderError.PACS_UNREACHABLE,
    OrderError.MOVE_TIMED_OUT,
    OrderError.MOVE_INCOMPLETE,
    OrderError.NO_DATA,
)


def look_at(order: Any, site: Site, now: float, since: float) -> bool:
    """Take the step that is due for an open order if it is a short one; return whether a long one is due.

    `since` is when the worker started: no order runs out of time while nobody worked.
    """
    if _is_out_of_time(order, site, now, since):
        _run_out(order, site)
        return False
    if order.stage == OrderStage.DELIVERING:
        _conclude(order, site)
        return False
    if order.stage == OrderStage.QUEUED:
        return _weigh(order, site)
    if order.verb == SEND_VERB and order.stage == OrderStage.PLACED:
        return _await_files(order, site)
    return True


def take_long_step(number: int, site: Site) -> None:
    """Take the step of an order that takes long: ask the PACS, or prepare what has come."""
    with site.ledger.reading() as look:
        order = orders.row(look, number)
    if order is None or order.state != OrderState.OPEN:
        return
    if order.stage in {OrderStage.PLACED, OrderStage.FINDING}:
        find(number, site)
    elif order.stage == OrderStage.PREPARING:
        consign(number, site)


def _weigh(order: Any, site: Site) -> bool:
    """Go on once every study has come, or end where one has not; say whether it is to be prepared now.

    A study that has grown between an earlier order's retrieval and this order's question is asked for again.
    """
    with site.ledger.reading() as look:
        studies = _studies(look, order)
    if not all(study.move.state in ENDED for study in studies):
        return False
    lacking = [study for study in studies if study.is_lacking]
    again = [study.wish for study in lacking if study.has_grown]
    if again:
        _ask_again(again, site)
        return False
    received = sum(study.received for study in studies)
    if not lacking or (order.incomplete_allowed and received):
        _enter(order, OrderStage.PREPARING, site)
        return True
    error, detail = _gravest(lacking)
    end(order.id, OrderState.PARTIAL if received else OrderState.FAILED, site, error, detail)
    return False


@dataclass(frozen=True, slots=True)
class _Study:
    """A study of an order, its retrieval, and what has come of it."""

    wish: Any
    move: Any
    received: int
    is_lacking: bool

    @property
    def has_grown(self) -> bool:
        """Say whether the order has asked the PACS later than the retrieval did, and been told of more."""
        started = self.move.started_at
        return self.move.state != RetrievalState.FAILED and started is not None and started < self.wish.found_at


def _studies(look: Connection, order: Any) -> list[_Study]:
    studies = []
    for wish in orders.wishes(look, order.id):
        move = retrievals.row(look, wish.retrieval)
        held = set(retrievals.held(look, wish.retrieval))
        is_lacking = not retrieval.satisfies(move, held, wish)
        studies.append(_Study(wish, move, len(retrieval.of_wish(held, wish)), is_lacking))
    return studies


def _ask_again(wishes: Sequence[Any], site: Site) -> None:
    """Queue what is new of these studies, together with what has come of them."""
    for wish in wishes:
        modalities = "\\".join(wish.modalities)
        with site.ledger.transaction() as change:
            listed = {(series, one) for series, one in wish.listed or ()}
            held = retrievals.held(change, wish.retrieval)
            instances = [row.id for key, row in held.items() if key in listed]
            number = retrievals.enter(change, wish.study_instance_uid, modalities, instances, wish.found_at)
            orders.change_link(change, wish.order_id, wish.study_instance_uid, retrieval=number)
        reached("order-attached-again")


def _gravest(lacking: Sequence[_Study]) -> tuple[OrderError, str | None]:
    moves = [study.move for study in lacking]
    by_kind = {OrderError(move.error_kind or OrderError.MOVE_INCOMPLETE): move.detail for move in moves}
    kind = next(kind for kind in GRAVEST if kind in by_kind)
    return kind, by_kind[kind]


def _enter(order: Any, stage: OrderStage, site: Site) -> None:
    with site.ledger.transaction() as change:
        orders.set_stage(change, order.id, stage)


def _conclude(order: Any, site: Site) -> None:
    """End an order whose delivery has ended; without one all was at the destination already."""
    with site.ledger.reading() as look:
        delivery = orders.delivery_of(look, order.id)
        lacking = [study for study in _studies(look, order) if study.is_lacking]
        unsent = orders.unsent(look, order.id) if order.verb == SEND_VERB else []
    if delivery is not None and delivery.state == DeliveryState.REFUSED:
        kind = OrderError(order.error_kind or OrderError.RELAY_FAILED)
        state = OrderState.PARTIAL if kind == OrderError.RELAY_INCOMPLETE else OrderState.FAILED
        end(order.id, state, site, kind, delivery.reason)
    elif delivery is not None and delivery.state != DeliveryState.DELIVERED:
        return
    elif lacking:
        end(order.id, OrderState.PARTIAL, site, *_gravest(lacking))
    elif order.missing:
        unknown = f"the PACS has no study under {', '.join(order.missing)}; the others were delivered"
        end(order.id, OrderState.PARTIAL, site, OrderError.NO_DATA, unknown)
    elif unsent:
        end(order.id, OrderState.PARTIAL, site, OrderError.RELAY_INCOMPLETE, _unsent(order, unsent))
    else:
        end(order.id, OrderState.DONE, site)


def _unsent(order: Any, reasons: Sequence[str]) -> str:
    return f"{len(reasons)} of {order.files} files cannot be sent: {reasons[0]}"


def _await_files(order: Any, site: Site) -> bool:
    """Go on with a `send` once its files have been taken in; say whether they are to be prepared now."""
    with site.ledger.reading() as look:
        is_taken_in = orders.has_instances(look, order.id)
        rows, unsent = orders.sent_instances(look, order.id), orders.unsent(look, order.id)
    if is_taken_in and rows:
        _enter(order, OrderStage.PREPARING, site)
        return True
    if is_taken_in:
        end(order.id, OrderState.FAILED, site, OrderError.RELAY_FAILED, _unsent(order, unsent))
    else:
        send.admit_complete(site.spool)
    return False


def _is_out_of_time(order: Any, site: Site, now: float, since: float) -> bool:
    limit = site.settings.shim.order_timeout.total_seconds()
    placed = order.created_at if order.created_at <= now else since  # a clock was set back
    return bool(now - max(placed, since) > limit)


def _run_out(order: Any, site: Site) -> None:
    """End an order that has taken too long; what its destination has in hand is waited for: then it is known."""
    limit = site.settings.shim.order_timeout.total_seconds()
    with site.ledger.transaction() as change:
        delivery = orders.delivery_of(change, order.id)
        if delivery is not None and delivery.state in deliveries.OPEN:
            reason = f"not delivered within {limit:g} s: {delivery.reason or 'its turn has not come'}"
            deliveries.finish(change, delivery.id, DeliveryState.REFUSED, reason)
    if delivery is None:
        kind = OrderError.RELAY_FAILED if order.verb == SEND_VERB else OrderError.MOVE_TIMED_OUT
        end(order.id, OrderState.FAILED, site, kind, f"not finished within {limit:g} s")
    else:
        _conclude(order, site)
