"""Terminate TLS in association mode: storescp gets a plain socket, and the request is read like any other.

Addresses, AE titles and limits are therefore checked for encrypted associations, too, and only this process has
the key.
"""

import contextlib
import math
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator

from pipeline.receiving.peek import NotAnAssociation, SaidNothing

CHUNK = 65536
LOOK_SECONDS = 1.0
LAST_SECONDS = 5.0  # Seconds for the peer to receive storescp's last bytes.


@contextlib.contextmanager
def opened(connection: socket.socket, context: ssl.SSLContext | None, patience: float) -> Iterator[socket.socket]:
    """Yield a plain socket to the peer: the connection itself or, with a `context`, the plain side of its TLS.

    Raises NotAnAssociation if the peer does not complete the handshake within `patience` seconds.
    """
    if context is None:
        yield connection
        return
    with _handshaken(connection, context, patience) as encrypted:
        ours, theirs = connected_pair()
        relay = _TwoWayCopy(encrypted, ours)
        carrier = threading.Thread(target=relay.run, daemon=True)
        with ours:
            try:
                with theirs:
                    carrier.start()
                    yield theirs
            finally:
                relay.last_moment = time.monotonic() + LAST_SECONDS
                carrier.join()


def _handshaken(connection: socket.socket, context: ssl.SSLContext, patience: float) -> ssl.SSLSocket:
    connection.settimeout(patience)
    try:
        if not connection.recv(1, socket.MSG_PEEK):
            raise SaidNothing("closed without a word")
        return context.wrap_socket(connection, server_side=True, suppress_ragged_eofs=True)
    except OSError as error:  # SSLError is an OSError.
        raise NotAnAssociation(f"no TLS: {getattr(error, 'reason', None) or error}") from error


def connected_pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected TCP sockets, because storescp sets TCP_NODELAY on its socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname(), timeout=LAST_SECONDS)
        ours, address = listener.accept()
        while address != theirs.getsockname():  # Another process of this machine has connected first.
            ours.close()
            ours, address = listener.accept()
    for one in (ours, theirs):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ours, theirs


class _TwoWayCopy:
    """Copy bytes both ways through two buffers of one chunk each, in one thread, as a TLS connection requires."""

    def __init__(self, encrypted: ssl.SSLSocket, plain: socket.socket) -> None:
        self.last_moment = math.inf
        self._encrypted = encrypted
        self._plain = plain
        self._inward = memoryview(b"")
        self._outward = memoryview(b"")
        self._peer_ended = False
        self._ended = False  # The plain side, between storescp and this process, has ended.

    def run(self) -> None:
        """Copy bytes both ways until the plain side has ended and the peer has received its last bytes."""
        self._encrypted.setblocking(False)
        self._plain.setblocking(False)
        with contextlib.suppress(OSError):  # If one side breaks off, the other sees the end of its socket.
            while self._outward or not self._ended:
                if not (self._carry_in() | self._carry_out()):
                    self._wait()
                if time.monotonic() > self.last_moment:
                    break
            self._encrypted.settimeout(LOOK_SECONDS)
            self._encrypted.unwrap()
        with contextlib.suppress(OSError):
            self._plain.shutdown(socket.SHUT_RDWR)

    def _carry_in(self) -> bool:
        moved = False
        if not self._inward and not self._peer_ended and not self._ended:
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                self._inward = memoryview(self._encrypted.recv(CHUNK))
                moved = True
                if not self._inward:
                    self._peer_ended = True
                    self._plain.shutdown(socket.SHUT_WR)
        if self._inward:
            with contextlib.suppress(BlockingIOError):
                self._inward = self._inward[self._plain.send(self._inward) :]
                moved = True
        return moved

    def _carry_out(self) -> bool:
        moved = False
        if not self._outward and not self._ended:
            with contextlib.suppress(BlockingIOError):
                self._outward = memoryview(self._plain.recv(CHUNK))
                moved = True
                if not self._outward:
                    self._ended = True
        if self._outward:
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                self._outward = self._outward[self._encrypted.send(self._outward) :]
                moved = True
        return moved

    def _wait(self) -> None:
        poll = select.poll()
        wants = select.POLLOUT if self._outward else 0
        if not self._peer_ended:  # TLS itself may have to read before it can write.
            wants |= 0 if self._inward else select.POLLIN
        if wants:
            poll.register(self._encrypted, wants)
        wants = (select.POLLOUT if self._inward else 0) | (0 if self._outward or self._ended else select.POLLIN)
        if wants:  # A registered socket would report its end again and again, even without events to wait for.
            poll.register(self._plain, wants)
        poll.poll(1000 * LOOK_SECONDS)
