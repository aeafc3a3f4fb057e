"""Failure Reason (0008,1197) and Warning Reason (0008,1196): which action follows from each code."""

from dataclasses import dataclass
from enum import StrEnum

DELETED = "0xA771"  # dcm4chee-arc uses this code if the instance was deleted or rejected there.


class NextStep(StrEnum):
    """The action that follows from a failed instance."""

    REFUSED = "refused"  # The archive will never store these bytes.
    WAITS = "waits"  # The archive cannot store this study now.
    PAUSES = "pauses"  # The archive can store nothing now.
    AGAIN = "again"  # Perhaps an accident: try a few times more, then judge by whether others were stored.
    DUPLICATE = "duplicate"  # The archive already has it.


@dataclass(frozen=True, slots=True)
class Reason:
    """A Failure Reason in words; `code` is its printed form."""

    code: str
    next: NextStep
    sentence: str


# PS3.18 table I.2-2, PS3.4 table B.2-1, PS3.7 annex C, PS3.3 C.14.1.1; A77x and C4xx are dcm4chee-arc's own
# (StoreService.java); 0xB00E and 0xB00F come from Microsoft's server.
_EXACT: dict[int, tuple[NextStep, str]] = {
    0x0105: (NextStep.REFUSED, "no such attribute"),
    0x0106: (NextStep.REFUSED, "invalid attribute value"),
    0x0107: (NextStep.REFUSED, "attribute list error"),
    0x0110: (NextStep.AGAIN, "processing failure"),
    0x0111: (NextStep.DUPLICATE, "duplicate SOP instance"),
    0x0112: (NextStep.REFUSED, "no such SOP instance"),
    0x0117: (NextStep.REFUSED, "invalid SOP instance"),
    0x0119: (NextStep.REFUSED, "class-instance conflict"),
    0x0120: (NextStep.REFUSED, "missing attribute"),
    0x0121: (NextStep.REFUSED, "missing attribute value"),
    0x0122: (NextStep.REFUSED, "SOP class not supported"),
    0x0124: (NextStep.REFUSED, "not authorised to store this"),
    0x0210: (NextStep.REFUSED, "duplicate invocation"),
    0x0211: (NextStep.REFUSED, "unrecognised operation"),
    0x0212: (NextStep.REFUSED, "mistyped argument"),
    0x0213: (NextStep.PAUSES, "resource limitation"),
    0xA770: (NextStep.REFUSED, "duplicate rejection note"),
    0xA771: (NextStep.REFUSED, "deleted in the archive"),
    0xA772: (NextStep.REFUSED, "rejection note refused"),
    0xA773: (NextStep.REFUSED, "rejection note refused"),
    0xA774: (NextStep.REFUSED, "rejection note refused"),
    0xA775: (NextStep.REFUSED, "rejection note refused"),
    0xA776: (NextStep.REFUSED, "rejection note refused"),
    0xA777: (NextStep.REFUSED, "no Patient ID"),
    0xA778: (NextStep.REFUSED, "Patient ID differs from earlier objects of the study"),
    0xA779: (NextStep.REFUSED, "a patient attribute differs from earlier objects of the study"),
    0xA77A: (NextStep.WAITS, "the archive is deleting this study"),
    0xA77B: (NextStep.REFUSED, "the same SOP Instance UID exists in another study or series"),
    0xB00E: (NextStep.DUPLICATE, "already exists"),
    0xB00F: (NextStep.WAITS, "is being created already"),
    0xC122: (NextStep.REFUSED, "transfer syntax refused"),  # This exact code is looked up before the range Cxxx.
    0xC409: (NextStep.REFUSED, "Study Instance UID differs from the request's"),
    0xC499: (NextStep.REFUSED, "the archive cannot parse it"),
}
_RANGES: tuple[tuple[range, NextStep, str], ...] = (
    (range(0xA700, 0xA800), NextStep.PAUSES, "out of resources"),
    (range(0xA900, 0xAA00), NextStep.REFUSED, "data set does not match its SOP class"),
    (range(0xC000, 0xD000), NextStep.REFUSED, "the archive cannot understand it"),
)
_WARNINGS = {  # PS3.18 table I.2-1
    0xB000: "the archive coerced elements",
    0xB006: "the archive discarded elements",
    0xB007: "the data set does not match its SOP class",
}


def failure(code: int | None) -> Reason:
    """Return the meaning of a Failure Reason; an unknown or absent one may be an accident."""
    if code is None:
        return Reason("", NextStep.AGAIN, "failed, no reason given")
    word = f"0x{code:04X}"
    if code in _EXACT:
        return Reason(word, *_EXACT[code])
    for codes, then, sentence in _RANGES:
        if code in codes:
            return Reason(word, then, sentence)
    return Reason(word, NextStep.AGAIN, "failed for a reason this version does not know")


def warning(code: int) -> str:
    """Return a Warning Reason in words."""
    return _WARNINGS.get(code, "stored with a warning")
