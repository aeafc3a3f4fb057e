"""uvicorn's connection of one client, with limits that uvicorn lacks.

A download that progresses has no limit; a client that takes no byte for a minute, or does not finish its request,
is dropped. Bytes in the kernel's send buffer count as not taken. If too many connections are open, the one that
has been silent for longest is dropped.
"""

import array
import asyncio
import fcntl
import socket
import struct
import sys
import termios
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline.web.http_errors import INVALID_PARAMETER, TOO_LONG, TOO_MANY, ErrorKind, rejection
from pipeline.web.request_target import plain_line

MOST = 1000  # Connections, unless the machine allows fewer open files (`serve`).
LONGEST_HEAD = 16384  # Bytes of a request line and headers.
SO_NWRITE = 0x1024  # From sys/socket.h of macOS: bytes in the send buffer.


class ClientConnection(H11Protocol):
    """A connection that checks its limits every `look_seconds`."""

    look_seconds = 5.0
    patience_seconds = 60.0  # Seconds without a byte taken.
    saying_seconds = 30.0  # Seconds for sending a request.
    most = MOST

    _waiting = 0  # Bytes that wait for the client.
    _since = 0.0  # Time of the last change, or of the last empty buffer.
    _silent_since = 0.0
    _next_look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the checks."""
        super().connection_made(transport)
        self._since = self._silent_since = self.loop.time()
        self._next_look = self.loop.call_later(self.look_seconds, self._look)
        if len(self.connections) > self.most:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Take received bytes; in a request line, bytes that no HTTP parser accepts are percent-encoded."""
        if self.conn.their_state is h11.IDLE:
            data = plain_line(self.conn.trailing_data[0], data)
        if data:  # No bytes at all would mean that the client has ended.
            super().data_received(data)

    def on_response_complete(self) -> None:
        """Give the client its time for the next request from now on."""
        self._silent_since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the checks."""
        if self._next_look:
            self._next_look.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        now = self.loop.time()
        if self._is_stuck(now) or self._says_nothing(now):
            self._drop()
        else:
            self._next_look = self.loop.call_later(self.look_seconds, self._look)

    def _make_room(self) -> None:
        """Drop the connection that has been silent for longest; if all are being served, drop this one."""
        others = [
            connection
            for connection in self.connections
            if isinstance(connection, ClientConnection) and connection is not self
        ]
        silent = [other for other in others if not other._is_served and not other.transport.is_closing()]  # noqa: SLF001
        if silent:
            min(silent, key=lambda one: one._silent_since)._drop()  # noqa: SLF001
        else:
            self._reject(TOO_MANY, "every connection there may be is in use")

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are no HTTP, in the words of the interface, or hang up if an answer has begun."""
        del msg  # The text is uvicorn's.
        if self._is_served or self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            if self._is_served:
                self.cycle.disconnected = True  # The running answer is given up, too.
                self.cycle.message_event.set()
            self.transport.close()
        elif len(self.conn.trailing_data[0]) > LONGEST_HEAD:
            self._reject(TOO_LONG, f"the head of a request has {LONGEST_HEAD} bytes at most")
        else:
            self._reject(INVALID_PARAMETER, "this is no HTTP request")

    def _reject(self, kind: ErrorKind, detail: str) -> None:
        self.transport.write(rejection(kind, detail))
        self.transport.close()

    @property
    def _is_served(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _drop(self) -> None:
        """Break the connection, and make the kernel discard its send buffer."""
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _is_stuck(self, now: float) -> bool:
        ours = self.transport.get_write_buffer_size()
        waiting = ours + _with_the_kernel(self.transport.get_extra_info("socket")) if ours else 0
        if not waiting or waiting != self._waiting:
            self._waiting, self._since = waiting, now
        return now - self._since >= self.patience_seconds

    def _says_nothing(self, now: float) -> bool:
        if self._is_served:
            self._silent_since = now
        return now - self._silent_since >= self.saying_seconds


def _with_the_kernel(connection: Any) -> int:
    """Return how many bytes the kernel holds that the client has not acknowledged, 0 if unknown."""
    try:
        if sys.platform == "darwin":
            return int(connection.getsockopt(socket.SOL_SOCKET, SO_NWRITE))
        count = array.array("i", [0])
        fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, count)
        return count[0]
    except OSError:
        return 0
