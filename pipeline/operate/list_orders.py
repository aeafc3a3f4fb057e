"""`storestow orders`: what was requested, and the state of each order."""

from typing import Any

from pipeline import orders
from pipeline.ledger import Ledger, order_queries


def list_orders(ledger: Ledger, *, at_most: int, only_open: bool = False) -> dict[str, Any]:
    """Return the latest orders, the newest first, as `orders --json` has them, without patients."""
    with ledger.reading() as connection:
        numbers = order_queries.newest(connection, at_most, only_open=only_open)
        views = [orders.view(connection, number) for number in numbers]
    return {"orders": [view.as_json() for view in views if view is not None]}
