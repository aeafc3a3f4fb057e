"""The associations being served: who must be waited for, and whose storescp can be ended."""

import subprocess
import threading
import time
from dataclasses import dataclass


@dataclass(slots=True)
class _OpenAssociation:
    """An association being served; `process` is its storescp once there is one."""

    thread: threading.Thread
    process: subprocess.Popen[bytes] | None = None


class OpenAssociations:
    """Know every association by its folder's name; a folder of none of these is a leftover."""

    def __init__(self) -> None:
        self._guests: dict[str, _OpenAssociation] = {}
        self._lock = threading.Lock()
        self._closing = False

    def add(self, name: str, thread: threading.Thread) -> None:
        """Remember an association whose thread is about to start."""
        with self._lock:
            self._guests[name] = _OpenAssociation(thread)

    def forget(self, name: str) -> None:
        """Forget an association that has ended."""
        with self._lock:
            del self._guests[name]

    def remember(self, name: str, process: subprocess.Popen[bytes]) -> None:
        """Remember the storescp of an association, and end it at once where all are being ended."""
        with self._lock:
            self._guests[name].process = process
            if self._closing:
                process.terminate()

    @property
    def names(self) -> set[str]:
        """Return the folders that are being written."""
        with self._lock:
            return set(self._guests)

    def end_all(self) -> None:
        """Terminate every storescp, and those that are started from now on."""
        with self._lock:
            self._closing = True
            running = [guest.process for guest in self._guests.values() if guest.process]
        for process in running:
            process.terminate()

    def join(self, seconds: float) -> None:
        """Return when all have left, or after so many seconds."""
        deadline = time.monotonic() + seconds
        with self._lock:
            threads = [guest.thread for guest in self._guests.values()]
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0))
