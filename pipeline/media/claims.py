"""What an object says it is, read a second time: not by the code that read it for the DICOMDIR.

A short reader of Explicit VR Little Endian, which is nearly everything on a disc; pydicom for the rest.
"""

import struct
from dataclasses import dataclass
from io import BytesIO
from struct import unpack_from

from pipeline.part10 import EXPLICIT_VR_LITTLE_ENDIAN

_ENCAPSULATED = "1.2.840.10008.1.2.4."
_RLE = "1.2.840.10008.1.2.5"
_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_UNDEFINED = 0xFFFFFFFF
_MOST_LEVELS = 48
_KEYWORDS = {
    0x00020002: "media_class",
    0x00020003: "media_instance",
    0x00020010: "transfer_syntax_uid",
    0x00080016: "sop_class_uid",
    0x00080018: "sop_instance_uid",
    0x00100010: "patient_name",
    0x00100020: "patient_id",
    0x0020000D: "study_instance_uid",
    0x0020000E: "series_instance_uid",
    0x00080005: "character_set",
}
_LAST = 0x0020000E
_UNREADABLE = (OSError, ValueError, TypeError, AttributeError, KeyError, NotImplementedError)


class NoClaims(Exception):
    """Say that a file cannot be read as a DICOM object."""


@dataclass(frozen=True, slots=True)
class Claims:
    """Values as bytes without padding; `media_*` are those of the file meta information."""

    media_class: bytes = b""
    media_instance: bytes = b""
    transfer_syntax_uid: bytes = b""
    sop_class_uid: bytes = b""
    sop_instance_uid: bytes = b""
    patient_name: bytes = b""
    patient_id: bytes = b""
    study_instance_uid: bytes = b""
    series_instance_uid: bytes = b""
    character_set: bytes = b""


class _NotHere(Exception):
    """Say that the short reader cannot go on: the values lie elsewhere, or otherwise."""


def claims_of(head: bytes) -> Claims:
    """Return what a file claims, of which `head` is the beginning, a megabyte or all of it; raises NoClaims."""
    try:
        found, at = _elements(head, 132, 0x0002FFFF)
        if _is_explicit(head, found):
            rest, _ = _elements(head, at, _LAST)
            return Claims(**found, **rest)
    except (_NotHere, struct.error):
        pass
    return _by_pydicom(head)


def _is_explicit(head: bytes, meta: dict[str, bytes]) -> bool:
    syntax = meta.get("transfer_syntax_uid", b"").decode("ascii", "replace")
    is_explicit = syntax in {EXPLICIT_VR_LITTLE_ENDIAN, _RLE} or syntax.startswith(_ENCAPSULATED)
    return is_explicit and head[128:132] == b"DICM"


def _elements(head: bytes, at: int, last: int) -> tuple[dict[str, bytes], int]:
    found: dict[str, bytes] = {}
    while at + 8 <= len(head):
        tag, value, end = _element(head, at)
        if tag > last:
            return found, at
        if keyword := _KEYWORDS.get(tag):
            found[keyword] = head[value:end].strip(b" \0")
        at = end if end >= 0 else _after_items(head, value, 0)
    if at == len(head):
        return found, at
    raise _NotHere


def _element(head: bytes, at: int) -> tuple[int, int, int]:
    """Return tag, where the value begins and where it ends; -1 where that is not told."""
    group, number, vr, length = unpack_from("<HH2sH", head, at)
    value = at + 8
    if vr in _LONG:
        if at + 12 > len(head):
            raise _NotHere
        (length,) = unpack_from("<L", head, at + 8)
        value = at + 12
    elif not vr.isalpha():
        raise _NotHere
    return group << 16 | number, value, -1 if length == _UNDEFINED else value + length


def _after_items(head: bytes, at: int, level: int) -> int:
    """Return where a sequence of undefined length ends."""
    while at + 8 <= len(head) and level < _MOST_LEVELS:
        group, number, length = unpack_from("<HHL", head, at)
        at += 8
        if (group, number) == (0xFFFE, 0xE0DD):
            return at
        if (group, number) != (0xFFFE, 0xE000):
            break
        at = at + length if length != _UNDEFINED else _after_item(head, at, level)
    raise _NotHere


def _after_item(head: bytes, at: int, level: int) -> int:
    while at + 8 <= len(head):
        if unpack_from("<HH", head, at) == (0xFFFE, 0xE00D):
            return at + 8
        _, value, end = _element(head, at)
        at = end if end >= 0 else _after_items(head, value, level + 1)
    raise _NotHere


def _by_pydicom(head: bytes) -> Claims:
    from pydicom import dcmread  # noqa: PLC0415  # takes longer than thousands of files of the usual kind
    from pydicom.errors import InvalidDicomError  # noqa: PLC0415

    try:
        dataset = dcmread(BytesIO(head), stop_before_pixels=True, specific_tags=[*list(_KEYWORDS)[3:]])
        meta = dataset.file_meta
        found = {keyword: dataset.get_item(tag) for tag, keyword in list(_KEYWORDS.items())[3:] if tag in dataset}
        values = {keyword: one.value for keyword, one in found.items() if one is not None}
        return Claims(
            str(meta.get("MediaStorageSOPClassUID", "")).encode(),
            str(meta.get("MediaStorageSOPInstanceUID", "")).encode(),
            str(meta.get("TransferSyntaxUID", "")).encode(),
            **{keyword: _bytes(value) for keyword, value in values.items()},
        )
    except (InvalidDicomError, *_UNREADABLE) as error:
        raise NoClaims(f"it cannot be read as a DICOM object ({type(error).__name__})") from error


def _bytes(value: object) -> bytes:
    raw = value if isinstance(value, bytes) else str(value or "").encode()
    return raw.strip(b" \0")
