"""Find and admit folders that no hook announced; only while no process writes into them (docs/design.md)."""

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.config.receiver_tables import ReceiverTable
from pipeline.errors import StorestowError
from pipeline.events import Event, alarm, emit
from pipeline.receiving.foreign import may_take, writer
from pipeline.receiving.lock import unless_receiving
from pipeline.receiving.stuck_folders import Signature
from pipeline.spool import spool as rooms
from pipeline.spool.durable import link, rename, unlink
from pipeline.spool.envelope import ENVELOPE
from pipeline.spool.spool import SAID, Spool


def leftovers(incoming: Path) -> list[Path]:
    """Return the folders in a receiver's incoming folder, by name; hidden folders are incomplete."""
    return [path for path in _visible(incoming) if path.is_dir() and not path.is_symlink()]


def _visible(incoming: Path) -> list[Path]:
    if not incoming.is_dir():
        return []
    with os.scandir(incoming) as entries:
        return [Path(path) for path in sorted(entry.path for entry in entries if not entry.name.startswith("."))]


def take_all(spool: Spool, receiver: str, reason: str) -> list[str]:
    """Admit every folder with a file in it, and return the arrivals' names; no process may be writing there."""
    incoming = spool.incoming_of(receiver)
    _gather_loose(incoming, lambda _: True)
    try:
        _hand_over(spool.objects_log(receiver), leftovers(incoming))
    except OSError as error:
        alarm(Event.DEFERRED, receiver=receiver, reason=f"what storescp said cannot be kept: {error}")
        return []
    taken = (take(incoming, folder, reason) for folder in leftovers(incoming))
    return [arrival for arrival in taken if arrival is not None]


def _hand_over(objects: Path, folders: list[Path]) -> None:
    """Link storescp's messages about single objects into every folder, as the hook would have done.

    A link needs no space on a full disk. If this raises OSError, no folder may be admitted.
    """
    if not objects.exists():
        return
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):  # The folder has been admitted meanwhile.
            link(objects, folder / f"{SAID}{time.time_ns()}")
    unlink(objects, missing_ok=True)


def _gather_loose(incoming: Path, may_take: Callable[[Path], bool]) -> None:
    """Move files that are in the incoming folder itself into a folder of their own.

    storescp writes a file there if it does not sort by study, or for the Study Instance UID `.` without a prefix.
    """
    files = [path for path in _visible(incoming) if path.is_file() and not path.is_symlink()]
    loose = [path for path in files if path.stat().st_size and may_take(path)]
    if loose:
        folder = incoming / f"L_{time.time_ns()}"
        folder.mkdir(mode=0o750)
        for path in loose:
            rename(path, folder / path.name)


def sweep_abandoned(spool: Spool, name: str, receiver: ReceiverTable | None = None) -> list[str]:
    """Admit the folders that a receiver left when it ended; `receiver` is None if it is no longer configured.

    Nothing is admitted while a process of ours may be writing there. If a foreign storescp may be, only folders
    are admitted that it will not continue.
    """
    incoming = spool.incoming_of(name)
    if not _visible(incoming):
        return []
    with unless_receiving(spool, name) as nobody_of_ours:
        if not nobody_of_ours:
            return []
        port = receiver.port if receiver else None
        who = writer(incoming, port)
        if who is None and (receiver is None or receiver.mode != "external"):
            return take_all(spool, name, "receiver is down")
        return _take_untouched(spool, incoming, lambda path: may_take(path, who, port, time.time()))


def _take_untouched(spool: Spool, incoming: Path, is_untouched: Callable[[Path], bool]) -> list[str]:
    """Admit the folders that a running storescp will not continue, with a copy of its messages so far."""
    _gather_loose(incoming, is_untouched)
    taken = []
    for folder in leftovers(incoming):
        if is_untouched(folder) or folder.name.startswith("L_"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(spool.objects_log(incoming.name), folder / f"{SAID}{time.time_ns()}")
            taken.append(take(incoming, folder, "nobody announced it"))
    return [arrival for arrival in taken if arrival is not None]


def take(incoming: Path, folder: Path, reason: str | None = None) -> str | None:
    """Admit one folder, or remove it if nothing was received into it; return the arrival's name, if there is one.

    A folder that cannot be admitted now stays, and an alarm is logged: the next sweep tries again. With a `reason`
    the admission is logged; without one it is the ordinary end of an association.
    """
    try:
        if _is_without_files(folder):
            return None
        arrival = rooms.admit(incoming, folder)
    except (StorestowError, OSError) as error:
        alarm(Event.DEFERRED, receiver=incoming.name, folder=folder.name, reason=error)
        return None
    if arrival and reason:
        emit(Event.SWEPT, logging.WARNING, receiver=incoming.name, arrival=arrival, reason=reason)
    return arrival


def _is_without_files(folder: Path) -> bool:
    """Say whether no object was received into a folder; a folder with only our own files is removed."""
    try:
        names = [entry.name for entry in folder.iterdir()]
    except FileNotFoundError:
        return True
    if any(not name.startswith(".") for name in names):
        return False
    if all(name.startswith((ENVELOPE, SAID)) for name in names):
        for name in names:
            unlink((folder / name), missing_ok=True)
        folder.rmdir()
    return True


def signature_of(folder: Path) -> Signature:
    """Return values that change when a file is received into the folder; all 0 once it has been admitted."""
    try:
        with os.scandir(folder) as entries:
            found = [entry.stat(follow_symlinks=False) for entry in entries]
    except FileNotFoundError:
        return Signature(0, 0, 0)
    return Signature(len(found), sum(s.st_size for s in found), max((s.st_mtime_ns for s in found), default=0))
