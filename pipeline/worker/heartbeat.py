"""The worker's heartbeat: its loop says every few seconds that it lives, to the ledger and the service manager."""

import contextlib
import time

from pipeline.errors import Transient
from pipeline.ledger import Ledger, heartbeats
from pipeline.processes.service_manager import ALIVE, LONGER, notify
from pipeline.site.worker_state import BEAT_SECONDS


class Heartbeat:
    """Is called by the loop itself, and within its long steps: a thread would beat for a loop that hangs."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._started_at = time.time()
        self._next = 0.0  # by the monotonic clock

    def beat(self) -> None:
        """Say that the loop lives, unless that was said less than `BEAT_SECONDS` ago.

        A ledger that cannot be written now makes the worker look dead to those who read it, and keeps it from
        working; it does not end it.
        """
        if time.monotonic() < self._next:
            return
        notify(ALIVE, LONGER)
        with contextlib.suppress(Transient), self._ledger.transaction(flushed=False) as change:
            heartbeats.beat(change, heartbeats.WORKER, self._started_at, time.time())
        self._next = time.monotonic() + BEAT_SECONDS - 0.5  # a loop that wakes each five seconds misses none
