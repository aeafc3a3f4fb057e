"""Retrieve an instance from the archive by WADO-RS (PS3.18 10.4), as a file or as a hash of its data set.

QIDO-RS lists UIDs, but does not tell which content an archive keeps under a UID. This must be known for an
instance that we never sent, and for one that a person sends again with other content.
"""

import contextlib
import hashlib
import mmap
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from pipeline.cstore.data_set_stream import bounds
from pipeline.dicom.part10 import Malformed
from pipeline.dicomweb import http_status, instance_outcome
from pipeline.dicomweb.http_client import HttpClient
from pipeline.errors import Permanent, StorestowError, Transient
from pipeline.model import InstanceKey, Item, Receipt, ReceiptState

KEPT = "the archive kept its first copy: what it gives back is what it gave back before"
REPLACED = (
    "the archive gives back other bytes than were sent, and other ones than before: it changes what it stores"
)
UNDECIDED = "the archive gives back other bytes than were sent: it kept its first copy, or changes what it stores"
UNKNOWN = "the archive lists it, but does not give it back: whether with what was sent now is not known"
LARGEST = 1 << 29  # Bytes of the largest instance that is compared.
_ACCEPT = 'multipart/related; type="application/dicom"'
_AS_STORED = f"{_ACCEPT}; transfer-syntax=*"  # PS3.18 8.7.3.5.2; archives that do not know it answer 400 or 406.
_HEAD = 1 << 16  # Bytes of headers around the one part of a body.


class NotGiven(Permanent):
    """Say why an archive gives no copy that could be compared."""


class _AnswerTooLarge(NotGiven):
    """Say that the answer is larger than the comparison allows."""

    def __init__(self) -> None:
        super().__init__(f"it is larger than {LARGEST >> 20} MiB")


def require_comparable(item: Item) -> None:
    """Raise NotGiven for an instance too large to compare."""
    if item.size > LARGEST:
        raise _AnswerTooLarge


def copy_at(door: HttpClient, studies_url: str, key: InstanceKey, folder: Path) -> Path:
    """Write the archive's copy of an instance to a file in `folder`, and return its path.

    Raises:
        NotGiven: the archive gives no copy, or no instance of at most 512 MiB.
        Transient: there is no answer now.
    """
    with tempfile.TemporaryFile(dir=folder) as body:
        _fetch(door, _url_of(studies_url, key), body)
        path = folder / f"{key.sop_instance_uid}.dcm"
        with _part(body) as part, path.open("wb") as copy:
            copy.write(part)
    return path


def gives_back(door: HttpClient, studies_url: str, key: InstanceKey) -> None:
    """Raise what `copy_at` would raise, after reading only the beginning of the answer."""
    with tempfile.TemporaryFile() as body, contextlib.suppress(_AnswerTooLarge):
        _fetch(door, _url_of(studies_url, key), body, most_bytes=_HEAD)


def gives_back_in(door: HttpClient, studies_url: str, key: InstanceKey, transfer_syntax_uid: str) -> bool:
    """Tell whether the archive gives an instance back in this transfer syntax; read only the first 64 KiB.

    Raises Transient if there is no answer now.
    """
    with tempfile.TemporaryFile() as body:
        try:
            accept = f"{_ACCEPT}; transfer-syntax={transfer_syntax_uid}"
            with contextlib.suppress(_AnswerTooLarge):
                _fetch(door, _url_of(studies_url, key), body, most_bytes=_HEAD, accepts=(accept,))
        except NotGiven:
            return False
        body.seek(0)
        uid = transfer_syntax_uid.encode("ascii")
        uid += b"\0" * (len(uid) % 2)
        return b"\x02\0\x10\0UI" + len(uid).to_bytes(2, "little") + uid in body.read(_HEAD)


def digest_at(door: HttpClient, studies_url: str, key: InstanceKey) -> str | None:
    """Return the SHA-256 of the data set that the archive gives back, None if it gives none to compare."""
    with tempfile.TemporaryFile() as body:
        try:
            _fetch(door, _url_of(studies_url, key), body)
            with _part(body) as part:
                return _digest(part)
        except (StorestowError, Malformed):
            return None


def digest_of(path: Path) -> str | None:
    """Return the SHA-256 of the data set in a file, None if the file has none or is larger than LARGEST."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _digest(data) if len(data) <= LARGEST else None
    except (OSError, ValueError, Malformed):
        return None


def compared(item: Item, receipt: Receipt, before: str | None, after: str | None) -> Receipt:
    """Return the receipt of an instance that was present, was sent again, and was retrieved before and after.

    The same bytes as before prove that nothing was replaced, unless an earlier attempt of ours replaced it.
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
    return instance_outcome.refused(item, receipt.code, KEPT)


def _url_of(studies_url: str, key: InstanceKey) -> str:
    uids = (key.study_instance_uid, "series", key.series_instance_uid, "instances", key.sop_instance_uid)
    return "/".join([studies_url, *(quote(uid, safe="") for uid in uids)])


def _fetch(
    door: HttpClient,
    url: str,
    body: BinaryIO,
    most_bytes: int = LARGEST + _HEAD,
    accepts: Sequence[str] = (_AS_STORED, _ACCEPT),
) -> None:
    """Write the archive's reply to `body`, for the first media type of `accepts` that the archive supports.

    Raises NotGiven, and Transient if there is no answer now.
    """
    for accept in accepts:
        reply = door.fetch(url, accept, body, most_bytes)
        if reply.status not in {400, 406}:
            break
    problem = http_status.of_the_archive(reply, url, time.time())
    if isinstance(problem, Transient):
        raise problem
    if reply.status >= 500 and reply.status != 501:
        raise Transient(f"WADO-RS was answered with HTTP {reply.status}")
    if reply.status != 200 or problem:
        raise NotGiven(f"the archive gives nothing back by WADO-RS (HTTP {reply.status})")
    if reply.is_too_large:
        raise _AnswerTooLarge


@contextlib.contextmanager
def _part(body: BinaryIO) -> Iterator[memoryview]:
    """Yield the content of the first part of a body, or the body if it is not multipart (RFC 2046 5.1.1)."""
    body.flush()
    try:
        data = mmap.mmap(body.fileno(), 0, access=mmap.ACCESS_READ)
        start, end = (0, len(data)) if data[128:132] == b"DICM" else _only_part(data)
    except ValueError as error:  # The file is empty, or no multipart body.
        raise NotGiven("what the archive gives back by WADO-RS is no whole instance") from error
    with data, memoryview(data) as view, view[start:end] as part:
        yield part


def _digest(data: mmap.mmap | memoryview) -> str:
    part = bytes(data)
    first, last = bounds(part)
    return hashlib.sha256(memoryview(part)[first:last]).hexdigest()


def _only_part(data: mmap.mmap) -> tuple[int, int]:
    """Return the offsets at which the content of the first part begins and ends (RFC 2046 5.1.1).

    Raises ValueError if the body is not multipart, or truncated.
    """
    boundary = data.find(b"--", 0, 4)
    line_end = data.find(b"\r\n", boundary)
    head_end = data.find(b"\r\n\r\n", line_end)
    if min(boundary, line_end, head_end) < 0:
        raise ValueError("no multipart body")
    end = data.rfind(b"\r\n" + data[boundary:line_end])
    if end < head_end + 4:
        raise ValueError("the body is cut")
    return head_end + 4, end
