"""The line a gathered study takes, read aloud: coerce, encode, prove, consign; then the ways part.

Before it, `admission` has made instances of the files that arrived; after it each destination goes its own
way (`despatch`), and `custody` settles what has come to an end.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from pipeline.destinations import Destination
from pipeline.dicom.part10 import shown
from pipeline.errors import Configuration, Transient
from pipeline.events import Event, alarm, emit
from pipeline.ledger import arrivals, deliveries
from pipeline.ledger.arrivals import WaitingStudy
from pipeline.ledger.rows import SoundInstanceRow
from pipeline.line.prepare import Prepared, PreparedFile, PrepareTask, prepare
from pipeline.model import InstanceState, Origin, SetAsideCode
from pipeline.processes.limits import ProcessLimits, to_encode
from pipeline.processes.process_pool import OverLimit
from pipeline.site.site import Site
from pipeline.waypoints import reached


def process(study: WaitingStudy, site: Site) -> None:
    """Coerce and encode every gathered instance of a study, each alone, then part the ways."""
    if site.receiver(study.receiver) is None:
        raise Configuration(
            f"what came in by the receiver {study.receiver} waits, because the configuration no longer names it; "
            "name it again, with its `to`, until it has been delivered"
        )
    with site.ledger.reading() as look:
        rows = arrivals.instances_waiting(look, study.receiver, study.study_instance_uid)
    reached("gathered")
    if not site.destinations_of(study.receiver):
        _leave_unclaimed(rows, site)
        return
    prepared = dict(_prepared(rows, study, site))
    put_off = [answer for answer in prepared.values() if isinstance(answer, Transient)]
    reached("prepared")
    with site.ledger.transaction() as change:
        for identity, answer in prepared.items():
            if not isinstance(answer, Transient):
                arrivals.set_instance(change, identity, outcome_of(answer))
        for destination in site.destinations_of(study.receiver):
            _consign(change, study, prepared, destination, site)
        reached("consigning")
    reached("consigned")
    if put_off:
        raise put_off[0]


def _leave_unclaimed(rows: list[SoundInstanceRow], site: Site) -> None:
    """Keep what nobody ordered, for its time; an order may still come for it."""
    with site.ledger.transaction() as change:
        for row in rows:
            values = {"state": InstanceState.PASSED, "reason": "unclaimed", "consigned": True}
            arrivals.set_instance(change, row.id, values)


def _prepared(
    rows: list[SoundInstanceRow], study: WaitingStudy, site: Site
) -> Iterator[tuple[int, Prepared | Exception]]:
    """Yield what became of each instance, and say it."""
    encodings = {destination.encode for destination in site.destinations_of(study.receiver)}
    tasks = [task_of(row, study.receiver, encodings, site) for row in rows]
    ready: list[Prepared] = []
    for task, outcome in site.pool.each(prepare, tasks, limits_of):
        if isinstance(outcome, Transient):
            alarm(Event.HELD, study=study.study_instance_uid, instance=task.key.sop_instance_uid, reason=outcome)
        elif isinstance(outcome, Exception):
            alarm(
                Event.QUARANTINED,
                study=study.study_instance_uid,
                instance=task.key.sop_instance_uid,
                reason=outcome,
            )
        else:
            ready.append(outcome)
        yield task.instance, outcome
        reached("instance-prepared")
    _report(study, ready)


def _report(study: WaitingStudy, ready: list[Prepared]) -> None:
    """Say what was done to a study: made right, coerced, encoded and how much smaller, or not encoded and why."""
    uid = study.study_instance_uid
    mends = Counter(words for one in ready for words in {f"{shown(m.tag)}: {m.words}" for m in one.mends})
    for reason, instances in sorted(mends.items()):
        emit(Event.MENDED, study=uid, instances=instances, reason=reason)
    if changed := sum(bool(one.changes) for one in ready):
        emit(Event.COERCED, study=uid, instances=changed, of=len(ready))
    encoded = [(one.pixel_length, one.encoded_length) for one in ready if one.pixel_length and one.encoded_length]
    if encoded:
        before, after = (sum(lengths) for lengths in zip(*encoded, strict=True))
        emit(Event.ENCODED, study=uid, instances=len(encoded), ratio=f"{before / after:.2f}")
    reasons = Counter(output.reason for one in ready for output in one.outputs if output.reason)
    for reason, instances in sorted(reasons.items()):
        emit(Event.NOT_ENCODED, study=uid, instances=instances, reason=reason)


def task_of(row: SoundInstanceRow, receiver: str, encodings: Iterable[str], site: Site) -> PrepareTask:
    """Return what the pool has to do for one instance, treated as `receiver` has its instances treated."""
    source = site.spool.find(row.arrival, row.file) or site.spool.arrivals / row.arrival / row.file
    folder = site.spool.outputs / row.arrival
    folder.mkdir(mode=0o750, exist_ok=True)
    return PrepareTask(
        instance=row.id,
        source=source,
        received_sha256=row.received_sha256,
        key=row.key,
        origin=Origin(
            receiver=receiver,
            calling_ae_title=row.calling_ae_title,
            called_ae_title=row.called_ae_title,
            peer=row.peer,
            admitted_at=datetime.fromtimestamp(row.admitted_at, UTC),
        ),
        rules=site.rules_of(receiver),
        encodings=tuple(sorted(encodings)),
        target=folder / str(row.id),
        scratch=site.spool.run,
        ahead=site.spool.ahead,
    )


def limits_of(task: PrepareTask) -> ProcessLimits:
    """Return what preparing an instance may cost."""
    return to_encode(task.source)


def outcome_of(prepared: Prepared | Exception) -> dict[str, Any]:
    """Return what the ledger keeps of a prepared instance."""
    if isinstance(prepared, Exception):
        code = SetAsideCode.OVER_LIMIT if isinstance(prepared, OverLimit) else None
        return {"state": InstanceState.QUARANTINED, "reason": str(prepared), "code": code, "consigned": True}
    encoded = [output for output in prepared.outputs if output.reason is None and output.encoding != "none"]
    reasons = [output.reason for output in prepared.outputs if output.reason]
    sent = next(iter(encoded or prepared.outputs), None)
    return {
        "state": InstanceState.ENCODED if encoded else InstanceState.PASSED,
        "reason": "; ".join(reasons) or None,
        "consigned": True,
        "transfer_syntax_sent": sent.transfer_syntax_uid if sent else None,
        "changes": prepared.account,
        "pixel_length": prepared.pixel_length,
        "pixel_md5": prepared.pixel_md5,
        "pixel_sha256": prepared.pixel_sha256,
        "encoded_length": prepared.encoded_length,
    }


def _consign(
    change: Connection,
    study: WaitingStudy,
    prepared: dict[int, Prepared | Exception],
    destination: Destination,
    site: Site,
) -> None:
    """Open one delivery of everything that is ready, pinned file by file."""
    pins = [
        {"instance": identity, **pin_of(output, site)}
        for identity, ready in prepared.items()
        if isinstance(ready, Prepared)
        for output in ready.outputs
        if output.encoding == destination.encode
    ]
    if not pins:
        return
    now = time.time()
    is_held = not destination.asks_first and study.first_admitted_at < (site.rebuilt_at or 0)
    reason = "the ledger was lost: this may have been delivered before; `retry` sends it" if is_held else None
    values = {
        "destination": destination.name,
        "receiver": study.receiver,
        "study_instance_uid": study.study_instance_uid,
        "created_at": now,
        "due_at": now,
        "held": is_held,
        "reason": reason,
    }
    deliveries.consign(change, values, pins)


def pin_of(output: PreparedFile, site: Site) -> dict[str, Any]:
    """Return what the receipt says of the very file that will be sent."""
    return {
        "path": str(output.path.relative_to(site.spool.root)),
        "sha256": output.sha256,
        "size": output.size,
        "transfer_syntax_uid": output.transfer_syntax_uid,
        "encoding": output.encoding,
    }
