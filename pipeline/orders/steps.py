"""Take the steps of orders that retrieve: short steps at once, long ones in other threads.

The next step is decided from the ledger only, so an order goes on after the death of any process.
"""

from collections.abc import Sequence

from sqlalchemy import Connection

from pipeline.ledger import orders, retrievals
from pipeline.ledger.rows import OrderRow
from pipeline.model import OrderError, OrderStage, OrderState, RetrievalState
from pipeline.orders.consign_order import consign
from pipeline.orders.find_studies import find
from pipeline.orders.finish import OrderEnding, Shortage, end, is_at_its_end
from pipeline.orders.order_completeness import StudyStatus, gravest, lacking, weigh
from pipeline.site.site import Site

ENDED = {RetrievalState.COMPLETE, RetrievalState.INCOMPLETE, RetrievalState.FAILED}


def look_at(order: OrderRow, site: Site, now: float, since: float) -> bool:
    """Take the due step of an open order if it is short; return whether a long one is due.

    `since` is when the worker started: the time in which no worker ran does not count for the time-out.
    """
    if is_at_its_end(order, ENDING, site, now, since):
        return False
    return _weigh(order, site) if order.stage == OrderStage.QUEUED else True


def take_long_step(number: int, site: Site) -> None:
    """Take the long step of an order: query the PACS, or prepare what has come."""
    with site.ledger.reading() as connection:
        order = orders.row(connection, number)
    if order is None or order.state != OrderState.OPEN:
        return
    if order.stage in {OrderStage.PLACED, OrderStage.FINDING}:
        find(number, site)
    elif order.stage == OrderStage.PREPARING:
        consign(number, site)


def _weigh(order: OrderRow, site: Site) -> bool:
    """Once all retrievals have ended, go on or end the order; return whether to prepare the order now.

    A study that lacks instances, and that this order queried after its retrieval had started, is retrieved again.
    """
    with site.ledger.reading() as connection:
        studies = weigh(connection, order)
    if not all(study.move.state in ENDED for study in studies):
        return False
    short = [study for study in studies if study.is_lacking]
    again = [study for study in short if study.has_grown]
    if again:
        _ask_again(again, site)
        return False
    received = sum(study.received for study in studies)
    if not short or (order.incomplete_allowed and received):
        with site.ledger.transaction() as connection:
            orders.set_stage(connection, order.id, OrderStage.PREPARING)
        return True
    error, detail = gravest(short)
    has_come = received or any(study.move.arrived for study in studies)  # Some may be in an open association.
    end(order.id, OrderState.PARTIAL if has_come else OrderState.FAILED, site, error, detail)
    return False


def _ask_again(studies: Sequence[StudyStatus], site: Site) -> None:
    """Queue a new retrieval for each of these studies; listed instances that have come count for it."""
    for study in studies:
        wish = study.wish
        with site.ledger.transaction() as connection:
            listed = set(wish.listed or ())
            held = retrievals.held(connection, study.move.id)
            instances = [row.id for key, row in held.items() if key in listed]
            number = retrievals.enter(
                connection, wish.study_instance_uid, wish.modalities, instances, wish.found_at
            )
            orders.change_link(connection, wish.order_id, wish.study_instance_uid, retrieval=number)


def _shortage(connection: Connection, order: OrderRow) -> Shortage | None:
    if short := lacking(connection, order):
        return gravest(short)
    return (OrderError.NO_DATA, f"{order.detail}; the others were delivered") if order.missing else None


ENDING = OrderEnding(OrderError.MOVE_TIMED_OUT, _shortage)
