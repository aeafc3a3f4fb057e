"""The meaning of a C-STORE status for an instance (PS3.4 B.2.3, PS3.7 annex C).

Only 0000 and Bxxx count as stored. `pipeline.dicom.reasons` has the table of failures, because an archive uses the
same numbers, including those of its vendor, in every protocol.
"""

from pipeline.cstore.message import ResponseMessage
from pipeline.dicom import reasons
from pipeline.dicom.reasons import NextStep
from pipeline.model import Item, Receipt, ReceiptState

SUCCESS = 0x0000
WARNINGS = range(0xB000, 0xC000)  # PS3.7 C.1: the service was performed; B000, B006, B007 by PS3.4 table B.2-1
_STATES = {NextStep.REFUSED: ReceiptState.REFUSED, NextStep.DUPLICATE: ReceiptState.DUPLICATE}


def judged(item: Item, response: ResponseMessage) -> tuple[Receipt, NextStep | None]:
    """Return the receipt for a response, and the next step, None if there is none.

    A duplicate counts as success: the peer holds an instance with that UID, and C-STORE cannot ask which.
    """
    status = response.status
    code = f"0x{status:04X}"
    if status == SUCCESS:
        return Receipt(item.key, ReceiptState.STORED, code, verified=True), None
    if status in WARNINGS:
        return Receipt(
            item.key, ReceiptState.WARNED, code, _words(reasons.warning(status), response), verified=True
        ), None
    reason = reasons.failure(status)
    state = _STATES.get(reason.next, ReceiptState.PENDING)
    is_there = state is ReceiptState.DUPLICATE
    receipt = Receipt(item.key, state, code, _words(reason.sentence, response), verified=is_there)
    return receipt, None if state is not ReceiptState.PENDING else reason.next


def _words(sentence: str, response: ResponseMessage) -> str:
    """Add the elements the peer names; its comment is left out, because it may contain a patient's name."""
    named = f": {', '.join(response.offending)}" if response.offending else ""
    return sentence.replace("the archive", "the peer") + named
