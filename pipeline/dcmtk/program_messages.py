"""Warnings of DCMTK's reader and writer: which of them mean that an object differs from what was sent?

In study mode storescp reads and writes every object anew. A warning may concern the sender's encoding, which is
kept, or an element that was dropped or misread. An unknown warning counts as a loss.
"""

import re
from collections.abc import Sequence

_TAG = re.compile(r"\([0-9a-f]{4},[0-9a-f]{4}\)")
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


def loss(complaints: Sequence[str]) -> str | None:
    """Return in words what was dropped or misread, None if the object is what was sent."""
    for complaint in complaints:
        tag = found[0] if (found := _TAG.search(complaint)) else ""
        if _TWICE.match(complaint):
            return f"the attribute {tag} appears twice, and storescp has dropped the second"
        if vr := _NO_VR.match(complaint):
            if _is_no_vr_at_all(int(vr[1], 16), int(vr[2], 16)) or _have_lost_their_way(complaints):
                return f"the element {tag} has no valid VR, and storescp has taken what follows for something else"
        elif not _KEPT.match(complaint):
            return f"storescp has not read it as it was sent: {complaint[:200]}"
    return None


def _is_no_vr_at_all(first: int, second: int) -> bool:
    """Say whether the two bytes are part of a length, as in Implicit VR, and not a wrong VR."""
    return (first, second) != (0, 0) and min(first, second) < _LEAST_PRINTABLE


def _have_lost_their_way(complaints: Sequence[str]) -> bool:
    """Say whether the warnings after a wrong VR show that its length was no length."""
    vrs = {found.groups() for complaint in complaints if (found := _NO_VR.match(complaint))}
    return len(vrs) > 1 or any(map(_ORDER.match, complaints))
