"""The sweep: it finds what nobody announced, and is called only when nobody writes there (docs/design.md)."""

import contextlib
import logging
import os
import time
from pathlib import Path

from pipeline.errors import StorestowError
from pipeline.events import Event, alarm, emit
from pipeline.receiving.lock import unless_receiving
from pipeline.receiving.watch import Signature
from pipeline.spool import spool as rooms
from pipeline.spool.spool import SAID, Spool
from pipeline.waypoints import reached

ENVELOPE = ".envelope.json"


def leftovers(incoming: Path) -> list[Path]:
    """Return the study and association folders in a receiver's incoming folder, oldest name first."""
    if not incoming.is_dir():
        return []
    with os.scandir(incoming) as entries:
        found = [e.path for e in entries if e.name.startswith(("S_", "A_")) and e.is_dir(follow_symlinks=False)]
    return [Path(path) for path in sorted(found)]


def take_all(spool: Spool, receiver: str, reason: str) -> list[str]:
    """Admit every folder that holds a file; returns the arrivals' names. Nobody may be writing there."""
    incoming = spool.incoming_of(receiver)
    try:
        _hand_over(spool.objects_log(receiver), leftovers(incoming))
    except OSError as error:
        alarm(Event.DEFERRED, receiver=receiver, reason=f"what storescp said cannot be kept: {error}")
        return []
    taken = (take(incoming, folder, reason) for folder in leftovers(incoming))
    return [arrival for arrival in taken if arrival is not None]


def _hand_over(objects: Path, folders: list[Path]) -> None:
    """Give every folder what a storescp that has ended said of single objects, as the hook would have done.

    A link takes no space, so a full disk does not matter. Raises OSError, and then no folder may be admitted.
    """
    if not objects.exists():
        return
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):  # the folder has been admitted meanwhile
            os.link(objects, folder / f"{SAID}{time.time_ns()}")
    objects.unlink(missing_ok=True)


def sweep_abandoned(spool: Spool, receiver: str) -> list[str]:
    """Admit what a receiver that no longer runs has left; does nothing while any process may be writing."""
    if not leftovers(spool.incoming_of(receiver)):
        return []
    with unless_receiving(spool, receiver) as nobody_writes:
        return take_all(spool, receiver, "receiver is down") if nobody_writes else []


def take(incoming: Path, folder: Path, reason: str | None = None) -> str | None:
    """Admit one folder, or remove it where nothing was received into it; returns the arrival's name.

    A folder that cannot be admitted now stays, and an alarm says so: the next sweep tries again. With a
    `reason` the admission is worth a line in the log, without one it is the ordinary end of an association.
    """
    try:
        if _is_without_files(folder):
            return None
        reached("sweep-admitting")
        arrival = rooms.admit(incoming, folder)
        reached("sweep-admitted")
    except (StorestowError, OSError) as error:
        alarm(Event.DEFERRED, receiver=incoming.name, folder=folder.name, reason=error)
        return None
    if arrival and reason:
        emit(Event.SWEPT, logging.WARNING, receiver=incoming.name, arrival=arrival, reason=reason)
    return arrival


def _is_without_files(folder: Path) -> bool:
    """Say whether no file was received here; a folder with nothing but what we wrote is removed."""
    try:
        names = [entry.name for entry in folder.iterdir()]
    except FileNotFoundError:
        return True
    if any(not name.startswith(".") for name in names):
        return False
    if all(name.startswith((ENVELOPE, SAID)) for name in names):
        for name in names:
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
    return True


def signature_of(folder: Path) -> Signature:
    """Return what changes when something is received into the folder; all zero once it has been admitted."""
    try:
        with os.scandir(folder) as entries:
            found = [entry.stat(follow_symlinks=False) for entry in entries]
    except FileNotFoundError:
        return Signature(0, 0, 0)
    return Signature(len(found), sum(s.st_size for s in found), max((s.st_mtime_ns for s in found), default=0))
