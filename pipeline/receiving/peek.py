"""Read an A-ASSOCIATE-RQ without taking it from the socket: storescp will read it again (PS3.8 9.3.2).

Every byte comes from an unknown peer: lengths are checked against limits before they are used.
"""

import re
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.dicom.part10 import ae_title

LONGEST = 256 * 1024  # Bytes; 128 presentation contexts of 30 transfer syntaxes are about 110 KiB.
PATIENCE_SECONDS = 30.0  # Seconds for the whole request; a silent peer delays no other peer.
HUNG_UP = getattr(select, "POLLRDHUP", 0)

_ASSOCIATE_RQ, _PRESENTATION_CONTEXT, _ABSTRACT_SYNTAX = 0x01, 0x20, 0x30  # PS3.8 tables 9-11, 9-13, 9-14
_HEADER = struct.Struct(">BxI")  # PDU type, reserved, length of the body.
_ITEM = struct.Struct(">BxH")  # Item type, reserved, length of the value.
_FIXED = struct.Struct(">H2x16s16s32x")  # protocol version, reserved, called, calling AE title, reserved
_CONTEXT_ID = 4  # Bytes of a presentation context before its sub-items.
_UID = re.compile(rb"[0-9.]{1,64}")


class NotAnAssociation(Exception):
    """Say why a peer's bytes are no A-ASSOCIATE-RQ; the connection is closed, and no object was received."""


class SaidNothing(NotAnAssociation):
    """Say that the peer closed the connection before its first byte, as programs do that only test the port."""


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """The AE titles in an A-ASSOCIATE-RQ, as `ae_title` reads them, and its abstract syntaxes, each once."""

    calling_ae_title: str
    called_ae_title: str
    abstract_syntaxes: tuple[str, ...]


def peek(connection: socket.socket, *, patience: float = PATIENCE_SECONDS) -> AssociateRequest:
    """Return the peer's request, and leave every byte of it in the socket.

    Raises NotAnAssociation if the bytes are no request, too many, or not complete within `patience` seconds.
    """
    deadline = time.monotonic() + patience
    head = _peeked(connection, _HEADER.size, deadline)
    length = _HEADER.size + body_length(head)
    if length > 16 * 1024:  # A receive window of the usual size might never hold all of it.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 * length)
    return parse(_peeked(connection, length, deadline))


def _peeked(connection: socket.socket, wanted: int, deadline: float) -> bytes:
    pause = 0.001
    while (left := deadline - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            data = connection.recv(wanted, socket.MSG_PEEK)
        except TimeoutError:
            break
        except OSError as error:
            raise NotAnAssociation(f"the connection broke: {error}") from error
        if len(data) == wanted:
            return data
        if not data:
            raise SaidNothing("closed without a word")
        if _has_hung_up(connection):
            raise NotAnAssociation("it hung up in the middle of its request")
        time.sleep(pause)  # A peek at a partial request returns at once, so the loop must pause.
        pause = min(2 * pause, 0.05)
    raise NotAnAssociation("no complete association request in time")


def _has_hung_up(connection: socket.socket) -> bool:
    """Say whether the peer has ended its side, which a peek at available bytes does not show; Linux only."""
    poll = select.poll()
    poll.register(connection, HUNG_UP)
    return any(events & HUNG_UP for _, events in poll.poll(0))


def body_length(head: bytes) -> int:
    """Return the length of the body after a PDU's first six bytes; raises NotAnAssociation."""
    try:
        kind, length = _HEADER.unpack(head)
    except struct.error as error:
        raise NotAnAssociation("shorter than a PDU's header") from error
    if kind != _ASSOCIATE_RQ:
        raise NotAnAssociation(f"PDU type {kind:#04x} is no association request")
    if not _FIXED.size <= length <= LONGEST:
        raise NotAnAssociation(f"an association request of {length} bytes is too short or too long")
    return int(length)


def parse(pdu: bytes) -> AssociateRequest:
    """Return the request in a whole A-ASSOCIATE-RQ; raises NotAnAssociation, and no other error for any bytes."""
    if body_length(pdu[: _HEADER.size]) != len(pdu) - _HEADER.size:
        raise NotAnAssociation("the request is not as long as it says")
    _, called, calling = _FIXED.unpack_from(pdu, _HEADER.size)
    syntaxes = [
        uid
        for kind, context in _items(pdu[_HEADER.size + _FIXED.size :])
        if kind == _PRESENTATION_CONTEXT
        for sub_kind, value in _items(context[_CONTEXT_ID:])
        if sub_kind == _ABSTRACT_SYNTAX and (uid := value.rstrip(b"\0 "))
        if _UID.fullmatch(uid)
    ]
    unique = tuple(dict.fromkeys(uid.decode("ascii") for uid in syntaxes))
    return AssociateRequest(ae_title(calling), ae_title(called), unique)


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of each item; an item cut off at the end is left out."""
    position = 0
    while position + _ITEM.size <= len(data):
        kind, length = _ITEM.unpack_from(data, position)
        position += _ITEM.size
        if position + length > len(data):
            return
        yield kind, data[position : position + length]
        position += length
