"""Rename, remove and flush files: no other module does this by itself.

Each effect has a crash point before and after it (pipeline/crash_points.py); a contract test keeps every other
module from having such effects.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.crash_points import around, door

# Files of a tree that are flushed at the same time: the file system then writes its journal once for several. For
# 500 slices this takes a seventh of the time; with more threads it takes no less.
_FLUSHED_AT_ONCE = 4
_BLOCK = 1 << 20


@door
def rename(source: Path, target: Path) -> None:
    """Rename `source`; a file at `target` is replaced. Raises OSError."""
    with around("rename"):
        source.rename(target)


@door
def link(source: Path, target: Path) -> None:
    """Give the file `source` the second name `target`; unlike a rename this never replaces a file.

    Raises OSError.
    """
    with around("link"):
        target.hardlink_to(source)


@door
def unlink(path: Path, *, missing_ok: bool = False) -> None:
    """Remove a file or link. Raises OSError, and FileNotFoundError unless `missing_ok`."""
    with around("unlink"):
        path.unlink(missing_ok=missing_ok)


@door
def remove_tree(folder: Path, *, ignore_errors: bool = False) -> None:
    """Remove a folder and everything in it. Raises OSError, unless `ignore_errors`."""
    with around("unlink"):
        shutil.rmtree(folder, ignore_errors=ignore_errors)


@door
def write_durably(path: Path, data: bytes) -> None:
    """Write `data` beside `path`, flush it, and rename it: `path` has the old or the new content, never a part.

    Raises OSError.
    """
    # The name is hidden, so that it is never taken for an instance.
    beside = path.with_name(f".{path.name.lstrip('.')}.new")
    with around("write"):
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            flush(file.fileno())
        beside.rename(path)
        flush_path(path.parent)


@door
def append_durably(path: Path, data: bytes, *, after: int) -> None:
    """Truncate a file to its first `after` bytes, append `data`, and flush it; the file is created if necessary.

    Raises OSError.
    """
    with around("write"):
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o640), "wb") as file:
            file.truncate(after)
            file.seek(after)
            file.write(data)
            file.flush()
            flush(file.fileno())
        flush_path(path.parent)


@door
def copy_durably(source: Path, copy: Path) -> str:
    """Copy a file with its times to the new file `copy`, flush it and read it back; return its SHA-256.

    Raises OSError, also if what was read back is not what was written.
    """
    written, status = hashlib.sha256(), source.stat()
    with around("write"), source.open("rb") as file, copy.open("xb") as target:
        while block := file.read(_BLOCK):
            written.update(block)
            target.write(block)
        target.flush()
        os.utime(target.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
        flush(target.fileno())
    with copy.open("rb") as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if hashlib.file_digest(file, "sha256").digest() != written.digest():
            raise OSError(errno.EIO, "what was read back is not what was written", str(copy))
    return written.hexdigest()


@door
def rename_durably(source: Path, target: Path) -> None:
    """Rename `source`, and return when the entries of both folders are on the disk. Raises OSError."""
    rename(source, target)
    for folder in {source.parent, target.parent}:
        flush_path(folder)


@door
def fsync_tree(folder: Path) -> None:
    """Return when every file and folder below `folder`, and `folder` itself, is on the disk. Raises OSError."""
    # Files come before the folders that name them. Links are no instances and are not followed.
    with around("fsync"), ThreadPoolExecutor(_FLUSHED_AT_ONCE, thread_name_prefix="flush") as threads:
        for parent, _, names in os.walk(folder, topdown=False, onerror=_raise):
            files = [path for path in map(Path(parent).joinpath, names) if not path.is_symlink()]
            several = len(files) > 1  # For one, to start a thread costs more than it spares.
            for _flushed in threads.map(_flush_path, files) if several else map(_flush_path, files):
                pass
            _flush_path(Path(parent))


def _raise(error: OSError) -> None:
    raise error  # A folder that cannot be listed cannot be called durable.


@door
def flush_path(path: Path) -> None:
    """Return when a file, or the entries of a folder, are on the disk; a link is an error."""
    with around("fsync"):
        _flush_path(path)


def _flush_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        _flush(descriptor)
    finally:
        os.close(descriptor)


def flush_so_far(path: Path) -> None:
    """Bring to the disk what has been written to a file that still grows, so that its last flush takes less long.

    It is no crash point, because nothing is done after it that relies on it. Raises OSError, which the caller must
    not ignore: the system tells it once, and no later flush would.
    """
    _flush_path(path)


def begin_flush(path: Path) -> None:
    """Let the system begin to bring a file to the disk that has just been written, without waiting for it.

    An error of the disk is kept for the flush that must follow: unlike `fsync` this does not take it away. Does
    nothing where the system has no such call. Raises OSError if the file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        if hasattr(os, "posix_fadvise"):  # Pages that are not on the disk yet stay in memory.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


@door
def flush(descriptor: int) -> None:
    """Return when everything written to an open file is on the disk."""
    with around("fsync"):
        _flush(descriptor)


def _flush(descriptor: int) -> None:
    if sys.platform == "darwin":  # There, fsync leaves the data in the cache of the disk.
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)
