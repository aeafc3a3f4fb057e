"""Gather studies: let each wait until it is complete, as far as is known.

An object that has just come in may belong to a study that looks complete. Of arrivals that are not identified yet,
the beginning of each file says which studies they hold: for each key the first received instance wins, so arrivals
of one study are identified in the order of admission. An arrival waits for a slower one only if both hold the same
study.
"""

import contextlib
import os
import time
from collections.abc import Collection, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from pipeline import schedule
from pipeline.dicom.reading import values_of
from pipeline.ledger import arrivals, claims, nodes, waiting_studies
from pipeline.ledger.nodes import OtherNodes
from pipeline.ledger.waiting_studies import WaitingStudy
from pipeline.line.admit import parse_arrival_name
from pipeline.line.hand_over import node_of
from pipeline.line.identify import ReadAhead
from pipeline.model import ArrivalState
from pipeline.schedule import Agenda
from pipeline.site.site import Site
from pipeline.spool.hashed_files import state_of

STUDY_INSTANCE_UID = 0x0020000D
LEFT_SECONDS = 2.0  # So long another node leaves a study that is due to the node that brought it.
ASK_SECONDS = 1.0  # Until the report of another node is looked for again.
ANY_STUDY = ""  # Stands for the folders of a receiver whose incoming folder cannot be listed.


@dataclass(frozen=True, slots=True)
class RoomsSeen:
    """What one round of the loop has seen of the rooms and the ledger.

    `open_folders` are study folders that storescp still fills, as (receiver, folder name), or (receiver,
    ANY_STUDY). `arrivals` are those
    that may be worked at. `unidentified` are those that are not identified yet, `unknown` those that the ledger
    does not know; both also have the folders that are still to be handed over to a store. `waiting` are the
    studies of which instances wait for a delivery, without those that other workers prepare. `of_others` are
    arrivals that other nodes at work have brought, and `others` is what those nodes say of themselves.
    """

    open_folders: Collection[tuple[str, str]] = ()
    arrivals: AbstractSet[str] = frozenset()
    unidentified: AbstractSet[str] = frozenset()
    unknown: AbstractSet[str] = frozenset()
    waiting: Sequence[WaitingStudy] = ()
    of_others: AbstractSet[str] = frozenset()
    others: OtherNodes | None = None


def look_at_rooms(site: Site, identified: AbstractSet[str] = frozenset()) -> RoomsSeen:
    """Look at the rooms in the order in which folders pass them, so that no folder is missed while it moves.

    The ledger is not asked for the arrivals in `identified`, which were at an earlier look.
    """
    open_folders = set(_open_folders(site.spool.incoming))
    received, here = site.spool.received_names(), site.spool.arrival_names()
    with site.ledger.reading() as connection:
        states = arrivals.states_of(connection, (received | here) - identified)
        waiting = waiting_studies.waiting(connection)
        prepared = claims.studies_of_others(connection, site.claimant.worker) if waiting else ()
        others = nodes.others(connection, site.claimant.worker) if site.spool.has_store else None
    unknown = (received | here) - identified - states.keys()
    admitted = {name for name, state in states.items() if state == ArrivalState.ADMITTED}
    mine = [study for study in waiting if (study.receiver, study.study_instance_uid) not in prepared]
    theirs = {name for name in here if others and node_of(name) in others.at_work}
    return RoomsSeen(open_folders, here, unknown | admitted, unknown, mine, theirs, others)


def _open_folders(incoming: Path) -> Iterator[tuple[str, str]]:
    for room in incoming.iterdir():
        try:
            names = [folder.name for folder in room.iterdir()] if room.is_dir() else []
        except OSError:  # The sweep reports it. Studies of other receivers do not wait for that.
            yield room.name, ANY_STUDY
        else:
            yield from ((room.name, name) for name in names if not name.startswith((".", "A_")))


def at_the_door(site: Site, unread: "UnreadArrivals") -> Iterator[tuple[str, str, int]]:
    """Yield what this node has received and not handed over: receiver, Study Instance UID and number of files.

    Left out is what came by associations that are still open; the quiet time of a study goes by without them.
    """
    for receiver, name in _open_folders(site.spool.incoming):
        if name != ANY_STUDY:
            yield receiver, name.rpartition("_")[2], _count(site.spool.incoming_of(receiver) / name)
    for name in site.spool.received_names():
        folder = site.spool.received / name
        for study in unread.studies_of(name) or studies_in(folder):
            yield parse_arrival_name(name)[1], study, _count(folder)


def _count(folder: Path) -> int:
    with contextlib.suppress(OSError):  # It is admitted, or handed over, just now.
        return sum(not file.name.startswith(".") for file in folder.iterdir())
    return 0


