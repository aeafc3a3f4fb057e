"""Show set-aside arrivals and files, and carry out a person's decision to release or discard them."""

import contextlib
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from pipeline.errors import Permanent, Usage
from pipeline.events import Event, emit, moment
from pipeline.ledger import Ledger, arrivals, instance_rows, quarantined, reports
from pipeline.ledger.rows import InstanceRow
from pipeline.line.identify import IdentifiedFile, IdentifyTask, found_in
from pipeline.line.settle import renew_account
from pipeline.model import ArrivalState, InstanceCode, InstanceState
from pipeline.processes.process_pool import ProcessPool
from pipeline.spool.durable import rename_durably
from pipeline.spool.spool import Spool


def listed(ledger: Ledger) -> dict[str, Any]:
    """Return the JSON of `quarantine list --json` (docs/design.md, Commands)."""
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
    """Return what is known of `ARRIVAL` or `ARRIVAL/FILE`, with paths; raises Usage if the name is unknown."""
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
    """Let `ARRIVAL` or `ARRIVAL/FILE` be tried again from the start.

    Raises:
        Usage: there is nothing of that name.
        Permanent: the file has the same fault as before; or it is a conflict, or another patient's; or another
            person has released or discarded it meanwhile.
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
        if any(one.study_instance_uid for one in instances):  # A later stage has set it aside.
            _release_instances(arrival, {}, spool, ledger)
        else:
            _release_arrival(arrival, spool, ledger)
        return
    aside = [one for one in instances if one.state == InstanceState.QUARANTINED and one.discarded_at is None]
    others = [one for one in aside if one.code == InstanceCode.OTHER_PATIENT]
    aside = [one for one in aside if one.code != InstanceCode.OTHER_PATIENT]
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
    """Read a quarantined file again; raises Permanent if it still cannot go on."""
    path = spool.find(row.arrival, row.file)
    if path is None:
        raise Permanent(f"{row.arrival}/{row.file}: the file is missing")
    with closing(ProcessPool(1)) as pool:
        (found,) = found_in([IdentifyTask(path, spool.run)], pool)
    if found.problem or found.key is None:
        raise Permanent(f"{row.arrival}/{row.file}: {found.problem}")
    return found


def _release_instances(arrival: str, released: dict[int, IdentifiedFile], spool: Spool, ledger: Ledger) -> None:
    """Reopen the arrival, and return these instances to the line: the folder moves before the rows change."""
    for room in (spool.settled, spool.quarantine):
        with contextlib.suppress(FileNotFoundError):  # Another person may have moved it just now.
            rename_durably(room / arrival, spool.arrivals / arrival)
    try:
        with ledger.transaction() as change:
            mine = released.keys() & quarantined.undecided(change, arrival)
            is_first = bool(mine) if released else quarantined.is_aside(change, arrival)
            for identity in mine:
                instance_rows.change_row(change, identity, as_received(released[identity]))
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
    """Let an arrival be settled again; raises Permanent if it has been discarded meanwhile."""
    row = reports.arrival_row(change, arrival)
    if row is None or row.gone_at is not None:
        raise _decided_meanwhile(arrival)
    arrivals.set_state(change, arrival, ArrivalState.PROCESSING)


def _decided_meanwhile(name: str) -> Permanent:
    return Permanent(f"{name} has been released or discarded meanwhile, by somebody else; nothing was done")


def as_received(found: IdentifiedFile) -> dict[str, Any]:
    """Return the columns of a released instance, as if it had just come in."""
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
        "body_part": found.body_part,
        "size": found.size,
        "received_sha256": found.received_sha256,
        "data_set_sha256": found.data_set_sha256,
        "transfer_syntax_received": found.transfer_syntax_uid,
    }


def discard(name: str, spool: Spool, ledger: Ledger) -> list[Path]:
    """Delete the set-aside files of `ARRIVAL` or `ARRIVAL/FILE`, and return the deleted paths.

    Only quarantined or conflicting files are deleted, never files that are being delivered or have arrived.

    Raises:
        Usage: there is nothing of that name.
        Permanent: another person has released or discarded it meanwhile.
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
    """Record the deletion; return whether any file was still undecided."""
    now = time.time()
    with ledger.transaction() as change:
        if is_whole:
            if not quarantined.is_aside(change, arrival):
                return False
            arrivals.set_gone(change, arrival, now)
        aside = wanted & quarantined.undecided(change, arrival)
        for identity in aside:
            instance_rows.change_row(change, identity, {"discarded_at": now})
    return is_whole or bool(aside)


def _delete(arrival: str, wanted: set[int], spool: Spool, ledger: Ledger, *, is_whole: bool) -> list[Path]:
    """Delete the files that the ledger records as discarded; the transaction keeps others from releasing them."""
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
