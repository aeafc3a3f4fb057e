"""Read every file of a disc once, to its end, and tell which are DICOM objects, and whether these are complete.

No file on the medium is mapped into memory: a scratch on a mounted disc would end the process instead of raising
an error.
"""

import mmap
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

from pipeline.dicom.part10 import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, Bytes, DataSetLayout, Malformed
from pipeline.dicom.reading import DIRECTORY_STORAGE, inflate
from pipeline.dicom.walk import walk
from pipeline.disc.formats.contents import PIECE, Contents, DamagedZip
from pipeline.disc.formats.independent_reader import NoIdentity, ObjectIdentity, Passing, claims_in

_IN_MEMORY = 64 << 20  # Bytes of an object; a larger object is copied to a temporary file while it is checked.
_MOST_PADDING = 64 << 10  # Zeros after an object: programs that write media fill blocks of at most this size.
_SOP_INSTANCE, _ROWS = 0x00080018, 0x00280010
_PIXELS_ELSEWHERE = 0x00287FE0  # Pixel Data Provider URL
# This class may have Rows and Columns, and its pixels in private attributes.
_RAW_DATA = b"1.2.840.10008.5.1.4.1.1.66"
_FIRST_GROUPS = (b"\2\0", b"\x08\0")  # The first bytes of an object without preamble.


@dataclass(frozen=True, slots=True)
class SeenFile:
    """One file of a disc.

    `claims` is None if the file is no DICOM object, and `why_none` then says what it is instead; `problem` says
    why it is incomplete; `lacks_pixels` says that it has rows and columns, and no pixels: it was truncated before
    its pixels, or never had any, and the file does not tell which; `unreadable` says why it cannot be read, and
    `sha256` is "" then.
    """

    path: str
    sha256: str = ""
    claims: ObjectIdentity | None = None
    why_none: str = ""
    problem: str = ""
    unreadable: str = ""
    lacks_pixels: bool = False
    is_bare: bool = False  # An object without preamble, which readers do not recognise.


def seen(contents: Contents) -> Iterator[SeenFile]:
    """Yield the result for every file of the medium; a file that cannot be read is a result, not an error."""
    for path, size in contents.files.items():
        try:
            yield _seen(path, size, Passing(contents.pieces(path)))
        except (DamagedZip, OSError) as error:
            yield SeenFile(path, unreadable=str(error))


def _seen(path: str, size: int, passing: Passing) -> SeenFile:
    first = next(passing, b"")
    claims, why_none, problem, lacks_pixels, is_bare = None, _why_none(first), "", False, False
    if not why_none:
        with _held(chain((first,), passing), size) as data:
            try:
                claims = claims_in(data[at : at + PIECE] for at in range(0, len(data), PIECE))
                problem, lacks_pixels = _problem(data, claims)
                if claims.media_class == DIRECTORY_STORAGE.encode() and not claims.sop_instance_uid:
                    claims, why_none = None, "it is a DICOMDIR, the index of other objects"
            except NoIdentity as reason:
                why_none = problem = str(reason)
    elif first[:2] in _FIRST_GROUPS:
        with _held(chain((first,), passing), size) as data:
            is_bare = _is_bare(data)
    sha256 = passing.sha256()
    if passing.size < size:
        problem, lacks_pixels = f"{size:,} bytes are listed, {passing.size:,} are there", False
    return SeenFile(path, sha256, claims, why_none, problem, lacks_pixels=lacks_pixels, is_bare=is_bare)


def _why_none(first: bytes) -> str:
    if first[128:132] == b"DICM":
        return ""
    if not first:
        return "it is empty"
    return "it is another kind of file" if first.strip(b"\0") else "zeros are all that is there"


@contextmanager
def _held(pieces: Iterable[bytes], size: int) -> Iterator[Bytes]:
    if size <= _IN_MEMORY:
        yield b"".join(pieces)
        return
    with tempfile.TemporaryFile() as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def _is_bare(data: Bytes) -> bool:
    try:
        return _SOP_INSTANCE in walk(data).elements
    except Malformed:
        return False


def _problem(data: Bytes, claims: ObjectIdentity) -> tuple[str, bool]:
    """Say why an object is incomplete, "" if it is complete, and whether only its pixels are missing."""
    try:
        if claims.transfer_syntax_uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN.encode():
            return _problem_of_deflated(data, claims)
        return _lacking(walk(data), len(data), claims)
    except Malformed as reason:
        return str(reason), False


def _problem_of_deflated(data: Bytes, claims: ObjectIdentity) -> tuple[str, bool]:
    with tempfile.TemporaryFile() as whole:
        inflate(data, whole)
        whole.flush()
        with mmap.mmap(whole.fileno(), 0, access=mmap.ACCESS_READ) as inflated:
            return _lacking(walk(inflated), len(inflated), claims)


def _lacking(layout: DataSetLayout, size: int, claims: ObjectIdentity) -> tuple[str, bool]:
    if size - layout.end > _MOST_PADDING:
        return f"its last {size - layout.end:,} bytes are zeros", False
    has_none = layout.pixels is None and _PIXELS_ELSEWHERE not in layout.elements
    return "", has_none and _ROWS in layout.elements and claims.sop_class_uid != _RAW_DATA
