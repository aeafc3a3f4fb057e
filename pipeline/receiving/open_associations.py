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
    """The open associations by the name of their folder; any other folder is left from an earlier one."""

    def __init__(self) -> None:
        self._guests: dict[str, _OpenAssociation] = {}
        self._lock = threading.Lock()
        self._closing = False

    def add(self, name: str, thread: threading.Thread) -> None:
        """Add an association whose thread is about to start."""
        with self._lock:
            self._guests[name] = _OpenAssociation(thread)

    def forget(self, name: str) -> None:
        """Remove an association that has ended."""
        with self._lock:
            del self._guests[name]

    def remember(self, name: str, process: subprocess.Popen[bytes]) -> None:
        """Add the storescp of an association; terminate it at once after `end_all`."""
        with self._lock:
            self._guests[name].process = process
            if self._closing:
                process.terminate()

    @property
    def names(self) -> set[str]:
        """Return the names of the folders of open associations."""
        with self._lock:
            return set(self._guests)

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
