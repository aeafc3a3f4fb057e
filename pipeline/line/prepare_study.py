"""Prepare a study: coerce and encode every gathered instance, each alone, in the processes of the pool.

Ready instances are handed on while the rest is still being prepared, so that they can be sent meanwhile.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from pipeline.config.receiver_tables import ReceiverTable
from pipeline.dicom.part10 import shown
from pipeline.errors import Configuration, Transient
from pipeline.events import Event, alarm, emit
from pipeline.ledger import claims, waiting_studies
from pipeline.ledger.rows import SoundInstanceRow
from pipeline.ledger.waiting_studies import WaitingStudy
from pipeline.line.prepare import Prepared, PrepareTask, prepare
from pipeline.line.route import StudyRoutes, route
from pipeline.model import InstanceCode, InstanceState, Origin
from pipeline.processes.limits import ProcessLimits, to_encode
from pipeline.processes.process_pool import OverLimit
from pipeline.site.site import Site
from pipeline.spool.hashed_files import FilesByState, FileState

# Seconds after which ready instances are handed on; a small study is handed on in one part.
FIRST_SECONDS, NEXT_SECONDS = 0.3, 0.5
PREPARED_AT_ONCE = 16  # Tasks that are sent to a process together, unless pixels are still to be encoded.
MOST_AHEAD = 5000  # Results prepared ahead that are remembered; the study prepares the others again.


@dataclass(frozen=True, slots=True)
class PreparedPart:
    """Instances of a gathered study and their results, by row number; with the last part the study is complete.

    `unrouted` are instances that go to no destination and are therefore not prepared.
    """

    study: WaitingStudy
    routes: StudyRoutes
    outcomes: Mapping[int, Prepared | Exception]
    is_first: bool
    is_last: bool
    claim: str  # The token with which this worker has claimed the study.
    unrouted: Sequence[int] = ()


class PreparedAhead:
    """Results for instances whose study still waits until it is complete; used from several threads.

    Beside them it knows the files whose pixels were encoded ahead: to prepare these takes milliseconds.
    """

    def __init__(self) -> None:
        self._encoded: FilesByState[bool] = FilesByState()
        self._results: dict[int, tuple[PrepareTask, Prepared]] = {}
        self._lock = threading.Lock()

    def keep(self, task: PrepareTask, result: Prepared) -> None:
        """Remember the result of a task; of too many the first is forgotten."""
        with self._lock:
            self._results[task.instance] = task, result
            while len(self._results) > MOST_AHEAD:
                del self._results[next(iter(self._results))]

    def note_encoded(self, state: FileState) -> None:
        """Remember that the pixels of the file in this state were encoded as its destinations ask."""
        self._encoded.keep(state, True)

    def takes_long(self, task: PrepareTask) -> bool:
        """Tell whether pixels are still to be encoded for a task, as far as is known."""
        encodes = bool(set(task.encodings) - {"none"})
        return encodes and not (task.hashed_in and self._encoded.look_up(task.hashed_in))

    def take(self, task: PrepareTask) -> Prepared | None:
        """Return the result of this very task and forget it.

        None if there is none, or if rules, routes or the file's place have changed since.
        """
        with self._lock:
            done, result = self._results.pop(task.instance, (None, None))
        return result if done == task else None


def prepare_study(study: WaitingStudy, site: Site, ahead: PreparedAhead | None = None) -> Iterator[PreparedPart]:
    """Coerce and encode the waiting instances of a study, and yield them in parts as they become ready.

    What was prepared `ahead` is not prepared again. The study is claimed first; nothing is yielded if another
    worker has it.

    Raises Configuration if the study's receiver is no longer configured.
    """
    receiver = site.receiver(study.receiver)
    if receiver is None:
        raise Configuration(
            f"what came in by the receiver {study.receiver} waits, because the configuration no longer names it; "
            "name it again, with its `to`, until it has been delivered"
        )
    with site.ledger.transaction(flushed=False, alone=False) as connection:
        claim = claims.claim_study(connection, study.receiver, study.study_instance_uid, site.claimant)
    if claim is None:
        return
    try:
        yield from _parts(study, receiver, claim, site, ahead or PreparedAhead())
    except BaseException:
        give_up(claim, site)
        raise


def give_up(claim: str, site: Site) -> None:
    """Release the claim of a study; if that cannot be written now, this worker can claim it again all the same."""
    with contextlib.suppress(Transient), site.ledger.transaction(flushed=False, alone=False) as connection:
        claims.release_study(connection, claim)


def _parts(
    study: WaitingStudy, receiver: ReceiverTable, claim: str, site: Site, ahead: PreparedAhead
) -> Iterator[PreparedPart]:
    with site.ledger.reading() as connection:
        rows = waiting_studies.instances_of(connection, study.receiver, study.study_instance_uid)
    routes = route(rows, receiver, site)
    unrouted = [row.id for row in rows if not routes.of[row.id]]
    routed = [row for row in rows if routes.of[row.id]]
    outcomes: dict[int, Prepared | Exception] = {}
    is_first, hand_on_at = True, time.monotonic() + FIRST_SECONDS
    for identity, outcome in _outcomes(routed, study, routes, site, ahead):
        if outcomes and time.monotonic() >= hand_on_at:
            yield PreparedPart(study, routes, outcomes, is_first, False, claim, unrouted)
            outcomes, hand_on_at = {}, time.monotonic() + NEXT_SECONDS
            is_first, unrouted = False, []
        outcomes[identity] = outcome
    yield PreparedPart(study, routes, outcomes, is_first, True, claim, unrouted)


def _outcomes(
    rows: list[SoundInstanceRow],
    study: WaitingStudy,
    routes: StudyRoutes,
    site: Site,
    ahead: PreparedAhead,
) -> Iterator[tuple[int, Prepared | Exception]]:
    """Yield the result for each instance, and log it."""
    tasks = tasks_of(rows, study.receiver, routes, site)
    found = [(task, result) for task in tasks if (result := ahead.take(task))]
    done = {task.instance for task, _ in found}
    others = [task for task in tasks if task.instance not in done]
    ready: list[Prepared] = []
    made = site.pool.each(prepare, others, limits_of, PREPARED_AT_ONCE, ahead.takes_long)
    for task, outcome in chain(found, made):
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
    _report(study, ready)


def _report(study: WaitingStudy, ready: list[Prepared]) -> None:
    """Log what was done to a study: corrected, coerced, encoded and how much smaller, or not encoded and why."""
    uid = study.study_instance_uid
    mends = Counter(
        words
        for instance in ready
        for words in {f"{shown(mend.tag)}: {mend.correction}" for mend in instance.mends}
    )
    for reason, instances in sorted(mends.items()):
        emit(Event.MENDED, study=uid, instances=instances, reason=reason)
    if changed := sum(bool(instance.changes) for instance in ready):
        emit(Event.COERCED, study=uid, instances=changed, of=len(ready))
    encoded = [
        (instance.pixel_length, instance.encoded_length)
        for instance in ready
        if instance.pixel_length and instance.encoded_length
    ]
    if encoded:
        before, after = (sum(lengths) for lengths in zip(*encoded, strict=True))
        emit(Event.ENCODED, study=uid, instances=len(encoded), ratio=f"{before / after:.2f}")
    reasons = Counter(output.reason for instance in ready for output in instance.outputs if output.reason)
    for reason, instances in sorted(reasons.items()):
        emit(Event.NOT_ENCODED, study=uid, instances=instances, reason=reason)


def tasks_of(
    rows: Iterable[SoundInstanceRow], receiver: str, routes: StudyRoutes, site: Site
) -> list[PrepareTask]:
    """Return the pool's tasks for instances of a study, each in the encodings of the destinations it goes to."""
    return [task_of(row, receiver, {way.encode for way in routes.of[row.id]}, site) for row in rows]


def task_of(row: SoundInstanceRow, receiver: str, encodings: Iterable[str], site: Site) -> PrepareTask:
    """Return the pool's task for one instance, with the rules of `receiver`."""
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
        hashed_in=site.hashed.state_with(row.received_sha256, source),
    )


def limits_of(task: PrepareTask) -> ProcessLimits:
    """Return the limits for preparing an instance."""
    return to_encode(task.source)


def outcome_of(prepared: Prepared | Exception) -> dict[str, Any]:
    """Return the columns that the ledger keeps of a prepared instance, or of one that could not be prepared."""
    if isinstance(prepared, Exception):
        code = InstanceCode.OVER_LIMIT if isinstance(prepared, OverLimit) else None
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