class UnreadArrivals:
    """The studies of arrivals that are not identified yet; files that were read `ahead` are not opened again."""

    def __init__(self, ahead: ReadAhead | None = None) -> None:
        self._ahead = ahead
        self._studies: dict[str, frozenset[str]] = {}

    def look(self, name: str, site: Site) -> None:
        """Note the Study Instance UIDs of an arrival's files.

        An unreadable file counts for no study, and no other arrival waits for it.
        """
        received = site.spool.received / name
        folder = received if received.is_dir() else site.spool.arrivals / name
        self._studies[name] = studies_in(folder, self._ahead)

    def keep(self, names: Collection[str]) -> None:
        """Forget all arrivals except those in `names`."""
        self._studies = {name: studies for name, studies in self._studies.items() if name in names}

    def studies_of(self, name: str) -> frozenset[str] | None:
        """Return the studies of an arrival, None if `look` has not read it yet."""
        return self._studies.get(name)

    def in_order(self, names: Collection[str], unusable: Collection[str]) -> Iterator[str]:
        """Yield the arrivals that may be identified now, in the order of admission.

        An `unusable` arrival, whose last attempt has failed, does not delay others.
        """
        before: set[str] = set()
        for name in sorted(names):
            studies = self._studies.get(name)
            if studies is None and name not in unusable:
                return
            if before.isdisjoint(studies or ()):
                yield name
            if name not in unusable:
                before |= studies or frozenset()


def studies_in(folder: Path, ahead: ReadAhead | None = None) -> frozenset[str]:
    """Return the Study Instance UIDs of the files in a folder, as they were read `ahead` or begin."""
    studies: set[str] = set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if not entry.name.startswith(".") and S_ISREG(status.st_mode):
                    found = ahead.look_up(state_of(status)) if ahead else None
                    known = found.key.study_instance_uid if found and found.key else None
                    studies.add(known or _study_of(Path(entry.path)))
        return frozenset(filter(None, studies))
    except FileNotFoundError:  # A person, or a starting worker, has moved the folder.
        return frozenset()


def _study_of(file: Path) -> str:
    try:
        return values_of(file, [STUDY_INSTANCE_UID]).get(STUDY_INSTANCE_UID, b"").decode("latin-1").strip(" \0")
    except (OSError, ValueError):  # ValueError: the file cannot be mapped.
        return ""


def complete_studies(
    seen: RoomsSeen, site: Site, agenda: Agenda, unread: UnreadArrivals, unusable: Collection[str]
) -> Iterator[WaitingStudy]:
    """Yield the studies that are due, and tell the agenda when the others will be due.

    Arrivals in `unusable` delay no study, because they cannot be identified now. A study whose receiver is no
    longer configured is due: the next stage reports that. What another node at work has brought is due here a
    little later, and once that node has said since that it has nothing more of it at its door: it has read the
    files, and takes them unless it has enough in hand.
    """
    if not seen.waiting:
        return
    under_way = [
        (parse_arrival_name(name)[1], unread.studies_of(name)) for name in seen.unidentified - set(unusable)
    ]
    at_most = site.settings.site.gather_at_most.total_seconds()
    for study in seen.waiting:
        receiver = site.receiver(study.receiver)
        if receiver is None:
            yield study
            continue
        quiet = at_most if _may_get_more(study, seen, under_way) else receiver.quiet_seconds
        is_theirs = study.newest_arrival in seen.of_others
        left = LEFT_SECONDS if is_theirs else 0.0
        times = (study.newest_file_at, study.first_admitted_at, quiet + left, at_most + left)
        due = schedule.due_at(*times)
        agenda.at(due)
        if schedule.is_due(time.time(), *times):
            if is_theirs and seen.others and seen.others.seen[node_of(study.newest_arrival)] < due:
                agenda.at(time.time() + ASK_SECONDS)
            else:
                yield study


def _may_get_more(
    study: WaitingStudy, seen: RoomsSeen, under_way: Collection[tuple[str, frozenset[str] | None]]
) -> bool:
    """Tell whether any folder or arrival may still bring an instance of the study.

    `under_way` are receiver and studies of the arrivals that are not identified yet; one whose studies are unknown
    may hold any study.
    """
    if seen.others and (study.receiver, study.study_instance_uid) in seen.others.door:
        return True
    uid = study.study_instance_uid  # storescp names a study's folder after it, with or without a prefix.
    return any(
        receiver == study.receiver and (name in {ANY_STUDY, uid} or name.endswith(f"_{uid}"))
        for receiver, name in seen.open_folders
    ) or any(receiver == study.receiver and (studies is None or uid in studies) for receiver, studies in under_way)
