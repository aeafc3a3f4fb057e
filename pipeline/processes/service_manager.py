"""Tell the service manager how this process stands: the messages of sd_notify(3), over $NOTIFY_SOCKET.

Without that variable nothing happens. `storestow up` listens for the same messages of its worker.
"""

import contextlib
import os
import socket
import tempfile
import threading
from collections.abc import Iterator

READY, ALIVE, STOPPING = "READY=1", "WATCHDOG=1", "STOPPING=1"
LONGER = "EXTEND_TIMEOUT_USEC=60000000"  # a start or stop that makes progress may take another minute
_ALIVE_EVERY_SECONDS = 10.0


def notify(*messages: str) -> None:
    """Send the messages in one datagram; a manager that does not listen is no reason to stop."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # Linux's abstract sockets have a NUL in place of the @
        address = f"\0{address[1:]}"
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(1.0)
        manager.connect(address)
        manager.send("\n".join(messages).encode())


class Listener:
    """Listens, as a service manager does, to the process that is given `address` as its $NOTIFY_SOCKET."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="storestow-")  # short: an address holds 100 characters
        self.address = f"{self._folder.name}/notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)

    def heard(self) -> set[str]:
        """Return the messages that came since the last call."""
        messages: set[str] = set()
        with contextlib.suppress(BlockingIOError):
            while True:
                messages.update(self._socket.recv(4096).decode("ascii", "replace").splitlines())
        return messages

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()
        self._folder.cleanup()


@contextlib.contextmanager
def kept_waiting(at_most_seconds: float) -> Iterator[None]:
    """Say within the block that this process is alive, for one long step that cannot say so itself."""
    ended = threading.Event()

    def say() -> None:
        for _ in range(int(at_most_seconds / _ALIVE_EVERY_SECONDS)):
            notify(ALIVE, LONGER)
            if ended.wait(_ALIVE_EVERY_SECONDS):
                return

    thread = threading.Thread(target=say, name="kept-waiting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
