"""Protocol data units of the DICOM upper layer (PS3.8 9.3), as far as a requestor writes and reads them.

A peer refuses a whole association by A-ASSOCIATE-RJ or A-ABORT (PS3.8 9.3.4, 9.3.8); `rejection` and `abort_words`
explain the codes in them.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct, pack, unpack_from

from pipeline.dicom.header import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from pipeline.errors import PeerUnavailable, Permanent, StorestowError

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
HEADER = Struct(">BxL")  # Type of the PDU, and length of what follows.
DATA_HEADER = Struct(">BxLLBB")  # a P-DATA-TF PDU with one value: its header, length, context, control (PS3.8 E.2)
LONGEST_ANSWER = 1 << 20  # Bytes; a requestor normally receives a few hundred.

_VARIABLE_ITEM = Struct(">BxH")
_IS_COMMAND, _IS_LAST = 1, 2  # message control header, PS3.8 E.2
PERMANENT = 1  # A value of Result, PS3.8 table 9-21; the other value, 2, is transient.
_SOURCES = {1: "its application", 2: "its association service", 3: "its presentation service"}
_REASONS = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "it does not know our AE title; check calling_ae_title, and what is registered there",
    (1, 7): "it does not go by that AE title; check ae_title",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}  # Keys are (source, reason), PS3.8 table 9-21.
_ABORTS = {
    0: "no reason given",
    1: "unrecognized PDU",
    2: "unexpected PDU",
    4: "unrecognized PDU parameter",
    5: "unexpected PDU parameter",
    6: "invalid PDU parameter value",
}  # Reasons of the service-provider, PS3.8 table 9-26.


class PduType(IntEnum):
    """PDU types, PS3.8 9.3.1."""

    ASSOCIATE_RQ = 0x01
    ASSOCIATE_AC = 0x02
    ASSOCIATE_RJ = 0x03
    DATA = 0x04
    RELEASE_RQ = 0x05
    RELEASE_RP = 0x06
    ABORT = 0x07


RELEASE_RQ = HEADER.pack(PduType.RELEASE_RQ, 4) + bytes(4)
RELEASE_RP = HEADER.pack(PduType.RELEASE_RP, 4) + bytes(4)
ABORT_BY_USER = HEADER.pack(PduType.ABORT, 4) + bytes(4)  # source 0: the service-user, PS3.8 table 9-26


class NotPdu(Exception):
    """Say that the received bytes are not a PDU that the protocol allows at this point."""


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A proposed presentation context: odd ID, abstract syntax, one transfer syntax."""

    context: int
    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class AssociateAccept:
    """An A-ASSOCIATE-AC: result and transfer syntax of each context, and the longest PDU (0 means any)."""

    answers: Mapping[int, tuple[int, str]]
    longest_pdu: int


def associate_rq(called: str, calling: str, proposals: Sequence[ProposedContext], longest_pdu: int) -> bytes:
    """Return an A-ASSOCIATE-RQ (PS3.8 9.3.2)."""
    user_information = (
        _item(0x51, pack(">L", longest_pdu)),  # PS3.8 D.1.1
        _item(0x52, IMPLEMENTATION_CLASS_UID.encode()),  # PS3.7 D.3.3.2
        _item(0x55, IMPLEMENTATION_VERSION_NAME.encode()),
    )
    items = (
        _item(0x10, APPLICATION_CONTEXT.encode()),
        *(_item(0x20, bytes((p.context, 0, 0, 0)) + _syntaxes(p)) for p in proposals),
        _item(0x50, b"".join(user_information)),
    )
    titles = f"{called:<16}{calling:<16}".encode("ascii")
    body = pack(">H2x", 1) + titles + bytes(32) + b"".join(items)
    return HEADER.pack(PduType.ASSOCIATE_RQ, len(body)) + body


def _syntaxes(proposal: ProposedContext) -> bytes:
    return _item(0x30, proposal.abstract_syntax.encode()) + _item(0x40, proposal.transfer_syntax.encode())


def _item(kind: int, content: bytes) -> bytes:
    return _VARIABLE_ITEM.pack(kind, len(content)) + content


def read_acceptance(body: bytes) -> AssociateAccept:
    """Read the body of an A-ASSOCIATE-AC (PS3.8 9.3.3), after the PDU header; raises NotPdu."""
    answers: dict[int, tuple[int, str]] = {}
    longest = 0
    for kind, content in _items(body, 68):
        if kind == 0x21 and len(content) >= 4:
            syntax = dict(_items(content, 4)).get(0x40, b"")
            answers[content[0]] = content[2], syntax.decode("ascii", "replace").strip(" \0")
        elif kind == 0x50:
            said = dict(_items(content, 0)).get(0x51, b"")
            longest = int.from_bytes(said, "big") if len(said) == 4 else 0
    return AssociateAccept(answers, longest)


def _items(content: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    try:
        while at < len(content):
            kind, length = _VARIABLE_ITEM.unpack_from(content, at)
            at += _VARIABLE_ITEM.size + length
            if at > len(content):
                raise NotPdu("an item of its answer is cut")
            yield kind, content[at - length : at]
    except struct.error as error:
        raise NotPdu("an item of its answer is cut") from error


def data_header(context: int, length: int, *, is_command: bool, is_last: bool) -> bytes:
    """Return the header for `length` bytes of a message in a P-DATA-TF PDU (PS3.8 9.3.5)."""
    control = _IS_COMMAND * is_command | _IS_LAST * is_last
    return DATA_HEADER.pack(PduType.DATA, length + 6, length + 2, context, control)


def read_values(body: bytes) -> Iterator[tuple[int, bool, bool, bytes]]:
    """Yield (context, is command, is last, fragment) of a P-DATA-TF PDU; raises NotPdu."""
    at = 0
    while at < len(body):
        if at + 6 > len(body):
            raise NotPdu("a presentation data value is cut")
        (length,) = unpack_from(">L", body, at)
        end = at + 4 + length
        if length < 2 or end > len(body):
            raise NotPdu("a presentation data value is cut")
        control = body[at + 5]
        yield body[at + 4], bool(control & _IS_COMMAND), bool(control & _IS_LAST), body[at + 6 : end]
        at = end


def rejection(peer: str, result: int, source: int, reason: int) -> StorestowError:
    """Return the error for a rejected association (PS3.8 table 9-21).

    It is Permanent for a permanent result, and PeerUnavailable, which is tried again, for any other.
    """
    why = _REASONS.get((source, reason), f"reason {reason} of {_SOURCES.get(source, f'source {source}')}")
    if result == PERMANENT:
        return Permanent(f"{peer} rejects the association for good: {why}")
    return PeerUnavailable(f"{peer} rejects the association for now: {why}")


def abort_words(source: int, reason: int) -> str:
    """Return the end of a sentence that says who aborted and why (PS3.8 table 9-26)."""
    if source == 2:
        return f"aborted the association: {_ABORTS.get(reason, f'reason {reason}')}"
    return "aborted the association, and gives no reason"
