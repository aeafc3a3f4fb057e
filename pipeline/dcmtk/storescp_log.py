"""Read what storescp reports of each object, and decide whether the object is still what was sent.

An object's lines begin at `Received Store Request` and end at the next such line or at the end of the association:
storescp reads the data set, reports its path, writes it anew, answers, in this order. A warning of DCMTK's reader
or writer in between concerns this object; a message of the network layer does not. `log_configuration` makes it
report that much.

In study mode storescp reads and writes every object anew. A warning may concern the sender's encoding, which is
kept, or an element that was dropped or misread. An unknown warning counts as a loss.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

# Warnings kept of one object, each kind once: a reader that misreads a length warns at every byte.
MOST_COMPLAINTS = 20

_BEGIN = re.compile(r"I: Received Store Request")
_OTHER = re.compile(r"I: (?:Received Echo Request|Association )|[EF]: DIMSE failure \(aborting")
_ASKED = re.compile(r"I: Association Received")
_OPENED = re.compile(r"I: Association Acknowledged")
_ENDED = re.compile(r"I: Association (?!Acknowledged)|[EF]: DIMSE failure \(aborting")
_CALLING = re.compile(r"D: Calling Application Name: +(.*)")
_INSTANCE = re.compile(r"D: Affected SOP Instance UID +: (.*)")
_FILE = re.compile(r"I: storing DICOM file: (.+)")
_TAG = re.compile(r"\([0-9a-f]{4},[0-9a-f]{4}\)")
_COMPLAINT = re.compile(r"[WEF]: ((?:Dcm|Found |Illegal |Length of |Unknown VR).*)")
_FAILURE = re.compile(
    r"[EF]: (?:(?:cannot write|bad) DICOM file: .*?: (?P<writing>[^/]+)"
    r"|(?P<other>(?:Store SCP Failed|could not create subdirectory for study|element .* absent or empty).*))"
)
_TWICE = re.compile(r"DcmItem: Element .* found twice in one data set or item")
_NO_VR = re.compile(r"DcmItem: Non-standard VR '.*' \(([0-9a-f]{2})\\([0-9a-f]{2})\)")
_ORDER = re.compile(r"DcmItem: Dataset not in ascending tag order")
_KEPT = re.compile(
    r"DcmItem: (?:Dataset not in ascending tag order|Invalid Element|Group Length with VR other than UL found"
    r"|Group length of group|Non-standard VR 'OX' is known to be wrongly used for PixelData)"
    r"|Dcm\w+: Length of (?:item|element) .* is (?:odd|not a multiple of)"  # An undefined length is odd, too.
    r"|DcmObject: Length of element .* changing VR to"
    r"|Found element .* with VR UN and undefined length, reading a sequence with .* \(CP-246\)"
    r"|Dcm(?:ByteString|CharString|UniqueIdentifier|SpecificCharacterSet|FileFormat|MetaInfo):"
)
_LEAST_PRINTABLE = 0x20


@dataclass
class StoreRequest:
    """One C-STORE request to storescp. `failure` says why storescp did not store the object, None if it did."""

    calling_ae_title: str = ""
    sop_instance_uid: str = ""
    file: str = ""
    complaints: list[str] = field(default_factory=list)
    failure: str | None = None

    @property
    def study_instance_uid(self) -> str:
        """Return the UID in the name of the study's folder, "" if storescp did not get that far."""
        folder = self.file.rpartition("/")[0].rpartition("/")[2]
        return "" if folder.startswith("A_") else folder.removeprefix("S_")


class StorescpLog:
    """Read the lines of one storescp; each call returns an object that is now complete, if any.

    `has_association` says whether one is open, `calling_ae_title` who requested the last one; a storescp that does
    not log the requests serves one peer, which the caller names.
    """

    def __init__(self, calling_ae_title: str = "") -> None:
        self.has_association = False
        self.calling_ae_title = calling_ae_title
        self._caller = calling_ae_title
        self._current: StoreRequest | None = None

    def hear(self, line: str) -> StoreRequest | None:
        """Read one line."""
        self._follow_association(line)
        if _BEGIN.match(line):
            return self._begin_next(StoreRequest(self.calling_ae_title))
        if _OTHER.match(line):
            return self._begin_next(None)
        if self._current:
            _note(self._current, line)
        return None

    def end(self) -> StoreRequest | None:
        """Return the object that was incomplete when storescp ended, if any."""
        return self._begin_next(None)

    def _begin_next(self, request: StoreRequest | None) -> StoreRequest | None:
        complete, self._current = self._current, request
        return complete

    def _follow_association(self, line: str) -> None:
        if _OPENED.match(line):
            self.has_association = True
        elif _ENDED.match(line):
            self.has_association = False
        if _ASKED.match(line):
            self.calling_ae_title = self._caller
        elif found := _CALLING.match(line):
            self.calling_ae_title = found[1].strip()


def _note(request: StoreRequest, line: str) -> None:
    if found := _INSTANCE.match(line):
        request.sop_instance_uid = found[1].strip()
    elif found := _FILE.match(line):
        request.file = found[1]
    elif found := _FAILURE.match(line):
        request.failure = request.failure or found["writing"] or found["other"]
    elif (found := _COMPLAINT.match(line)) and _is_news(found[1], request.complaints):
        request.complaints.append(found[1])


def _is_news(complaint: str, others: list[str]) -> bool:
    """Say whether no warning of this kind is known yet; padding zeros are read as the element (0000,0000)."""
    if len(others) >= MOST_COMPLAINTS or "(0000,0000)" in complaint:
        return False
    return _TAG.sub("", complaint) not in {_TAG.sub("", other) for other in others}


def loss(complaints: Sequence[str]) -> str | None:
    """Return in words what was dropped or misread, None if the object is what was sent."""
    for complaint in complaints:
        tag = found[0] if (found := _TAG.search(complaint)) else ""
        if _TWICE.match(complaint):
            return f"the attribute {tag} appears twice, and storescp has dropped the second"
        if vr := _NO_VR.match(complaint):
            if _is_no_vr_at_all(int(vr[1], 16), int(vr[2], 16)) or _show_a_wrong_length(complaints):
                return f"the element {tag} has no valid VR, and storescp has taken what follows for something else"
        elif not _KEPT.match(complaint):
            return f"storescp has not read it as it was sent: {complaint[:200]}"
    return None


def _is_no_vr_at_all(first: int, second: int) -> bool:
    """Say whether the two bytes are part of a length, as in Implicit VR, and not a wrong VR."""
    return (first, second) != (0, 0) and min(first, second) < _LEAST_PRINTABLE


def _show_a_wrong_length(complaints: Sequence[str]) -> bool:
    """Say whether the warnings after a wrong VR show that its length was no length."""
    vrs = {found.groups() for complaint in complaints if (found := _NO_VR.match(complaint))}
    return len(vrs) > 1 or any(map(_ORDER.match, complaints))
