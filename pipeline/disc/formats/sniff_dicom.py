"""Tell by the first bytes whether a file is a DICOM object, for folders that must hold none.

A truncated object is recognised too: a patient's header is in its first bytes.
"""

import re
from struct import unpack_from

from pipeline.dicom.part10 import LONG_VRS, SHORT_VRS, UNDEFINED
from pipeline.dicom.reading import DIRECTORY_STORAGE

HEAD = 4096  # Bytes that are read.
_MEDIA_CLASS = 0x00020002
_TELLING = {_MEDIA_CLASS, 0x00020003, 0x00080016, 0x00080018}  # SOP Class and SOP Instance UIDs.
_GROUPS = {0x0002, 0x0008}  # No other group precedes these elements.
_ITEM = b"\xfe\xff\x00\xe0"
_UID = re.compile(rb"[0-9]+(\.[0-9]+)+[ \0]?")


def what_dicom(head: bytes) -> str:
    """Return what a file that begins with `head` is, "" if it is not DICOM."""
    begins = 132 if head[128:132] == b"DICM" else 0
    tag, value = _first_telling(head, begins)
    if tag == _MEDIA_CLASS and value == DIRECTORY_STORAGE.encode():
        return "a DICOMDIR, the index of other objects"
    return "a DICOM object" if begins or tag else ""


def _first_telling(head: bytes, at: int) -> tuple[int, bytes]:
    """Return the first element that only an object has, with its value; 0 if there is none.

    Without preamble, other kinds of file begin alike: each length must lead to the next element, up to a UID.
    """
    while at + 8 <= len(head):
        group, number, vr, length = unpack_from("<HH2sH", head, at)
        tag, value = group << 16 | number, at + 8
        if group not in _GROUPS:
            break
        if vr in LONG_VRS:
            value = at + 12
            length = int.from_bytes(head[at + 8 : value], "little")
        elif vr not in SHORT_VRS:
            (length,) = unpack_from("<L", head, at + 4)
        if length == UNDEFINED and head[value : value + 4] == _ITEM:
            return tag, b""
        if tag in _TELLING and _UID.fullmatch(head[value : value + length]):
            return tag, head[value : value + length].rstrip(b" \0")
        at = value + length
    return 0, b""
