"""Gather studies: let each wait until it is complete, as far as is known.

An object that has just come in may belong to a study that looks complete.
"""

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from pipeline import schedule
from pipeline.ledger import arrivals, claims, waiting_studies
from pipeline.ledger.waiting_studies import WaitingStudy
from pipeline.line.admit import parse_arrival_name
from pipeline.line.unread_arrivals import UnreadArrivals
from pipeline.model import ArrivalState
from pipeline.schedule import Agenda
from pipeline.site.site import Site


@dataclass(frozen=True, slots=True)
class StudiesUnderWay:
    """Folders and arrivals that may still bring instances of a study.

    `open_folders` are study folders that storescp still fills, as (receiver, folder name). `studies` are
    (receiver, Study Instance UID) of arrivals that are not identified yet. `receivers` are those of arrivals whose
    studies are unknown: they may hold any study.
    """

    open_folders: frozenset[tuple[str, str]]
    receivers: frozenset[str]
    studies: frozenset[tuple[str, str]]

    def may_hold(self, study: WaitingStudy) -> bool:
        """Tell whether any of these folders and arrivals may hold an instance of the study."""
        uid = study.study_instance_uid  # storescp names a study's folder after it, with or without a prefix.
        folders = [name for receiver, name in self.open_folders if receiver == study.receiver]
        return (
            study.receiver in self.receivers
            or any(name == uid or name.endswith(f"_{uid}") for name in folders)
            or (study.receiver, study.study_instance_uid) in self.studies
        )


def complete_studies(
    site: Site, agenda: Agenda, unread: UnreadArrivals, unusable: Collection[str]
) -> Iterator[WaitingStudy]:
    """Yield the studies that are due, and tell the agenda when the others will be due.

    A study whose receiver is no longer configured is due: the next stage reports that.
    """
    under_way = studies_under_way(site, unread, unusable)
    with site.ledger.reading() as connection:
        others = claims.studies_of_others(connection, site.claimant.worker)
        studies = [
            study
            for study in waiting_studies.waiting(connection)
            if (study.receiver, study.study_instance_uid) not in others
        ]
    at_most = site.settings.site.gather_at_most.total_seconds()
    for study in studies:
        receiver = site.receiver(study.receiver)
        if receiver is None:
            yield study
            continue
        quiet = at_most if under_way.may_hold(study) else receiver.quiet_seconds
        times = (study.newest_file_at, study.first_admitted_at, quiet, at_most)
        agenda.at(schedule.due_at(*times))
        if schedule.is_due(time.time(), *times):
            yield study


def studies_under_way(site: Site, unread: UnreadArrivals, unusable: Collection[str]) -> StudiesUnderWay:
    """Look at the rooms in the order in which folders pass them, so that no folder is missed while it moves.

    Arrivals in `unusable` are left out, because an arrival that cannot be identified now must not delay others.
    """
    open_folders = frozenset(
        (room.name, folder.name)
        for room in site.spool.incoming.iterdir()
        if room.is_dir()
        for folder in room.iterdir()
        if not folder.name.startswith((".", "A_"))
    )
    names = (site.spool.received_names() | site.spool.arrival_names()) - set(unusable)
    with site.ledger.reading() as connection:
        states = arrivals.states_of(connection, names)
    receivers, studies = set(), set()
    for name in names:
        if states.get(name, ArrivalState.ADMITTED) == ArrivalState.ADMITTED:
            receiver = parse_arrival_name(name)[1]
            held = unread.studies_of(name)
            if held is None:
                receivers.add(receiver)
            studies |= {(receiver, study) for study in held or ()}
    return StudiesUnderWay(open_folders, frozenset(receivers), frozenset(studies))
