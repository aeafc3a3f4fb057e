"""Bring orders on: look how each open one stands, and take the step that is due. What takes long is handed out.

Every look asks the ledger alone, so it does not matter which process died when.
"""

from collections.abc import Sequence

from pipeline.ledger import deliveries, order_queries, orders, retrievals
from pipeline.ledger.rows import OrderRow
from pipeline.model import SEND_VERB, DeliveryState, OrderError, OrderStage, OrderState, RetrievalState
from pipeline.orders import send
from pipeline.orders.consign_order import consign
from pipeline.orders.find_studies import find
from pipeline.orders.finish import end
from pipeline.orders.order_completeness import StudyStatus, gravest, lacking, weigh
from pipeline.site.site import Site

ENDED = {RetrievalState.COMPLETE, RetrievalState.INCOMPLETE, RetrievalState.FAILED}


def look_at(order: OrderRow, site: Site, now: float, since: float) -> bool:
    """Take the step that is due for an open order if it is a short one; return whether a long one is due.

    `since` is when the worker started: no order runs out of time while nobody worked.
    """
    if _is_out_of_time(order, site, now, since):
        _run_out(order, site)
        return False
    if order.stage == OrderStage.DELIVERING:
        _conclude(order.id, site)
        return False
    if order.stage == OrderStage.QUEUED:
        return _weigh(order, site)
    if order.verb == SEND_VERB and order.stage == OrderStage.PLACED:
        return _await_files(order, site)
    return not _awaits_another(order, site)


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


def _weigh(order: OrderRow, site: Site) -> bool:
    """Go on once every study has come, or end where one has not; say whether it is to be prepared now.

    A study that has grown between an earlier order's retrieval and this order's question is asked for again.
    """
    with site.ledger.reading() as look:
        studies = weigh(look, order)
    if not all(study.move.state in ENDED for study in studies):
        return False
    short = [study for study in studies if study.is_lacking]
    again = [study for study in short if study.has_grown]
    if again:
        _ask_again(again, site)
        return False
    received = sum(study.received for study in studies)
    if not short or (order.incomplete_allowed and received):
        _enter(order, OrderStage.PREPARING, site)
        return True
    error, detail = gravest(short)
    has_come = received or any(study.move.arrived for study in studies)  # an open association may still hold it
    end(order.id, OrderState.PARTIAL if has_come else OrderState.FAILED, site, error, detail)
    return False


def _ask_again(studies: Sequence[StudyStatus], site: Site) -> None:
    """Queue what is new of these studies, together with what has come of them."""
    for study in studies:
        wish = study.wish
        with site.ledger.transaction() as change:
            listed = set(wish.listed or ())
            held = retrievals.held(change, study.move.id)
            instances = [row.id for key, row in held.items() if key in listed]
            number = retrievals.enter(change, wish.study_instance_uid, wish.modalities, instances, wish.found_at)
            orders.change_link(change, wish.order_id, wish.study_instance_uid, retrieval=number)


def _enter(order: OrderRow, stage: OrderStage, site: Site) -> None:
    with site.ledger.transaction() as change:
        orders.set_stage(change, order.id, stage)


def _conclude(number: int, site: Site) -> None:
    """End an order whose delivery has ended; without one all was at the destination already."""
    with site.ledger.reading() as look:
        order = orders.row(look, number)  # with what its delivery has written as it ended
        assert order is not None
        delivery = orders.delivery_of(look, number)
        short = lacking(look, order)
        unsent = orders.unsent(look, number) if order.verb == SEND_VERB else []
    if delivery is not None and delivery.state == DeliveryState.REFUSED:
        kind = order.error_kind or OrderError.RELAY_FAILED
        state = OrderState.PARTIAL if kind == OrderError.RELAY_INCOMPLETE else OrderState.FAILED
        end(number, state, site, kind, delivery.reason)
    elif delivery is not None and delivery.state != DeliveryState.DELIVERED:
        return
    elif short:
        end(number, OrderState.PARTIAL, site, *gravest(short))
    elif order.missing:
        unknown = f"{order.detail}; the others were delivered"
        end(number, OrderState.PARTIAL, site, OrderError.NO_DATA, unknown)
    elif unsent:
        end(number, OrderState.PARTIAL, site, OrderError.RELAY_INCOMPLETE, _unsent(order, unsent))
    else:
        end(number, OrderState.DONE, site)


def _unsent(order: OrderRow, reasons: Sequence[str]) -> str:
    return f"{len(reasons)} of {order.files} files cannot be sent: {reasons[0]}"


def _await_files(order: OrderRow, site: Site) -> bool:
    """Go on with a `send` once its files have been taken in; say whether they are to be prepared now."""
    with site.ledger.reading() as look:
        is_taken_in = orders.has_instances(look, order.id)
        rows, unsent = orders.sent_instances(look, order.id), orders.unsent(look, order.id)
    if is_taken_in and rows:
        _enter(order, OrderStage.PREPARING, site)
        return not _awaits_another(order, site)
    if is_taken_in:
        end(order.id, OrderState.FAILED, site, OrderError.RELAY_FAILED, _unsent(order, unsent))
    else:
        send.admit_complete(site.spool)
    return False


def _awaits_another(order: OrderRow, site: Site) -> bool:
    """Tell whether a `send` waits for a delivery of the same instances, so that they do not go twice."""
    with site.ledger.reading() as look:
        return order_queries.awaited(look, order) is not None


def _is_out_of_time(order: OrderRow, site: Site, now: float, since: float) -> bool:
    limit = site.settings.shim.order_timeout.total_seconds()
    placed = order.created_at if order.created_at <= now else since  # a clock was set back
    return bool(now - max(placed, since) > limit)


def _run_out(order: OrderRow, site: Site) -> None:
    """End an order that has taken too long; what its destination has in hand is waited for: then it is known."""
    limit = site.settings.shim.order_timeout.total_seconds()
    with site.ledger.transaction() as change:
        delivery, awaited = orders.delivery_of(change, order.id), order_queries.awaited(change, order)
        if delivery is not None and delivery.state in deliveries.OPEN:
            reason = f"not delivered within {limit:g} s: {delivery.reason or 'its turn has not come'}"
            deliveries.finish(change, delivery.id, DeliveryState.REFUSED, reason)
    if delivery is None:
        kind = OrderError.RELAY_FAILED if order.verb == SEND_VERB else OrderError.MOVE_TIMED_OUT
        why = "" if awaited is None else f": {order_queries.words_for(awaited)}"
        end(order.id, OrderState.FAILED, site, kind, f"not finished within {limit:g} s{why}")
    else:
        _conclude(order.id, site)
