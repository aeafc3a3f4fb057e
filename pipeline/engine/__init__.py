"""How workers learn that the ledger has changed: `alone` on one machine, `procrastinate` between several.

The ledger is the truth, and a notice carries none: who hears one looks at the ledger at once, as it does every few
seconds anyway. A notice that is lost, doubled or late costs time only.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from sqlalchemy import Connection

STUDIES = "process"
ORDERS = "orders/desk"
SETTLE = "settle"
NODES = "nodes"
DELIVERIES = "deliver"  # To any destination.


def intake(receiver: str) -> str:
    """Return the lane of the arrivals of a receiver."""
    return f"intake/{receiver}"


def deliver(destination: str) -> str:
    """Return the lane of the deliveries to a destination."""
    return f"{DELIVERIES}/{destination}"


class Engine(Protocol):
    """What carries notices. A lane names what has changed; as long as one is not heard, others of it are none."""

    def install(self, change: Connection, *, may_replace: bool) -> None:
        """Make what the ledger's database needs for it; with `may_replace`, in the place of an earlier release's.

        Raises Configuration where a package is missing, or a person must replace something first.
        """

    def require(self, look: Connection) -> None:
        """Raise Configuration unless a worker has called `install`."""

    def ring(self, change: Connection, lane: str) -> None:
        """Tell other workers, once the transaction `change` is committed, to look at what the lane names."""

    def listening(self, wake: Callable[[str], None], tick: Callable[[], None]) -> AbstractContextManager[None]:
        """Call `wake` with the lane of what is heard during the block.

        Of all workers that listen, one calls `tick` every two seconds. Both are called in other threads. Nothing
        is raised, whatever becomes of the database.
        """
