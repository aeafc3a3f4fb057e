"""Read the files of a finished medium: the hash of each, and the identity of the objects among them.

The identity is read a second time, independently of the code that read it for the DICOMDIR. This is a short
reader of Explicit VR Little Endian, which nearly all objects on a disc have; pydicom reads the rest. The module
imports little, and no pydicom, because its processes must start at once.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from struct import unpack_from

from pipeline.dicom.part10 import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, Malformed
from pipeline.dicom.reading import inflated_head
from pipeline.disc.errors import NotAsWritten
from pipeline.disc.formats.iso9660 import IsoFile, pieces_of

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
    0x00100021: "issuer",
    0x00100030: "birth_date",
}
_LAST = 0x0020000E
_META, _DATA_SET = range(0x00020000, 0x00030000), range(_LAST + 1)
_MOST_HEAD = 256 << 20  # Bytes before the last of the values; real objects have some megabytes at most.
_UNREADABLE = (OSError, ValueError, TypeError, AttributeError, KeyError, NotImplementedError)


class NoIdentity(Exception):
    """Say that a file cannot be read as a DICOM object."""


@dataclass(frozen=True, slots=True)
class ObjectIdentity:
    """The values that identify an object, as bytes without padding.

    `media_class` and `media_instance` are the UIDs of the file meta information.
    """

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
    issuer: bytes = b""
    birth_date: bytes = b""


@dataclass(frozen=True, slots=True)
class HashTask:
    """The image, and the files in it that one process reads."""

    image: Path
    files: tuple[IsoFile, ...]


@dataclass(frozen=True, slots=True)
class FileDigest:
    """Size and SHA-256 of one file; `claims` is the identity of an object (a file below DICOM/), else None."""

    path: str
    size: int
    sha256: str
    claims: ObjectIdentity | None


def looks(task: HashTask) -> list[FileDigest]:
    """Return the digest of each file; raises NotAsWritten if an object cannot be read as DICOM."""
    with task.image.open("rb") as image:
        return [look(file.path, pieces_of(image, file)) for file in task.files]


def look(path: str, pieces: Iterable[bytes]) -> FileDigest:
    """Return the digest of one file from its bytes; raises NotAsWritten if an object cannot be read as DICOM."""
    passing = Passing(pieces)
    try:
        claims = claims_in(passing) if path.startswith("DICOM/") else None
    except NoIdentity as reason:
        raise NotAsWritten(f"what was written cannot be read back: {reason}") from reason
    return FileDigest(path, passing.size, passing.sha256(), claims)


class Passing:
    """Hash and count the pieces of a file while another function reads them."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._digest = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece = next(self._pieces)
        self._digest.update(piece)
        self.size += len(piece)
        return piece

    def sha256(self) -> str:
        """Return the SHA-256 of the whole file, after reading the rest."""
        for _ in self:
            pass
        return self._digest.hexdigest()


class _NotHere(Exception):
    """Say that the short reader cannot continue: the values are encoded differently."""


class _TooShort(_NotHere):
    """Say that the bytes read so far end before the last of the values."""


def claims_in(pieces: Iterable[bytes]) -> ObjectIdentity:
    """Return the identity of an object; reads `pieces` until every value is found. Raises NoIdentity.

    In real objects, megabytes of sequences and private attributes may precede the last value.
    """
    more = iter(pieces)
    head, is_whole = next(more, b""), False
    while True:
        following = next(more, None)
        is_whole = following is None
        try:
            return _claims(head, is_whole=is_whole)
        except _TooShort:
            if len(head) >= _MOST_HEAD:
                raise NoIdentity(f"its header is longer than {_MOST_HEAD >> 20} MiB") from None
        head = _doubled(head, following or b"", more)


def _doubled(head: bytes, following: bytes, more: Iterable[bytes]) -> bytes:
    """Return at least twice as much of the file, so that all attempts together cost no more than two readings."""
    read, size = [head, following], len(head) + len(following)
    for piece in more:
        read.append(piece)
        size += len(piece)
        if size >= 2 * len(head):
            break
    return b"".join(read)


def _claims(head: bytes, *, is_whole: bool) -> ObjectIdentity:
    """Return the identity; raises _TooShort if a value may lie behind `head`, which is a part of the file."""
    try:
        found, at = _elements(head, 132, _META, is_whole=is_whole)
        if _syntax(found) == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
            head = head[:at] + inflated_head(head[at:], _MOST_HEAD)
        if _is_explicit(head, found):
            rest, _ = _elements(head, at, _DATA_SET, is_whole=is_whole)
            return ObjectIdentity(**found, **rest)
    except Malformed as error:
        raise NoIdentity("it cannot be read as a DICOM object (it cannot be inflated)") from error
    except (_NotHere, struct.error) as error:
        if isinstance(error, _TooShort) and not is_whole:
            raise
    return _by_pydicom(head, is_whole=is_whole)


