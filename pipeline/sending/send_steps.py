"""The steps of a `send`: its files are identified, then prepared and consigned, then delivered."""

from sqlalchemy import Connection

from pipeline.ledger import given_files, orders
from pipeline.ledger.rows import OrderRow
from pipeline.model import SEND_VERB, OrderError, OrderStage, OrderState
from pipeline.orders.finish import OrderEnding, Shortage, conclude, end, is_out_of_time, run_out
from pipeline.sending.consign_files import consign_files
from pipeline.sending.send import admit_complete
from pipeline.site.site import Site


def look_at(order: OrderRow, site: Site, now: float, since: float) -> bool:
    """Take the due step of an open `send` if it is short; return whether a long one is due.

    `since` is when the worker started: no order times out while no worker ran.
    """
    if is_out_of_time(order, site, now, since):
        run_out(order, ENDING, site)
        return False
    if order.stage == OrderStage.DELIVERING:
        conclude(order.id, ENDING, site)
        return False
    is_taken_in = order.stage != OrderStage.PLACED or _await_files(order, site)
    return is_taken_in and not _awaits_another(order, site)


def take_long_step(number: int, site: Site) -> None:
    """Prepare the files of a `send`, and open its delivery."""
    with site.ledger.reading() as connection:
        order = orders.row(connection, number)
    if order is not None and order.state == OrderState.OPEN and order.stage == OrderStage.PREPARING:
        consign_files(order, site)


def _await_files(order: OrderRow, site: Site) -> bool:
    """Go on once the files have been identified, or end if none of them is sound; return whether to go on."""
    with site.ledger.reading() as connection:
        are_taken_in = given_files.are_taken_in(connection, order.id)
        rows = given_files.instances_of(connection, order.id)
        shortage = _shortage(connection, order)
    if are_taken_in and rows:
        with site.ledger.transaction() as connection:
            orders.set_stage(connection, order.id, OrderStage.PREPARING)
        return True
    if are_taken_in:
        _, detail = shortage or (None, None)
        end(order.id, OrderState.FAILED, site, OrderError.RELAY_FAILED, detail)
    else:
        admit_complete(site.spool)
    return False


def _awaits_another(order: OrderRow, site: Site) -> bool:
    """Tell whether it waits for a delivery of the same instances, so that they are not sent twice."""
    with site.ledger.reading() as connection:
        return given_files.awaited_delivery(connection, order) is not None


def _shortage(connection: Connection, order: OrderRow) -> Shortage | None:
    """Return why files were not sent, None if all were."""
    reasons = given_files.reasons_unsent(connection, order.id)
    if not reasons:
        return None
    return OrderError.RELAY_INCOMPLETE, f"{len(reasons)} of {order.files} files cannot be sent: {reasons[0]}"


def _words_for_awaited(connection: Connection, order: OrderRow) -> str | None:
    number = given_files.awaited_delivery(connection, order)
    return None if number is None else given_files.words_for(number)


VERB = SEND_VERB  # The verb of the orders that take these steps.
ENDING = OrderEnding(OrderError.RELAY_FAILED, _shortage, _words_for_awaited)
