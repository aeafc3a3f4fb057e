"""What is set aside, and the two things a person can do about it: release it, or discard it."""

import contextlib
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from pipeline.errors import Permanent, Usage
from pipeline.events import Event, emit, moment
from pipeline.ledger import Ledger, arrivals, quarantined, reports
from pipeline.ledger.rows import InstanceRow
from pipeline.line.identify import IdentifiedFile, IdentifyTask, found_in
from pipeline.line.settle import renew_account
from pipeline.model import ArrivalState, InstanceState, SetAsideCode
from pipeline.processes.process_pool import ProcessPool
from pipeline.spool.durable import rename_durably
from pipeline.spool.spool import Spool


def listed(ledger: Ledger) -> dict[str, Any]:
    """Return the shape of `quarantine list --json` (docs/design.md, Commands)."""
    with ledger.reading() as look:
        instances = [
            {
                "arrival": row.arrival,
                "file": row.file,
                "sop_instance_uid": row.sop_instance_uid,
                "study_instance_uid": row.study_instance_uid,
                "state": row.state,
                "code": row.code,
                "reason": row.reason,
                "at": moment(row.admitted_at),
            }
            for row in reports.set_aside(look)
        ]
        whole = [
            {
                "arrival": row.name,
                "file": None,
                "sop_instance_uid": None,
                "study_instance_uid": None,
                "state": row.state,
                "code": None,
                "reason": row.reason,
                "at": moment(row.settled_at or row.admitted_at),
            }
            for row in reports.arrivals_set_aside(look)
        ]
    return {"quarantined": instances + whole}


def shown(name: str, spool: Spool, ledger: Ledger) -> dict[str, Any]:
    """Return what is known of `ARRIVAL` or `ARRIVAL/FILE`, and where it lies; raises Usage if it is not there."""
    arrival, file = _split(name)
    with ledger.reading() as look:
        row = reports.arrival_row(look, arrival)
        instances = reports.instances_of(look, arrival, file)
    if row is None or (file and not instances):
        raise Usage(f"nothing of the name {name} is known; `storestow quarantine list` names what there is")
    return {
        "arrival": arrival,
        "receiver": row.receiver,
        "state": row.state,
        "reason": row.reason,
        "hidden_files": row.hidden_files,
        "empty_files": row.empty_files,
        "instances": [
            {
                "file": one.file,
                "path": str(spool.find(arrival, one.file) or ""),
                "state": one.state,
                "code": one.code,
                "reason": one.reason,
                "sop_instance_uid": one.sop_instance_uid,
                "study_instance_uid": one.study_instance_uid,
                "received_sha256": one.received_sha256,
                "size": one.size,
            }
            for one in instances
        ],
    }


def release(name: str, spool: Spool, ledger: Ledger) -> None:
    """Have `ARRIVAL` or `ARRIVAL/FILE` tried again from the start.

    Raises:
        Usage: there is nothing of that name.
        Permanent: it is still what it was; or it is a conflict, which no second look resolves; or somebody else
            has released or discarded it meanwhile.
    """
    arrival, file = _split(name)
    with ledger.reading() as look:
        row = reports.arrival_row(look, arrival)
        instances = reports.instances_of(look, arrival, file)
    if row is None or (file and not instances):
        raise Usage(f"nothing of the name {name} is known; `storestow quarantine list` names what there is")
    if file is None and row.state == ArrivalState.QUARANTINED:
        if not (spool.quarantine / arrival).is_dir():
            raise Permanent(f"{arrival}: its files are missing, there is nothing to release")
        if any(one.study_instance_uid for one in instances):  # somebody has set it aside on its way
            _release_instances(arrival, {}, spool, ledger)
        else:
            _release_arrival(arrival, spool, ledger)
        return
    aside = [one for one in instances if one.state == InstanceState.QUARANTINED and one.discarded_at is None]
    others = [one for one in aside if one.code == SetAsideCode.OTHER_PATIENT]
    aside = [one for one in aside if one.code != SetAsideCode.OTHER_PATIENT]
    if others and not aside:
        study = others[0].study_instance_uid
        raise Permanent(
            f"{name} is another patient's than its study began with; if a person has made sure that it is of the "
            f"study: storestow quarantine release --study {study} --reason TEXT"
        )
    if not aside and any(one.discarded_at for one in instances):
        raise Permanent(f"{name} has been discarded")
    if not aside:
        raise Permanent(f"{name} holds nothing quarantined; a conflict stays with the first received instance")
    _release_instances(arrival, {one.id: read_again(one, spool) for one in aside}, spool, ledger)


def _release_arrival(arrival: str, spool: Spool, ledger: Ledger) -> None:
    with ledger.transaction() as change:
        if not quarantined.is_aside(change, arrival):
            raise _decided_meanwhile(arrival)
        arrivals.forget_instances(change, arrival)
        arrivals.set_state(change, arrival, ArrivalState.ADMITTED, "released")
    rename_durably(spool.quarantine / arrival, spool.arrivals / arrival)
    emit(Event.RELEASED, arrival=arrival)


