"""Write to a TCP connection and read whole PDUs from it, each with a time-out."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.cstore import tls_handshake
from pipeline.cstore.pdu import HEADER, LONGEST_ANSWER, NotPdu
from pipeline.errors import PeerUnavailable


@dataclass(frozen=True, slots=True)
class Peer:
    """Address and AE titles for an association, time-outs in seconds, longest PDU in bytes, and TLS if used."""

    host: str
    port: int
    ae_title: str
    calling_ae_title: str
    connect_seconds: float
    associate_seconds: float
    response_seconds: float
    max_pdu: int
    encryption: tls_handshake.TlsIdentity | None = None

    def __str__(self) -> str:
        return f"{self.ae_title} at {self.host}:{self.port}"


class ConnectionLost(Exception):
    """Say that the connection is unusable, and why; the result of the current message is unknown."""

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


def connect(peer: Peer) -> socket.socket:
    """Return a connected socket, with TLS if the peer uses it.

    Raises PeerUnavailable, and Configuration as `tls_handshake.encrypted` does.
    """
    try:
        connected = socket.create_connection((peer.host, peer.port), peer.connect_seconds)
    except (OSError, UnicodeError) as error:  # UnicodeError: a host name with an impossible label.
        raise PeerUnavailable(f"{peer} cannot be reached: {_words(error)}") from error
    # Nagle's algorithm would wait for delayed acknowledgements, 40 to 90 ms for each instance.
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if peer.encryption is None:
        return connected
    # A peer that serves one association at a time answers the handshake late, so this time-out is the longer one.
    return tls_handshake.encrypted(connected, peer.encryption, str(peer), peer.associate_seconds)


def send(connected: socket.socket, data: bytes | memoryview, seconds: float) -> None:
    """Send all of `data` within `seconds`; raises ConnectionLost."""
    with _losses():
        connected.settimeout(seconds)
        connected.sendall(data)


def receive(connected: socket.socket, seconds: float) -> tuple[int, bytes]:
    """Return the type of the next PDU and its body, received within `seconds`; raises ConnectionLost or NotPdu."""
    deadline = time.monotonic() + seconds
    kind, length = HEADER.unpack(_exactly(connected, HEADER.size, deadline))
    if kind == tls_handshake.ALERT:
        raise NotPdu("it speaks TLS on that port; write tls, or check port")
    if not 1 <= kind <= 7 or length > LONGEST_ANSWER:
        raise NotPdu("it does not answer in DICOM")
    return kind, _exactly(connected, length, deadline)


def _exactly(connected: socket.socket, count: int, deadline: float) -> bytes:
    data = bytearray()
    with _losses():
        while len(data) < count:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connected.settimeout(left)
            piece = connected.recv(count - len(data))
            if not piece:
                raise ConnectionLost("closed the connection")
            data += piece
    return bytes(data)


@contextmanager
def _losses() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise ConnectionLost("has not answered in time", timed_out=True) from error
    except OSError as error:
        raise ConnectionLost(f"the connection broke: {_words(error)}") from error


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
