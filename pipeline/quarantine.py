"""What is set aside, and the two things a person can do about it: release it, or discard it."""

import shutil
import time
from pathlib import Path
from typing import Any

from sqlalchemy.exc import IntegrityError

from pipeline.custody import renew_account
from pipeline.errors import Permanent, Usage
from pipeline.events import Event, emit
from pipeline.intake import Found, read
from pipeline.ledger import Ledger, arrivals, reports
from pipeline.model import ArrivalState, InstanceState
from pipeline.spool import Spool, rename_durably
from pipeline.trace import moment
from pipeline.waypoints import reached


def listed(ledger: Ledger) -> dict[str, Any]:
    """Return the shape of `quarantine list --json` (design 9)."""
    with ledger.reading() as look:
        instances = [
            {
                "arrival": row.arrival,
                "file": row.file,
                "sop_instance_uid": row.sop_instance_uid,
                "study_instance_uid": row.study_instance_uid,
                "state": row.state,
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
        Permanent: it is still what it was, or it is a conflict, which no second look resolves.
    """
    arrival, file = _split(name)
    with ledger.reading() as look:
        row = reports.arrival_row(look, arrival)
        instances = reports.instances_of(look, arrival, file)
    if row is None or (file and not instances):
        raise Usage(f"nothing of the name {name} is known; `storestow quarantine list` names what there is")
    if file is None and row.state == ArrivalState.QUARANTINED:
        if any(one.study_instance_uid for one in instances):  # somebody has set it aside on its way
            _release_instances(arrival, {}, spool, ledger)
        else:
            _release_arrival(arrival, spool, ledger)
        return
    aside = [one for one in instances if one.state == InstanceState.QUARANTINED and one.discarded_at is None]
    if not aside:
        raise Permanent(f"{name} holds nothing quarantined; a conflict stays with the first received instance")
    _release_instances(arrival, {one.id: _read_again(one, spool) for one in aside}, spool, ledger)


def _release_arrival(arrival: str, spool: Spool, ledger: Ledger) -> None:
    folder = spool.quarantine / arrival
    if not folder.is_dir():
        raise Permanent(f"{arrival}: its files are missing, there is nothing to release")
    with ledger.transaction() as change:
        arrivals.forget_instances(change, arrival)
        arrivals.set_state(change, arrival, ArrivalState.ADMITTED, "released")
    reached("release-forgotten")
    rename_durably(folder, spool.arrivals / arrival)
    reached("release-renamed")
    emit(Event.RELEASED, arrival=arrival)


def _read_again(row: Any, spool: Spool) -> Found:
    """Return what a quarantined file is now; raises Permanent if it still is none that can go on."""
    path = spool.find(row.arrival, row.file)
    if path is None:
        raise Permanent(f"{row.arrival}/{row.file}: the file is missing")
    found = read(path, spool.run)
    if found.problem or found.key is None:
        raise Permanent(f"{row.arrival}/{row.file}: {found.problem}")
    return found


def _release_instances(arrival: str, released: dict[int, Found], spool: Spool, ledger: Ledger) -> None:
    """Bring the arrival back among the open ones, and these instances before the line: the room says so first."""
    for room in (spool.settled, spool.quarantine):
        if (room / arrival).is_dir():
            rename_durably(room / arrival, spool.arrivals / arrival)
    reached("release-reopened")
    try:
        with ledger.transaction() as change:
            for identity, found in released.items():
                arrivals.set_instance(change, identity, _as_received(found))
            arrivals.set_state(change, arrival, ArrivalState.PROCESSING)
    except IntegrityError as error:
        with ledger.transaction() as change:
            arrivals.set_state(change, arrival, ArrivalState.PROCESSING)
        raise Permanent(
            f"{arrival}: another instance holds the same UIDs by now; it was received first"
        ) from error
    reached("released")
    for found in released.values():
        emit(Event.RELEASED, arrival=arrival, file=found.file, instance=found.key and found.key.sop_instance_uid)


def _as_received(found: Found) -> dict[str, Any]:
    assert found.key is not None
    return {
        "state": InstanceState.RECEIVED,
        "reason": "released",
        "consigned": False,
        "study_instance_uid": found.key.study_instance_uid,
        "series_instance_uid": found.key.series_instance_uid,
        "sop_instance_uid": found.key.sop_instance_uid,
        "sop_class_uid": found.sop_class_uid,
        "modality": found.modality,
        "accession_number": found.accession_number,
        "size": found.size,
        "received_sha256": found.received_sha256,
        "data_set_sha256": found.data_set_sha256,
        "transfer_syntax_received": found.transfer_syntax_uid,
    }


def discard(name: str, spool: Spool, ledger: Ledger) -> list[Path]:
    """Delete what is set aside under `ARRIVAL` or `ARRIVAL/FILE`, and return what was deleted.

    Only files that are quarantined or conflicting: what is on its way, or has arrived, is not touched.
    Raises Usage if there is nothing of that name.
    """
    arrival, file = _split(name)
    with ledger.reading() as look:
        row = reports.arrival_row(look, arrival)
        instances = [one for one in reports.instances_of(look, arrival, file) if one.state in reports.SET_ASIDE]
    if row is None or not (instances or row.state == ArrivalState.QUARANTINED):
        raise Usage(f"nothing set aside has the name {name}; `storestow quarantine list` names what there is")
    now = time.time()
    deleted = [path for one in instances if (path := spool.find(arrival, one.file))]
    with ledger.transaction() as change:
        for one in instances:
            arrivals.set_instance(change, one.id, {"discarded_at": now})
        if file is None and row.state == ArrivalState.QUARANTINED:
            arrivals.set_gone(change, arrival, now)
    reached("discard-noted")
    for path in deleted:
        path.unlink(missing_ok=True)
        reached("discarding")
    if file is None and row.state == ArrivalState.QUARANTINED:
        shutil.rmtree(spool.quarantine / arrival, ignore_errors=True)
    if row.state == ArrivalState.SETTLED:
        renew_account(arrival, spool, ledger)
    emit(Event.DISCARDED, arrival=arrival, file=file, files=len(deleted))
    return deleted


def _split(name: str) -> tuple[str, str | None]:
    arrival, _, file = name.partition("/")
    return arrival, file or None
