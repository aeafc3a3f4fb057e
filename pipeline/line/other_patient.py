"""Carry out a person's decision on another patient's instances under a study's UID: accept or delete them."""

import contextlib
from collections import defaultdict
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from pipeline.errors import Permanent, Usage
from pipeline.events import Event, emit
from pipeline.ledger import Ledger, instance_rows, quarantined, study_patients
from pipeline.ledger.rows import InstanceRow
from pipeline.line import quarantine
from pipeline.line.identify import IdentifiedFile
from pipeline.line.study_patient import marks_of, row_of
from pipeline.model import InstanceState
from pipeline.spool.durable import rename_durably
from pipeline.spool.spool import Spool

REASON_LENGTH = range(3, 201)  # Characters.


def release_study(study: str, reason: str, placeholders: tuple[str, ...], spool: Spool, ledger: Ledger) -> int:
    """Let the other patients' instances of a study go on as instances of that study, and return their number.

    Later instances with one of these Patient IDs belong to the study, too; instances with a further ID are set
    aside again. The reason is kept in the ledger.

    Raises:
        Usage: no instance of the study is set aside as another patient's, or the reason is too short or too long.
        Permanent: a file cannot be read any more; the others have been released.
    """
    if len(reason.strip()) not in REASON_LENGTH:
        raise Usage(f"--reason takes {REASON_LENGTH.start} to {REASON_LENGTH.stop - 1} characters, for the ledger")
    aside = _set_aside(study, ledger)
    released, failures = 0, []
    for arrival, rows in aside.items():
        ready: dict[int, IdentifiedFile] = {}
        for row in rows:
            try:
                ready[row.id] = quarantine.read_again(row, spool)
            except Permanent as error:
                failures.append(error)
        _accept(study, reason.strip(), rows, ready, placeholders, spool, ledger)
        released += _release(arrival, ready, spool, ledger)
    if failures:
        raise failures[0]
    return released


def discard_study(study: str, spool: Spool, ledger: Ledger) -> list[Path]:
    """Delete the other patients' instances of a study and return their paths; raises Usage if there are none."""
    aside = _set_aside(study, ledger)
    names = [f"{arrival}/{row.file}" for arrival, rows in aside.items() for row in rows]
    return [path for name in names for path in quarantine.discard(name, spool, ledger)]


def _set_aside(study: str, ledger: Ledger) -> dict[str, list[InstanceRow]]:
    """Return the set-aside instances of a study, by arrival."""
    with ledger.reading() as look:
        rows = study_patients.set_aside(look, study)
    if not rows:
        raise Usage(f"nothing of the study {study} is set aside as another patient's")
    by_arrival: dict[str, list[InstanceRow]] = defaultdict(list)
    for row in rows:
        by_arrival[row.arrival].append(row)
    return by_arrival


def _accept(  # noqa: PLR0913, PLR0917  # one decision, and where it is written down
    study: str,
    reason: str,
    rows: list[InstanceRow],
    ready: dict[int, IdentifiedFile],
    placeholders: tuple[str, ...],
    spool: Spool,
    ledger: Ledger,
) -> None:
    """Record the additional patients of the study, before any of their instances return to the line."""
    by_id = {row.id: row for row in rows}
    with ledger.transaction() as change:
        for identity, found in ready.items():
            if marks := marks_of(study, found.patient, placeholders, spool):
                row = by_id[identity]
                accepted = row_of(row.scope, study, marks, row.arrival, reason)
                study_patients.enter_missing(change, [accepted])


def _release(arrival: str, ready: dict[int, IdentifiedFile], spool: Spool, ledger: Ledger) -> int:
    """Reopen an arrival, and return each instance to the line unless its key is taken."""
    for room in (spool.settled, spool.quarantine):
        with contextlib.suppress(FileNotFoundError):
            rename_durably(room / arrival, spool.arrivals / arrival)
    with ledger.transaction() as change:
        mine = ready.keys() & quarantined.undecided(change, arrival)
        for identity in sorted(mine):
            instance_rows.change_row(change, identity, _as_judged(change, identity, ready[identity]))
        quarantine.reopen(change, arrival)
    for identity in sorted(mine):
        found = ready[identity]
        emit(Event.RELEASED, arrival=arrival, file=found.file, instance=found.key and found.key.sop_instance_uid)
    return len(mine)


def _as_judged(change: Connection, identity: int, found: IdentifiedFile) -> dict[str, Any]:
    assert found.key is not None
    scope = instance_rows.row(change, identity).scope
    holder = instance_rows.first_received(change, scope, [found.key]).get(found.key)
    if holder is None:
        return quarantine.as_received(found)
    if holder.data_set_sha256 == found.data_set_sha256:
        return {"state": InstanceState.DUPLICATE, "reason": "the same data set was received before", "code": None}
    return {
        "state": InstanceState.CONFLICT,
        "reason": "something else was received before under the same UIDs",
        "code": None,
    }
