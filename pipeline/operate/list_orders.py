"""`storestow orders`: what was asked for, and how each order stands or has ended."""

from typing import Any

from pipeline import orders
from pipeline.ledger import Ledger, order_queries


def list_orders(ledger: Ledger, *, at_most: int, only_open: bool = False) -> dict[str, Any]:
    """Return the newest orders, the newest first, in the shape of `orders --json`; no patient is in it."""
    with ledger.reading() as connection:
        numbers = order_queries.newest(connection, at_most, only_open=only_open)
        views = [orders.view(connection, number) for number in numbers]
    return {"orders": [view.as_json() for view in views if view is not None]}