def _syntax(meta: dict[str, bytes]) -> str:
    return meta.get("transfer_syntax_uid", b"").decode("ascii", "replace")


def _is_explicit(head: bytes, meta: dict[str, bytes]) -> bool:
    syntax = _syntax(meta)
    usual = {EXPLICIT_VR_LITTLE_ENDIAN, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, _RLE}
    is_explicit = syntax in usual or syntax.startswith(_ENCAPSULATED)
    return is_explicit and head[128:132] == b"DICM"


def _elements(head: bytes, at: int, tags: range, *, is_whole: bool) -> tuple[dict[str, bytes], int]:
    found: dict[str, bytes] = {}
    while at + 8 <= len(head):
        group, number = unpack_from("<HH", head, at)
        if group << 16 | number not in tags:  # The rest of the file may be deflated.
            return found, at
        tag, value, end = _element(head, at)
        if keyword := _KEYWORDS.get(tag):
            found[keyword] = head[value:end].strip(b" \0")
        at = end if end >= 0 else _after_items(head, value, 0)
    if at == len(head) and is_whole:
        return found, at
    raise _TooShort


def _element(head: bytes, at: int) -> tuple[int, int, int]:
    """Return the tag at `at`, and the offsets at which its value begins and ends; -1 for an undefined length."""
    group, number, vr, length = unpack_from("<HH2sH", head, at)
    value = at + 8
    if vr in _LONG:
        if at + 12 > len(head):
            raise _TooShort
        (length,) = unpack_from("<L", head, at + 8)
        value = at + 12
    elif not vr.isalpha():
        raise _NotHere
    return group << 16 | number, value, -1 if length == _UNDEFINED else value + length


def _after_items(head: bytes, at: int, level: int) -> int:
    """Return the offset after a sequence of undefined length whose items begin at `at`."""
    while at + 8 <= len(head) and level < _MOST_LEVELS:
        group, number, length = unpack_from("<HHL", head, at)
        at += 8
        if (group, number) == (0xFFFE, 0xE0DD):
            return at
        if (group, number) != (0xFFFE, 0xE000):
            raise _NotHere
        at = at + length if length != _UNDEFINED else _after_item(head, at, level)
    raise _NotHere if level >= _MOST_LEVELS else _TooShort


def _after_item(head: bytes, at: int, level: int) -> int:
    while at + 8 <= len(head):
        if unpack_from("<HH", head, at) == (0xFFFE, 0xE00D):
            return at + 8
        _, value, end = _element(head, at)
        at = end if end >= 0 else _after_items(head, value, level + 1)
    raise _TooShort


def _by_pydicom(head: bytes, *, is_whole: bool) -> ObjectIdentity:
    from pydicom.errors import InvalidDicomError  # noqa: PLC0415  # pydicom's import takes longer than

    from pipeline.dicom.pydicom_reading import read_partial  # noqa: PLC0415  # thousands of files of the usual kind

    passed = False

    def is_behind(tag: int, _vr: str | None, _length: int) -> bool:
        nonlocal passed
        passed = tag > _LAST
        return passed

    try:
        dataset = read_partial(BytesIO(head), is_behind, specific_tags=[*list(_KEYWORDS)[3:]])
        if not passed and not is_whole:  # pydicom accepts a truncated value.
            raise _TooShort
        meta = dataset.file_meta
        found = {keyword: dataset.get_item(tag) for tag, keyword in list(_KEYWORDS.items())[3:] if tag in dataset}
        values = {keyword: one.value for keyword, one in found.items() if one is not None}
        return ObjectIdentity(
            str(meta.get("MediaStorageSOPClassUID", "")).encode(),
            str(meta.get("MediaStorageSOPInstanceUID", "")).encode(),
            str(meta.get("TransferSyntaxUID", "")).encode(),
            **{keyword: _bytes(value) for keyword, value in values.items()},
        )
    except (InvalidDicomError, *_UNREADABLE) as error:
        if not is_whole and not isinstance(error, InvalidDicomError):
            raise _TooShort from error
        raise NoIdentity(f"it cannot be read as a DICOM object ({type(error).__name__})") from error


def _bytes(value: object) -> bytes:
    raw = value if isinstance(value, bytes) else str(value or "").encode()
    return raw.strip(b" \0")
