"""One connection of a client: uvicorn's, and the limits that uvicorn does not know.

A download that moves has no limit; a client that takes no byte for a minute, or does not get its request said,
is dropped. What the kernel has taken from us but the client not yet from the kernel counts as not taken.
Where there are as many connections as may be, the one that has been silent for longest makes room.
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

from pipeline.web.http_errors import INVALID_PARAMETER, TOO_LONG, TOO_MANY, ErrorKind
from pipeline.web.raw_error import rejection
from pipeline.web.request_target import plain_line

MOST = 1000  # connections, unless the machine allows fewer open files (`serve`)
LONGEST_HEAD = 16384  # bytes of a request's first line and headers
SO_NWRITE = 0x1024  # sys/socket.h of macOS: bytes in the send buffer


class ClientConnection(H11Protocol):
    """A connection that looks after itself every `look_seconds`."""

    look_seconds = 5.0
    patience_seconds = 60.0  # without a byte taken
    saying_seconds = 30.0  # for a request to be said
    most = MOST

    _waiting = 0  # bytes that wait for the client
    _since = 0.0  # when that last changed, or nothing was waiting
    _silent_since = 0.0
    _next_look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look."""
        super().connection_made(transport)
        self._since = self._silent_since = self.loop.time()
        self._next_look = self.loop.call_later(self.look_seconds, self._look)
        if len(self.connections) > self.most:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Take what has come; in the first line of a request, bytes that no HTTP parser takes are encoded."""
        if self.conn.their_state is h11.IDLE:
            data = plain_line(self.conn.trailing_data[0], data)
        if data:  # no bytes at all would say that the client has ended
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
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
        """Drop the connection nothing has been asked on for longest; where all are being served, this one."""
        others = [one for one in self.connections if isinstance(one, ClientConnection) and one is not self]
        silent = [one for one in others if not one._is_served and not one.transport.is_closing()]  # noqa: SLF001
        if silent:
            min(silent, key=lambda one: one._silent_since)._drop()  # noqa: SLF001
        else:
            self._reject(TOO_MANY, "every connection there may be is in use")

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP: in the words of the interface, or by hanging up where an answer has begun."""
        del msg  # uvicorn's
        if self._is_served or self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            if self._is_served:
                self.cycle.disconnected = True  # so that the answer is given up, too
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
        """Break the connection, and have the kernel forget what it holds for the client, too."""
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
    """Return how many bytes the kernel holds that the client has not acknowledged, 0 where it does not tell."""
    try:
        if sys.platform == "darwin":
            return int(connection.getsockopt(socket.SOL_SOCKET, SO_NWRITE))
        count = array.array("i", [0])
        fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, count)
        return count[0]
    except OSError:
        return 0
