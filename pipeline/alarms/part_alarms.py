"""Alarms of `storestow up` about its parts: a worker that is silent, a part that dies again and again.

The worker reports everything else, but cannot report its own silence. The ledger is not read, because it may be
the fault.
"""

import socket
import threading
import time

from pipeline.config.alarm_tables import AlarmTable


class PartAlarms:
    """Report each key once within `again_after`, in a thread, because `up` must watch its parts."""

    def __init__(self, table: AlarmTable) -> None:
        self._table = table
        self._told: dict[str, float] = {}  # by the monotonic clock

    def tell(self, key: str, text: str) -> None:
        """Report `key`, unless that was done within `again_after`, or the hour has had all its messages."""
        now = time.monotonic()
        if now - self._told.get(key, -1e12) < self._table.again_after.total_seconds():
            return
        if sum(now - at < 3600 for at in self._told.values()) >= self._table.messages_an_hour:
            return
        self._told[key] = now
        threading.Thread(target=self._send, args=(key, text), name="alarm", daemon=True).start()

    def _send(self, key: str, text: str) -> None:
        from pipeline.alarms.channels import Channels, Letter  # noqa: PLC0415  # `up` must stay small while it waits

        if not Channels(self._table).send(
            Letter(f"storestow {socket.gethostname()}: {text}", text, "alarm", (key,))
        ):
            self._told.pop(key, None)
