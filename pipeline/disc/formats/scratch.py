"""A hidden folder beside the future disc for all temporary files; it is always removed.

Its lock is held as long as a process works in it; the next disc made in the same place removes what a killed
process left.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.disc.errors import NoPlace, NoSpace
from pipeline.processes.signal_handling import held_back
from pipeline.spool.durable import remove_tree

_PREFIX = ".storestow-disc-"
_LOCK = "lock"
_SPARE = 16 << 20  # Bytes that other processes may write meanwhile.
_YOUNG = 60.0  # Seconds: a folder that is just being created has no lock yet.


@contextlib.contextmanager
def scratch_beside(target: Path) -> Iterator[Path]:
    """Create a hidden folder beside `target`, hold its lock during the block, then remove it.

    Raises NoPlace if the folder for the disc is missing or not writable, NoSpace if the disk is full.
    """
    folder = None
    try:
        with held_back():
            folder = _new_beside(target)
        with _locked(folder):
            yield folder
    finally:
        if folder is not None:
            _remove(folder)


def _new_beside(target: Path) -> Path:
    try:
        remove_abandoned(target.parent)
        return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=target.parent))
    except OSError as error:
        kind = NoSpace if error.errno in {errno.ENOSPC, errno.EDQUOT} else NoPlace
        raise kind(f"{target.parent} cannot be written to: {error.strerror}") from error


def _remove(folder: Path) -> None:
    try:
        remove_tree(folder, ignore_errors=True)
    finally:  # The one signal that ends a command may have come meanwhile (pipeline.processes.signal_handling).
        remove_tree(folder, ignore_errors=True)


def check_space(folder: Path, needed: int) -> None:
    """Raise NoSpace unless `needed` bytes, and 16 MiB for others, are free on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if needed + _SPARE > free:
        raise NoSpace(
            f"{folder} has {free:,} bytes free, the disc takes {needed:,} and {_SPARE:,} must stay free: "
            f"make room for {needed + _SPARE - free:,} more"
        )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / _LOCK).open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove_abandoned(parent: Path) -> None:
    """Remove the hidden folders in `parent` that killed processes left."""
    for folder in parent.glob(f"{_PREFIX}*"):
        if _is_abandoned(folder):
            remove_tree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    """Tell whether the folder is older than a minute and no process holds its lock."""
    try:
        if time.time() - folder.stat().st_mtime < _YOUNG:
            return False
        descriptor = os.open(folder / _LOCK, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
