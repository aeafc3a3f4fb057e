"""Decide from a STOW-RS reply, by UID and for every HTTP status, what became of each instance sent."""

from dataclasses import dataclass
from enum import StrEnum

from pipeline.dicom import reasons
from pipeline.dicom.reasons import NextStep
from pipeline.dicomweb.http_client import Reply
from pipeline.dicomweb.response import StoreResponse
from pipeline.dicomweb.transport_errors import NoReply
from pipeline.model import Item, Receipt, ReceiptState


class InstanceStep(StrEnum):
    """What to do with an instance next."""

    NOTHING = "nothing"  # The receipt is complete for now.
    PAUSE = "pause"  # The receipt is complete, and the archive can take no more instances now.
    AGAIN = "again"  # The archive failed at the instance: send it once more, alone.
    ASK = "ask"  # The reply does not mention the instance: ask QIDO-RS.


@dataclass(frozen=True, slots=True)
class InstanceOutcome:
    """An instance's receipt and next step; with AGAIN the next attempt brings another receipt."""

    receipt: Receipt
    then: InstanceStep


def of(item: Item, reply: Reply | NoReply, response: StoreResponse | None) -> InstanceOutcome:
    """Return what a reply says about `item`: the account in the body counts, the HTTP status does not."""
    uid = item.key.sop_instance_uid
    if response is not None and uid in response.stored:
        return InstanceOutcome(_stored(item, reply, response.stored[uid]), InstanceStep.NOTHING)
    if response is not None and uid in response.failed:
        return _failed(item, response.failed[uid])
    return InstanceOutcome(
        pending(item, code_of(reply), "the archive did not say what became of it"), InstanceStep.ASK
    )


def _stored(item: Item, reply: Reply | NoReply, warning: int | None) -> Receipt:
    if warning is None:
        return Receipt(item.key, ReceiptState.STORED, code_of(reply))
    return Receipt(item.key, ReceiptState.WARNED, f"0x{warning:04X}", reasons.warning(warning))


def _failed(item: Item, code: int | None) -> InstanceOutcome:
    reason = reasons.failure(code)
    if reason.next is NextStep.DUPLICATE:
        return InstanceOutcome(
            Receipt(item.key, ReceiptState.DUPLICATE, reason.code, reason.sentence), InstanceStep.NOTHING
        )
    if reason.next is NextStep.REFUSED:
        return InstanceOutcome(refused(item, reason.code, reason.sentence), InstanceStep.NOTHING)
    then = {
        NextStep.WAITS: InstanceStep.NOTHING,
        NextStep.PAUSES: InstanceStep.PAUSE,
        NextStep.AGAIN: InstanceStep.AGAIN,
    }[reason.next]
    return InstanceOutcome(pending(item, reason.code, reason.sentence), then)


def given_up(item: Item, reply: Reply | NoReply, *, is_account: bool, others_were_stored: bool) -> Receipt:
    """Return the receipt of an instance sent alone that neither the reply nor QIDO-RS mentions.

    The instance is refused only for 413, and for 400 or 409 (PS3.18 table 10.5.3-1) in a store response or while
    the archive accepts other instances. After any other failure, which may be the archive's, it stays pending.
    """
    code = code_of(reply)
    if code == "HTTP 413":
        return refused(item, code, "larger than the archive accepts in one request")
    if code in {"HTTP 400", "HTTP 409"} and (is_account or others_were_stored):
        return refused(item, code, "the archive cannot use it and does not say why")
    if isinstance(reply, NoReply):
        return pending(item, "", "no reply came, and the archive does not list it")
    return pending(item, code, "the archive gave no account of it, and does not list it")


def pending(item: Item, code: str, message: str) -> Receipt:
    """Return the receipt of an instance that will be tried again."""
    return Receipt(item.key, ReceiptState.PENDING, code, message)


def refused(item: Item, code: str, message: str) -> Receipt:
    """Return the receipt of an instance that will not be tried again automatically."""
    return Receipt(item.key, ReceiptState.REFUSED, code, message)


def seen(item: Item, state: ReceiptState, message: str = "") -> Receipt:
    """Return the receipt of an instance that QIDO-RS lists."""
    return Receipt(item.key, state, "QIDO-RS", message, verified=True)


def present(item: Item, message: str, *, verified: bool) -> Receipt:
    """Return the receipt of an instance that somebody else has stored at the archive."""
    return Receipt(item.key, ReceiptState.PRESENT, "WADO-RS", message, verified=verified)


def code_of(reply: Reply | NoReply) -> str:
    """Return the HTTP status as receipts show it, "" if no reply came."""
    return f"HTTP {reply.status}" if isinstance(reply, Reply) else ""
