"""A hidden folder beside the disc to be, for everything that is not the disc: gone whatever happens.

Its lock is held as long as somebody works in it; what a killed process left is removed by the next disc made
in the same place.
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

_PREFIX = ".storestow-disc-"
_LOCK = "lock"
_SPARE = 16 << 20  # bytes that others may write meanwhile
_YOUNG = 60.0  # seconds: a folder that is just being made has no lock yet


@contextlib.contextmanager
def scratch_beside(target: Path) -> Iterator[Path]:
    """Make the folder, hold its lock for the block, remove it.

    Raises NoPlace where the place for the disc is not there or not writable, NoSpace where it is full.
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
        shutil.rmtree(folder, ignore_errors=True)
    finally:  # the one signal that ends a command may have interrupted it (pipeline.processes.signal_handling)
        shutil.rmtree(folder, ignore_errors=True)


def check_space(folder: Path, needed: int) -> None:
    """Raise NoSpace unless so many bytes can be written into `folder`, and a few more."""
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
    """Remove the folders in which nobody works any more: whoever made them was killed."""
    for folder in parent.glob(f"{_PREFIX}*"):
        if _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    """Tell whether nobody works in the folder any more."""
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
