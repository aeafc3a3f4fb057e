"""Store an instance in a folder: durably, read back by its hash, and without replacing another file."""

import contextlib
import errno
import hashlib
import os
import re
import threading
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from pipeline.crash_points import door
from pipeline.spool.durable import flush, flush_path, link, rename, unlink
from pipeline.spool.spool import alone_in

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST = 64
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_BLOCK = 1 << 20
_RENAMING = threading.Lock()


class StoreOutcome(StrEnum):
    """What became of a file that was to be stored."""

    FILED = "filed"
    SAME = "same"  # A file with the same bytes was there already.
    OTHER = "other"  # A file with other bytes is there, and stays.
    NOT_AS_PINNED = "not as pinned"  # The source is missing, or differs from its pin.


def component(text: str) -> str:
    """Return `text` as one safe path component; if it had to be changed, a hash keeps different texts apart."""
    safe = _UNSAFE.sub("_", text).strip(".")[:_LONGEST]
    if safe and safe == text:
        return safe
    return f"{safe[:40] or 'none'}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def file_away(source: Path, target: Path, sha256: str, *, mark: str) -> StoreOutcome:
    """Copy `source` to `target`, or find it there; FILED and SAME mean that the bytes have been read back.

    `mark` keeps simultaneous copies apart; a copy with the same mark replaces what a crash has left. Raises
    OSError if `target` cannot be written; there is then no partial file under its name.
    """
    _make_folders(target.parent)
    # The name is hidden, so that no reader takes the file for an instance.
    beside = target.with_name(f".{target.name}.{mark}.part")
    try:
        if target.exists():
            return _found(target, sha256)
        if not _copy(source, beside, sha256):
            return StoreOutcome.NOT_AS_PINNED
        if not give_name(beside, target):
            return _found(target, sha256)
        flush_path(target.parent)
        return StoreOutcome.FILED
    finally:
        with contextlib.suppress(OSError):
            unlink(beside, missing_ok=True)


def _found(target: Path, sha256: str) -> StoreOutcome:
    """Return the outcome for an existing target; an earlier attempt may have died before its name was durable."""
    if _sha256_on_disk(target) != sha256:
        return StoreOutcome.OTHER
    flush_path(target.parent)
    return StoreOutcome.SAME


def _copy(source: Path, beside: Path, sha256: str) -> bool:
    """Copy, flush and read back; return False if the source is missing or differs from its pin."""
    try:
        file = source.open("rb")
    except OSError:
        return False
    read = hashlib.sha256()
    unlink(beside, missing_ok=True)
    with file, beside.open("xb") as copy:
        while block := _next_block(file):
            read.update(block)
            copy.write(block)
        copy.flush()
        flush(copy.fileno())
    if read.hexdigest() != sha256:
        return False
    if _sha256_on_disk(beside) != sha256:
        raise OSError(errno.EIO, "what was read back is not what was written")
    return True


def _next_block(file: BinaryIO) -> bytes:
    """Return the next block, empty if it cannot be read: the hash then shows that bytes are missing."""
    try:
        return file.read(_BLOCK)
    except OSError:
        return b""


@door
def give_name(beside: Path, target: Path) -> bool:
    """Give `beside` the name `target`; return False if a file has appeared there meanwhile, which stays."""
    try:
        link(beside, target)  # Unlike a rename, a hard link never replaces a file.
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _rename_unless_there(beside, target)
    return True


@door
def _rename_unless_there(beside: Path, target: Path) -> bool:
    """Rename on shares without hard links; a lock keeps other processes of this machine from doing the same.

    Some shares cannot lock folders: on these, only the threads of this process wait for each other.
    """
    with _RENAMING, contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stack.enter_context(alone_in(target.parent))
        if target.exists():
            return False
        rename(beside, target)
    return True


def _make_folders(folder: Path) -> None:
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        with contextlib.suppress(FileExistsError):
            new.mkdir(mode=0o750)
        flush_path(new.parent)


def _sha256_on_disk(path: Path) -> str:
    """Return the SHA-256 of the bytes on the disk, as far as the system allows us to bypass its cache."""
    with path.open("rb") as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return hashlib.file_digest(file, "sha256").hexdigest()
