"""DIMSE command sets (PS3.7 6.3, 9.3): the requests of a C-STORE and C-ECHO SCU, and the meaning of the responses.

Only the statuses 0000 and Bxxx count as stored (PS3.4 B.2.3, PS3.7 annex C). `pipeline.dicom.reasons` has the
table of failures, because an archive uses the same numbers, including those of its vendor, in every protocol.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct

from pipeline.cstore.pdu import NotPdu
from pipeline.dicom import reasons
from pipeline.dicom.reasons import NextStep
from pipeline.model import Item, Receipt, ReceiptState

C_STORE_RQ, C_STORE_RSP, C_ECHO_RQ, C_ECHO_RSP = 0x0001, 0x8001, 0x0030, 0x8030  # PS3.7 E.1
NO_DATA_SET = 0x0101
MOST_MESSAGES = 0xFFFF  # Message ID is US
SUCCESS = 0x0000
WARNINGS = range(0xB000, 0xC000)  # PS3.7 C.1: the service was performed; B000, B006, B007 by PS3.4 table B.2-1
_STATES = {NextStep.REFUSED: ReceiptState.REFUSED, NextStep.DUPLICATE: ReceiptState.DUPLICATE}

_COMMAND_GROUP_LENGTH = 0x0000
_AFFECTED_SOP_CLASS_UID = 0x0002
_COMMAND_FIELD = 0x0100
_MESSAGE_ID = 0x0110
_MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
_PRIORITY = 0x0700
_DATA_SET_TYPE = 0x0800
_STATUS = 0x0900
_OFFENDING_ELEMENT = 0x0901
_AFFECTED_SOP_INSTANCE_UID = 0x1000
_A_DATA_SET, _MEDIUM = 0x0001, 0

_ELEMENT = Struct("<HHL")
_US = Struct("<H")
_UL = Struct("<L")
_AT = Struct("<HH")


@dataclass(frozen=True, slots=True)
class ResponseMessage:
    """A peer's response; `offending` are the elements in Offending Element (0000,0901), as `(gggg,eeee)`."""

    command: int
    message: int
    status: int
    has_data_set: bool
    sop_instance_uid: str
    offending: tuple[str, ...]


def c_store_rq(message: int, sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """Return the command set of a C-STORE-RQ (PS3.7 table 9.3-1); a data set must follow it."""
    return _command_set(
        (_AFFECTED_SOP_CLASS_UID, _ui(sop_class_uid)),
        (_COMMAND_FIELD, _US.pack(C_STORE_RQ)),
        (_MESSAGE_ID, _US.pack(message)),
        (_PRIORITY, _US.pack(_MEDIUM)),
        (_DATA_SET_TYPE, _US.pack(_A_DATA_SET)),
        (_AFFECTED_SOP_INSTANCE_UID, _ui(sop_instance_uid)),
    )


def c_echo_rq(message: int, sop_class_uid: str) -> bytes:
    """Return the command set of a C-ECHO-RQ (PS3.7 table 9.3-12)."""
    return _command_set(
        (_AFFECTED_SOP_CLASS_UID, _ui(sop_class_uid)),
        (_COMMAND_FIELD, _US.pack(C_ECHO_RQ)),
        (_MESSAGE_ID, _US.pack(message)),
        (_DATA_SET_TYPE, _US.pack(NO_DATA_SET)),
    )


def _command_set(*elements: tuple[int, bytes]) -> bytes:
    """Return elements of group 0000 in Implicit VR Little Endian (PS3.7 6.3.1)."""
    body = b"".join(_ELEMENT.pack(0, number, len(value)) + value for number, value in elements)
    return _ELEMENT.pack(0, _COMMAND_GROUP_LENGTH, 4) + _UL.pack(len(body)) + body


def _ui(uid: str) -> bytes:
    return uid.encode("ascii") + b"\0" * (len(uid) % 2)


def read_response(command_set: bytes) -> ResponseMessage:
    """Read the command set of a response; raises NotPdu if a mandatory element is missing."""
    elements = _elements(command_set)
    try:
        (command,) = _US.unpack(elements[_COMMAND_FIELD])
        (message,) = _US.unpack(elements[_MESSAGE_ID_BEING_RESPONDED_TO])
        (status,) = _US.unpack(elements[_STATUS])
        (data_set,) = _US.unpack(elements.get(_DATA_SET_TYPE, _US.pack(NO_DATA_SET)))
    except (struct.error, KeyError) as error:
        raise NotPdu("its answer is no response") from error
    uid = elements.get(_AFFECTED_SOP_INSTANCE_UID, b"").decode("ascii", "replace").strip(" \0")
    tags = elements.get(_OFFENDING_ELEMENT, b"")[:32]
    offending = tuple(f"({group:04X},{number:04X})" for group, number in _AT.iter_unpack(tags[: len(tags) & ~3]))
    return ResponseMessage(command, message, status, data_set != NO_DATA_SET, uid, offending)


def _elements(command_set: bytes) -> Mapping[int, bytes]:
    elements: dict[int, bytes] = {}
    at = 0
    while at < len(command_set):
        try:
            group, number, length = _ELEMENT.unpack_from(command_set, at)
        except struct.error as error:
            raise NotPdu("its answer is cut") from error
        at += _ELEMENT.size + length
        if group != 0 or at > len(command_set):
            raise NotPdu("its answer is no command set")
        elements[number] = command_set[at - length : at]
    return elements


def judged(item: Item, response: ResponseMessage) -> tuple[Receipt, NextStep | None]:
    """Return the receipt for a response, and the next step; the step is None if the receipt is final.

    A duplicate counts as success: the peer has an instance with that UID, and C-STORE cannot compare it.
    """
    status = response.status
    code = f"0x{status:04X}"
    if status == SUCCESS:
        return Receipt(item.key, ReceiptState.STORED, code, verified=True), None
    if status in WARNINGS:
        return Receipt(
            item.key, ReceiptState.WARNED, code, _in_words(reasons.warning(status), response), verified=True
        ), None
    reason = reasons.failure(status)
    state = _STATES.get(reason.next, ReceiptState.PENDING)
    is_there = state is ReceiptState.DUPLICATE
    receipt = Receipt(item.key, state, code, _in_words(reason.sentence, response), verified=is_there)
    return receipt, None if state is not ReceiptState.PENDING else reason.next


def _in_words(sentence: str, response: ResponseMessage) -> str:
    """Return the sentence with the elements the peer names.

    The peer's Error Comment is left out, because it may contain a patient's name.
    """
    named = f": {', '.join(response.offending)}" if response.offending else ""
    return sentence.replace("the archive", "the peer") + named