def read_again(row: InstanceRow, spool: Spool) -> IdentifiedFile:
    """Return what a quarantined file is now; raises Permanent if it still is none that can go on."""
    path = spool.find(row.arrival, row.file)
    if path is None:
        raise Permanent(f"{row.arrival}/{row.file}: the file is missing")
    with closing(ProcessPool(1)) as pool:
        (found,) = found_in([IdentifyTask(path, spool.run)], pool)
    if found.problem or found.key is None:
        raise Permanent(f"{row.arrival}/{row.file}: {found.problem}")
    return found


def _release_instances(arrival: str, released: dict[int, IdentifiedFile], spool: Spool, ledger: Ledger) -> None:
    """Bring the arrival back among the open ones, and these instances before the line: the room says so first."""
    for room in (spool.settled, spool.quarantine):
        with contextlib.suppress(FileNotFoundError):  # perhaps somebody else has just done it
            rename_durably(room / arrival, spool.arrivals / arrival)
    try:
        with ledger.transaction() as change:
            mine = released.keys() & quarantined.undecided(change, arrival)
            is_first = bool(mine) if released else quarantined.is_aside(change, arrival)
            for identity in mine:
                arrivals.set_instance(change, identity, as_received(released[identity]))
            reopen(change, arrival)
    except IntegrityError as error:
        with ledger.transaction() as change:
            reopen(change, arrival)
        raise Permanent(
            f"{arrival}: another instance holds the same UIDs by now; it was received first"
        ) from error
    if not is_first:
        raise _decided_meanwhile(arrival)
    for found in (released[identity] for identity in sorted(mine)):
        emit(Event.RELEASED, arrival=arrival, file=found.file, instance=found.key and found.key.sop_instance_uid)


def reopen(change: Connection, arrival: str) -> None:
    """Have an arrival settled again; raises Permanent where it has been discarded meanwhile."""
    row = reports.arrival_row(change, arrival)
    if row is None or row.gone_at is not None:
        raise _decided_meanwhile(arrival)
    arrivals.set_state(change, arrival, ArrivalState.PROCESSING)


def _decided_meanwhile(name: str) -> Permanent:
    return Permanent(f"{name} has been released or discarded meanwhile, by somebody else; nothing was done")


def as_received(found: IdentifiedFile) -> dict[str, Any]:
    """Return what the row of a released instance says: as if it had just come in."""
    assert found.key is not None
    return {
        "state": InstanceState.RECEIVED,
        "reason": "released",
        "code": None,
        "consigned": False,
        "study_instance_uid": found.key.study_instance_uid,
        "series_instance_uid": found.key.series_instance_uid,
        "sop_instance_uid": found.key.sop_instance_uid,
        "sop_class_uid": found.sop_class_uid,
        "modality": found.modality,
        "accession_number": found.accession_number,
        "frames": found.frames,
        "size": found.size,
        "received_sha256": found.received_sha256,
        "data_set_sha256": found.data_set_sha256,
        "transfer_syntax_received": found.transfer_syntax_uid,
    }


def discard(name: str, spool: Spool, ledger: Ledger) -> list[Path]:
    """Delete what is set aside under `ARRIVAL` or `ARRIVAL/FILE`, and return what was deleted.

    Only files that are quarantined or conflicting: what is on its way, or has arrived, is not touched.

    Raises:
        Usage: there is nothing of that name.
        Permanent: somebody else has released or discarded it meanwhile.
    """
    arrival, file = _split(name)
    with ledger.reading() as look:
        row = reports.arrival_row(look, arrival)
        instances = [one for one in reports.instances_of(look, arrival, file) if one.state in reports.SET_ASIDE]
    is_whole = file is None and row is not None and row.state == ArrivalState.QUARANTINED
    if not (instances or is_whole):
        raise Usage(f"nothing set aside has the name {name}; `storestow quarantine list` names what there is")
    wanted = {one.id for one in instances}
    is_news = _note_discarded(arrival, wanted, ledger, is_whole=is_whole)
    deleted = _delete(arrival, wanted, spool, ledger, is_whole=is_whole)
    if not (is_news or deleted):
        raise _decided_meanwhile(name)
    if (spool.settled / arrival).is_dir():
        renew_account(arrival, spool, ledger)
    emit(Event.DISCARDED, arrival=arrival, file=file, files=len(deleted))
    return deleted


def _note_discarded(arrival: str, wanted: set[int], ledger: Ledger, *, is_whole: bool) -> bool:
    """Note what goes; return whether there is anything that nobody has decided about before."""
    now = time.time()
    with ledger.transaction() as change:
        if is_whole:
            if not quarantined.is_aside(change, arrival):
                return False
            arrivals.set_gone(change, arrival, now)
        aside = wanted & quarantined.undecided(change, arrival)
        for identity in aside:
            arrivals.set_instance(change, identity, {"discarded_at": now})
    return is_whole or bool(aside)


def _delete(arrival: str, wanted: set[int], spool: Spool, ledger: Ledger, *, is_whole: bool) -> list[Path]:
    """Delete what the ledger says is discarded; while it is, nobody can release what it belongs to."""
    with ledger.transaction(flushed=False) as change:
        deleted = []
        for identity, file in quarantined.discarded(change, arrival).items():
            if identity in wanted:
                deleted.append(spool.remove(arrival, file))
        if is_whole and arrivals.is_gone(change, arrival):
            spool.remove_all(arrival)
    return [path for path in deleted if path]


def _split(name: str) -> tuple[str, str | None]:
    arrival, _, file = name.partition("/")
    return arrival, file or None
