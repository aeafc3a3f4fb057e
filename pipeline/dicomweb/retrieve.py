"""WADO-RS: what an archive gives back of an instance (PS3.18 10.4), as a hash of its data set.

QIDO-RS lists UIDs: it cannot tell which of two contents an archive keeps under one. Only where a person has sent
other content under a known UID is that asked, for it costs a retrieval before and one after.
"""

import hashlib
import mmap
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from pipeline.cstore.outgoing import bounds
from pipeline.dicom.part10 import Malformed
from pipeline.dicomweb import verdict
from pipeline.dicomweb.door import Door
from pipeline.errors import StorestowError
from pipeline.model import InstanceKey, Item, Receipt, ReceiptState

KEPT = "the archive kept its first copy: what it gives back is what it gave back before"
REPLACED = (
    "the archive gives back other bytes than were sent, and other ones than before: it changes what it stores"
)
UNDECIDED = "the archive gives back other bytes than were sent: it kept its first copy, or changes what it stores"
UNKNOWN = "the archive lists it, but does not give it back: whether with what was sent now is not known"
_LARGEST = 1 << 29  # bytes; it is held in memory
_ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'


def digest_at(door: Door, studies_url: str, key: InstanceKey) -> str | None:
    """Return the hash of the data set the archive gives back, None where it gives none that could be compared."""
    uids = (key.study_instance_uid, "series", key.series_instance_uid, "instances", key.sop_instance_uid)
    url = "/".join([studies_url, *(quote(uid, safe="") for uid in uids)])
    with tempfile.TemporaryFile() as file:
        try:
            if door.fetch(url, _ACCEPT, file) != 200:
                return None
            return _digest(file, is_multipart=True)
        except StorestowError:
            return None


def digest_of(path: Path) -> str | None:
    """Return the hash of the data set in a file, None where there is none."""
    try:
        with path.open("rb") as file:
            return _digest(file, is_multipart=False)
    except OSError:
        return None


def compared(item: Item, receipt: Receipt, before: str | None, after: str | None) -> Receipt:
    """Return the receipt of an instance that was there, was sent again, and was retrieved before and after.

    The same bytes as before prove that nothing was replaced, unless an earlier attempt of ours had replaced it.
    """
    ours = digest_of(item.path)
    if None in {before, after, ours}:
        return replace(receipt, state=ReceiptState.WARNED, message=UNKNOWN)
    if after == ours:
        return receipt
    if after != before:
        return replace(receipt, state=ReceiptState.WARNED, message=REPLACED)
    if item.attempted:
        return replace(receipt, state=ReceiptState.WARNED, message=UNDECIDED)
    return verdict.refused(item, receipt.code, KEPT)


def _digest(file: BinaryIO, *, is_multipart: bool) -> str | None:
    file.seek(0)
    try:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            start, end = _only_part(data) if is_multipart else (0, len(data))
            if end - start > _LARGEST:
                return None
            with memoryview(data) as view, view[start:end] as part:
                first, last = bounds(bytes(part))
                return hashlib.sha256(part[first:last]).hexdigest()
    except (ValueError, Malformed):  # nothing, or nothing of the kind
        return None


def _only_part(data: mmap.mmap) -> tuple[int, int]:
    """Return where the content of the first part begins and ends (RFC 2046 5.1.1); raises ValueError."""
    boundary = data.find(b"--", 0, 4)
    line_end = data.find(b"\r\n", boundary)
    head_end = data.find(b"\r\n\r\n", line_end)
    if min(boundary, line_end, head_end) < 0:
        raise ValueError("no multipart body")
    end = data.rfind(b"\r\n" + data[boundary:line_end])
    if end < head_end + 4:
        raise ValueError("the body is cut")
    return head_end + 4, end
