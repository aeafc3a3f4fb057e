"""Report every few seconds to the ledger and the service manager that the worker's loop lives."""

import contextlib
import time

from pipeline.errors import Transient
from pipeline.ledger import Ledger, heartbeats
from pipeline.processes.service_manager import ALIVE, LONGER, notify
from pipeline.site.worker_state import BEAT_SECONDS


class Heartbeat:
    """The heartbeat of a worker. The loop itself calls `beat`: a thread would report for a loop that hangs."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._started_at = time.time()
        self._next = 0.0  # Monotonic time of the next report.

    def beat(self) -> None:
        """Report that the loop lives, unless it reported less than `BEAT_SECONDS` ago.

        If the ledger cannot be written now, nothing is raised: the worker looks dead to readers, but goes on.
        """
        if time.monotonic() < self._next:
            return
        notify(ALIVE, LONGER)
        with contextlib.suppress(Transient), self._ledger.transaction(flushed=False) as change:
            heartbeats.beat(change, heartbeats.WORKER, self._started_at, time.time())
        self._next = time.monotonic() + BEAT_SECONDS - 0.5  # A loop that wakes every five seconds misses none.
