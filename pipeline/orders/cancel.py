"""End an order that nobody needs any more, by the decision of a person (`storestow cancel`)."""

from pipeline.errors import Transient, Usage
from pipeline.ledger import Ledger, deliveries, orders
from pipeline.model import DeliveryState, OrderError, OrderState
from pipeline.orders import finish
from pipeline.site.reason import reason_of

IN_HAND = (DeliveryState.SENDING,)


class DeliveryRunning(Transient):
    """Say that an order cannot be cancelled now, because its delivery is running."""


def cancel(ledger: Ledger, number: int, reason: str) -> None:
    """End the open order `number` as failed, with `reason`; undelivered instances are not sent.

    Instances that the PACS still sends for it are received and kept as for other orders, but not delivered.

    Raises:
        Usage: there is no such order, it has ended, or the reason has not 3 to 200 characters.
        DeliveryRunning: its delivery is running, so that the result is unknown; try again later.
    """
    detail = f"cancelled by a person: {reason_of(reason, 'why nobody needs this any more')}"
    with ledger.transaction() as connection:
        row = orders.row(connection, number)
        if row is None:
            raise Usage(f"there is no order {number}")
        if row.state != OrderState.OPEN:
            raise Usage(f"order {number} has ended: {row.state}")
        delivery = orders.delivery_of(connection, number)
        if delivery is not None and delivery.state in IN_HAND:
            where = delivery.destination
            raise DeliveryRunning(f"order {number} is being sent to {where} just now; try again later")
        if delivery is not None and delivery.state in deliveries.OPEN:
            deliveries.finish(connection, delivery.id, DeliveryState.REFUSED, detail)
        finish.end_within(connection, number, OrderState.FAILED, OrderError.CANCELLED, detail)
    finish.say(number, OrderState.FAILED, OrderError.CANCELLED, None)
