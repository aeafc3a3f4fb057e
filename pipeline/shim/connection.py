"""One connection of a client: uvicorn's, and the limits to waiting that uvicorn does not know.

A download that moves has no limit; a client that takes no byte for a minute, or does not get its request said,
is dropped. What the kernel has taken from us but the client not yet from the kernel counts as not taken.
"""

import array
import asyncio
import fcntl
import socket
import struct
import sys
import termios
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

SO_NWRITE = 0x1024  # sys/socket.h of macOS: bytes in the send buffer


class Connection(H11Protocol):
    """A connection that looks after itself every `look_seconds`."""

    look_seconds = 5.0
    patience_seconds = 60.0  # without a byte taken
    saying_seconds = 30.0  # for a request to be said

    _waiting = 0  # bytes that wait for the client
    _since = 0.0  # when that last changed, or nothing was waiting
    _silent_since = 0.0
    _next_look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look."""
        super().connection_made(transport)
        self._since = self._silent_since = self.loop.time()
        self._next_look = self.loop.call_later(self.look_seconds, self._look)

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
        if self.cycle is not None and not self.cycle.response_complete:
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
