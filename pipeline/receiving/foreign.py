"""Find out which process that is not ours writes into an incoming folder, and which folders may be renamed.

storescp does not check again that the folder of its open study exists. After a rename it refuses each further
object of that study (0xA700), until another study comes or `-tos` has passed.
"""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.receiving import listening_port

UNTOUCHED_SECONDS = 3600.0  # After this time without a change, no process continues a study.
MARGIN_SECONDS = 2.0  # The start of a process is known by another clock, possibly in whole seconds.
_FOLDER_OPTIONS = {"-od", "--output-directory"}


@dataclass(frozen=True, slots=True)
class Writer:
    """A process that may be writing; `started_at` (seconds since the epoch) is None if it cannot be seen."""

    started_at: float | None


def writer(incoming: Path, port: int | None) -> Writer | None:
    """Return the foreign process that may be writing into a receiver's incoming folder, None if there is none.

    This is a process whose command line names the folder, a storescp that listens on the receiver's port, or any
    listener there that cannot be seen because it belongs to another user.
    """
    found = list(writing_below(incoming))
    if port is not None:
        owner = listening_port.owner(port)
        if owner is None and listening_port.is_listened(port):
            return Writer(None)
        if owner is not None and _is_storescp(owner):
            found.append(owner)
    started = [moment for process in found if (moment := _started_at(process)) is not None]
    return Writer(max(started)) if started else None


def writing_below(incoming: Path) -> Iterator[psutil.Process]:
    """Yield the processes whose command line names `incoming`, or a folder in it, as their output folder."""
    for process in psutil.process_iter():
        if any(incoming in (folder, *folder.parents) for folder in _folders(process)):
            yield process


def _folders(process: psutil.Process) -> Iterator[Path]:
    try:
        words = process.cmdline()
        named = [after for word, after in itertools.pairwise(words) if word in _FOLDER_OPTIONS]
        here = process.cwd() if any(not name.startswith("/") for name in named) else "/"
    except psutil.Error:  # The process has ended, or belongs to another user.
        return
    yield from (Path(os.path.normpath(os.path.join(here, name))) for name in named)  # noqa: PTH118  # `..` too


def words_of(process: psutil.Process) -> list[str] | None:
    """Return the command line of a storescp; None for another program, or if the process cannot be seen."""
    try:
        return process.cmdline() if process.name() == "storescp" else None
    except psutil.Error:
        return None


def _is_storescp(process: psutil.Process) -> bool:
    try:
        return process.name() == "storescp"
    except psutil.Error:
        return False


def _started_at(process: psutil.Process) -> float | None:
    try:
        return float(process.create_time())
    except psutil.Error:
        return None


def may_take(path: Path, who: Writer | None, port: int | None, now: float) -> bool:
    """Say whether a folder or file may be renamed at wall-clock time `now` although a process may be writing.

    It may if it is older than that process, or if it has not changed for an hour and no peer is connected. `who`
    is None if no process was found, although one may exist.
    """
    changed = _changed_at(path)
    if who and who.started_at is not None and changed < who.started_at - MARGIN_SECONDS:
        return True
    return now - changed >= UNTOUCHED_SECONDS and not (port is not None and listening_port.is_connected(port))


def _changed_at(path: Path) -> float:
    try:
        statuses = [path.lstat(), *((entry.stat(follow_symlinks=False)) for entry in os.scandir(path))]
    except NotADirectoryError:
        statuses = [path.lstat()]
    return max(max(status.st_mtime, status.st_ctime) for status in statuses)
