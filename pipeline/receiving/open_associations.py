"""Remember the open associations: the threads to wait for, and the storescp processes that can be ended."""

import subprocess
import threading
import time
from dataclasses import dataclass


@dataclass(slots=True)
class _OpenAssociation:
    """An open association; `process` is its storescp once it runs."""

    thread: threading.Thread
    process: subprocess.Popen[bytes] | None = None


class OpenAssociations:
    """The open associations by their number."""

    def __init__(self) -> None:
        self._guests: dict[int, _OpenAssociation] = {}
        self._lock = threading.Lock()
        self._closing = False

    def add(self, number: int, thread: threading.Thread) -> None:
        """Add an association whose thread is about to start."""
        with self._lock:
            self._guests[number] = _OpenAssociation(thread)

    def forget(self, number: int) -> None:
        """Remove an association that has ended."""
        with self._lock:
            del self._guests[number]

    def remember(self, number: int, process: subprocess.Popen[bytes]) -> None:
        """Add the storescp of an association; terminate it at once after `end_all`."""
        with self._lock:
            self._guests[number].process = process
            if self._closing:
                process.terminate()

    def end_all(self) -> None:
        """Terminate every storescp, and those that start later."""
        with self._lock:
            self._closing = True
            running = [guest.process for guest in self._guests.values() if guest.process]
        for process in running:
            process.terminate()

    def join(self, seconds: float) -> None:
        """Return when all threads have ended, at the latest after `seconds`."""
        deadline = time.monotonic() + seconds
        with self._lock:
            threads = [guest.thread for guest in self._guests.values()]
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0))
