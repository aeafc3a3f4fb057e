"""Report the state of this process to the service manager: messages of sd_notify(3), over $NOTIFY_SOCKET.

Without that variable nothing happens. `storestow up` receives the same messages from its worker.
"""

import contextlib
import os
import socket
import tempfile
import threading
from collections.abc import Iterator

READY, ALIVE, STOPPING = "READY=1", "WATCHDOG=1", "STOPPING=1"
LONGER = "EXTEND_TIMEOUT_USEC=60000000"  # A start or stop that makes progress may take another minute.
_ALIVE_EVERY_SECONDS = 10.0


def notify(*messages: str) -> None:
    """Send the messages in one datagram.

    Errors are ignored, because work must go on if no service manager listens.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # Linux's abstract sockets have a NUL in place of the @.
        address = f"\0{address[1:]}"
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(1.0)
        manager.connect(address)
        manager.send("\n".join(messages).encode())


class Listener:
    """Receive, as a service manager does, the messages of a process whose $NOTIFY_SOCKET is `address`."""

    def __init__(self) -> None:
        # The path must be short: an address holds 100 characters.
        self._folder = tempfile.TemporaryDirectory(prefix="storestow-")
        self.address = f"{self._folder.name}/notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)

    def heard(self) -> set[str]:
        """Return the messages received since the last call."""
        messages: set[str] = set()
        with contextlib.suppress(BlockingIOError):
            while True:
                messages.update(self._socket.recv(4096).decode("ascii", "replace").splitlines())
        return messages

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        self._folder.cleanup()


@contextlib.contextmanager
def kept_waiting(at_most_seconds: float) -> Iterator[None]:
    """Report during one long step, but no longer than `at_most_seconds`, that this process is alive."""
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
