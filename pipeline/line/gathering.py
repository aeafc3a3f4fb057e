"""Gathering: what has come in and was not looked at yet may belong to a study that looks complete."""

from collections.abc import Collection
from dataclasses import dataclass

from pipeline.ledger import arrivals
from pipeline.ledger.arrivals import WaitingStudy
from pipeline.line.admission import parse_arrival_name
from pipeline.line.unread_arrivals import UnreadArrivals
from pipeline.model import ArrivalState
from pipeline.site.site import Site


@dataclass(frozen=True, slots=True)
class StudiesUnderWay:
    """Study folders storescp still fills, as (receiver, name); receivers and studies of arrivals not taken in yet.

    `receivers` are those of arrivals that nobody has glanced at: they may hold anything.
    """

    open_folders: frozenset[tuple[str, str]]
    receivers: frozenset[str]
    studies: frozenset[tuple[str, str]]

    def may_hold(self, study: WaitingStudy) -> bool:
        """Tell whether something of the study may be among it."""
        uid = study.study_instance_uid  # storescp names a study's folder by it, behind a prefix or none
        folders = [name for receiver, name in self.open_folders if receiver == study.receiver]
        return (
            study.receiver in self.receivers
            or any(name == uid or name.endswith(f"_{uid}") for name in folders)
            or (study.receiver, study.study_instance_uid) in self.studies
        )


def at_the_door(site: Site, glanced: UnreadArrivals, unusable: Collection[str] = ()) -> StudiesUnderWay:
    """Look at the rooms in the order folders take, so that nothing on its way between them is overlooked.

    Arrivals named `unusable` are left out: what cannot be taken in now must not hold up the others.
    """
    open_folders = frozenset(
        (room.name, folder.name)
        for room in site.spool.incoming.iterdir()
        if room.is_dir()
        for folder in room.iterdir()
        if not folder.name.startswith((".", "A_"))
    )
    names = {folder.name for folder in site.spool.arrivals.iterdir()} - set(unusable)
    with site.ledger.reading() as look:
        states = arrivals.states(look)
    receivers, studies = set(), set()
    for name in names:
        if states.get(name, ArrivalState.ADMITTED) == ArrivalState.ADMITTED:
            receiver = parse_arrival_name(name)[1]
            held = glanced.studies_of(name)
            if held is None:
                receivers.add(receiver)
            studies |= {(receiver, study) for study in held or ()}
    return StudiesUnderWay(open_folders, frozenset(receivers), frozenset(studies))
