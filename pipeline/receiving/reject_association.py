"""Reject an association by A-ASSOCIATE-RJ before a storescp is started for it (PS3.8 9.3.4)."""

import contextlib
import socket
import struct
import time
from typing import NamedTuple

PATIENCE_SECONDS = 2.0  # Seconds for the peer to read our answer and close the connection.
MOST_UNREAD = 1 << 20  # Bytes that are read from a peer that continues to send.
CHUNK = 65536

_ASSOCIATE_RJ = 0x03
_HEADER = struct.Struct(">BxI")  # PDU type, reserved, length of the body.
_BODY = struct.Struct(">xBBB")  # Reserved, result, source, reason.


class AssociateReject(NamedTuple):
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""

    result: int
    source: int
    reason: int


CALLING_AE_TITLE_NOT_RECOGNIZED = AssociateReject(1, 1, 3)
CALLED_AE_TITLE_NOT_RECOGNIZED = AssociateReject(1, 1, 7)
TEMPORARY_CONGESTION = AssociateReject(2, 3, 1)
LOCAL_LIMIT_EXCEEDED = AssociateReject(2, 3, 2)


def pdu(rejection: AssociateReject) -> bytes:
    """Return the whole A-ASSOCIATE-RJ."""
    return _HEADER.pack(_ASSOCIATE_RJ, _BODY.size) + _BODY.pack(*rejection)


def reject(connection: socket.socket, rejection: AssociateReject) -> None:
    """Reject a request that was peeked at; return when the peer has closed, or after PATIENCE_SECONDS.

    If a socket is closed with unread bytes, the kernel resets the connection, and the peer may never see the
    answer. The request and all bytes after it are therefore read until the peer closes.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    with contextlib.suppress(OSError):  # The peer has gone already and needs no answer.
        connection.settimeout(PATIENCE_SECONDS)
        connection.sendall(pdu(rejection))
        connection.shutdown(socket.SHUT_WR)
        unread = MOST_UNREAD
        while unread > 0 and (left := deadline - time.monotonic()) > 0:
            connection.settimeout(left)
            data = connection.recv(min(CHUNK, unread))
            if not data:
                return
            unread -= len(data)
