"""Identify an arrival: make of every file an instance with a state, each judged by itself."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from pipeline.dicom.same_content import Incomparable, are_same
from pipeline.errors import Transient
from pipeline.events import Event, alarm, emit
from pipeline.ledger import arrivals, given_files, instance_rows, orders, redeliveries, retrievals, study_patients
from pipeline.ledger.claims import Fenced
from pipeline.ledger.scope import Scope, ScopeKind
from pipeline.line.admit import parse_arrival_name
from pipeline.line.assign_to_order import OrderAssignment, claims
from pipeline.line.identify import ArrivalContents, IdentifiedFile, ReadAhead, contents_of
from pipeline.line.judge_files import FileOutcome, KnownInstance, judge, with_objections
from pipeline.line.senders import sender_of
from pipeline.line.study_patient import OTHER_PATIENT, StudyPatients
from pipeline.model import InstanceCode, InstanceKey, InstanceState, OrderState
from pipeline.processes.limits import to_encode
from pipeline.processes.process_pool import PoolProcessDied
from pipeline.site.site import SEND, Site
from pipeline.spool.envelope import Envelope


def identify_arrival(name: str, site: Site, ahead: ReadAhead | None = None) -> None:
    """Make of every file of an arrival an instance with a state, and enter all in the ledger at once.

    `ahead` has files that were read before. Raises Transient if a file cannot be read or judged now.
    """
    _, receiver = parse_arrival_name(name)
    folder, table = site.spool.arrivals / name, site.receiver(receiver)
    read = contents_of(folder, site.spool.run, site.pool_of(receiver), ahead)
    contents = with_objections(read, folder, require_patient=table is not None and table.require_patient)
    claim = claims(name, receiver, contents, site)
    try:
        entry, others_before = _judge_and_enter(name, contents, claim, site)
    except Fenced:
        alarm(Event.FENCED, what="take in", arrival=name)
        return
    rows, patients = list(entry.rows), entry.patients
    for row in rows:
        if row["code"] != InstanceCode.OTHER_PATIENT:
            _report(row)
    _report_other_patients(name, rows, others_before)
    for study, attributes in sorted(patients.noted.items()):
        emit(Event.IDENTITY_NOTED, study=study, arrival=name, attributes=",".join(sorted(attributes)))
    if table is None or table.coerce:  # Elsewhere the mapping decides nothing.
        _report_unknown_senders(rows, contents, site)
    _report_strangers(rows, contents)
    _remember(contents, receiver, site)


def _judge_and_enter(
    name: str,
    contents: ArrivalContents,
    claim: Callable[[IdentifiedFile], OrderAssignment],
    site: Site,
    *,
    is_again: bool = False,
) -> tuple["_ArrivalEntry", set[str]]:
    """Judge every file, and enter all as `_enter` does; judge again if a key or a patient became known.

    Another node has then taken in an arrival of the study, or a person has released an instance of the same key.
    """
    patients = StudyPatients(name, _studies_of_the_line(contents, claim), site)
    rows = tuple(_instances(name, contents, claim, patients, site))
    belongings = {found.file: claim(found).retrievals for found in contents.found}
    entry = _ArrivalEntry(name, contents, rows, belongings, patients)
    try:
        return entry, _enter(entry, site)
    except IntegrityError as error:
        if is_again:
            raise Transient(f"{name}: one of its instances came to be known meanwhile; judged again") from error
    return _judge_and_enter(name, contents, claim, site, is_again=True)


def _remember(contents: ArrivalContents, receiver: str, site: Site) -> None:
    """Keep the hashes and patients of sound files, so that files that are sent unchanged are not read again."""
    for found in contents.found:
        if found.state is None or found.problem is not None:
            continue
        site.hashed.keep(found.state, found.received_sha256, found.read_at)
        if site.is_for_orders(receiver) and found.says_what_it_is and found.patient is not None:
            site.as_received.keep(found.state, found.patient)


def _studies_of_the_line(
    contents: ArrivalContents, claim: Callable[[IdentifiedFile], OrderAssignment]
) -> dict[Scope, set[str]]:
    """Return by scope the studies in which the first patient decides: not those for orders or `send`."""
    studies: dict[Scope, set[str]] = {}
    for found in contents.found:
        if found.key and claim(found).is_gathered:
            studies.setdefault(claim(found).scope, set()).add(found.key.study_instance_uid)
    return studies


def _instances(
    name: str,
    contents: ArrivalContents,
    claim: Callable[[IdentifiedFile], OrderAssignment],
    patients: StudyPatients,
    site: Site,
) -> Iterator[dict[str, Any]]:
    """Yield a row for each file, judged by the known instances of its scope and earlier files of this arrival."""
    folder = site.spool.arrivals / name
    _, receiver = parse_arrival_name(name)
    holders = {scope: _holders(scope, contents, site) for scope in {claim(one).scope for one in contents.found}}
    sender = _sender(receiver, contents, site)
    for found in contents.found:
        wish = claim(found)
        known = holders[wish.scope]
        verdict = judge(found, folder, known, lambda one, other: _are_same(one, other, site))
        is_new = verdict.state == InstanceState.RECEIVED
        if is_new and wish.is_gathered and patients.is_another(wish.scope, found):
            verdict = FileOutcome(InstanceState.QUARANTINED, OTHER_PATIENT, InstanceCode.OTHER_PATIENT)
        row = {"arrival": name, "scope": wish.scope, **_row(found, verdict), **sender(found)}
        if verdict.state == InstanceState.RECEIVED and found.key and found.data_set_sha256:
            known[found.key] = _holder(found.data_set_sha256, name, found.file, site)
            row |= wish.values
        yield row


def _holders(scope: Scope, contents: ArrivalContents, site: Site) -> dict[InstanceKey, KnownInstance]:
    keys = [found.key for found in contents.found if found.key and not found.problem]
    with site.ledger.reading() as look:
        known = instance_rows.first_received(look, scope, keys)
    return {key: _holder(row.data_set_sha256, row.arrival, row.file, site) for key, row in known.items()}


def _holder(data_set_sha256: str, arrival: str, file: str, site: Site) -> KnownInstance:
    return KnownInstance(data_set_sha256, lambda: site.spool.find(arrival, file))


def _are_same(one: Path, other: Path, site: Site) -> bool:
    """Compare two files in the pool; raises Incomparable if that kills its process, Transient to try it later."""
    ((_, answer),) = site.pool.each(are_same, [(one, other)], lambda pair: to_encode(*pair))
    if isinstance(answer, PoolProcessDied):  # This was the second attempt; more would delay all other work.
        raise Incomparable(str(answer)) from answer
    if isinstance(answer, Exception):
        raise answer
    return answer


def _sender(receiver: str, contents: ArrivalContents, site: Site) -> Callable[[IdentifiedFile], dict[str, Any]]:
    """Return a function for the columns about a file's sender, from the envelope, else from the file itself."""
    envelope, table = contents.envelope, site.receiver(receiver)

    def of(found: IdentifiedFile) -> dict[str, Any]:
        sender = sender_of(found, envelope)
        return {
            "calling_ae_title": sender.ae_title,
            "called_ae_title": envelope.called_ae_title if envelope else (table.ae_title if table else ""),
            "institution": site.institutions.of(sender.ae_title, sender.address, receiver),
        }

    return of


def _row(found: IdentifiedFile, verdict: FileOutcome) -> dict[str, Any]:
    key = found.key
    return {
        "file": found.file,
        "state": verdict.state,
        "reason": verdict.reason,
        "code": verdict.code,
        "study_instance_uid": key.study_instance_uid if key else None,
        "series_instance_uid": key.series_instance_uid if key else None,
        "sop_instance_uid": key.sop_instance_uid if key else None,
        "sop_class_uid": found.sop_class_uid,
        "modality": found.modality,
        "accession_number": found.accession_number,
        "frames": found.frames,
        "body_part": found.body_part,
        "size": found.size,
        "received_sha256": found.received_sha256,
        "data_set_sha256": found.data_set_sha256,
        "transfer_syntax_received": found.transfer_syntax_uid,
        "consigned": verdict.state != InstanceState.RECEIVED,
    }


@dataclass(frozen=True, slots=True)
class _ArrivalEntry:
    """The rows of an arrival, which are entered in one transaction."""

    name: str
    contents: ArrivalContents
    rows: tuple[dict[str, Any], ...]
    belongings: Mapping[str, tuple[int, ...]]
    patients: StudyPatients


def _enter(entry: _ArrivalEntry, site: Site) -> set[str]:
    """Enter the rows; return the studies that had set-aside instances of another patient before.

    Raises Transient if an order for which the arrival was received has ended meanwhile, and Fenced if another
    worker has entered them.
    """
    name, contents, rows = entry.name, entry.contents, entry.rows
    envelope = contents.envelope
    newest = max((found.received_at for found in contents.found), default=0.0)
    about: dict[str, Any] = {"hidden_files": contents.hidden_files, "empty_files": contents.empty_files}
    if newest:
        about["newest_file_at"] = newest
    if envelope:
        about["calling_ae_title"] = envelope.calling_ae_title
        about["called_ae_title"] = envelope.called_ae_title
        about["peer"] = envelope.peer
    with site.ledger.transaction() as change:
        others = {row["study_instance_uid"] for row in rows if row["code"] == InstanceCode.OTHER_PATIENT}
        before = {study for study in others if study_patients.set_aside(change, study)}
        if not arrivals.take_in(change, name, rows, **about):
            raise Fenced
        study_patients.enter(change, entry.patients.new)
        if not retrievals.take_in(change, name, entry.belongings, time.time()):
            raise Transient(f"{name}: the order it was received for has ended meanwhile; judged again")
        _leave_what_came_too_late(change, name, envelope)
        # Its duplicates are asked for where a destination can say that it no longer has them.
        possible = site.destinations_of(parse_arrival_name(name)[1])
        names = [destination.name for destination in possible if destination.lists_what_it_has]
        redeliveries.open_requests(change, name, names, time.time())
    return before


def _leave_what_came_too_late(change: Connection, name: str, envelope: Envelope | None) -> None:
    """Close the files of a `send` that has already ended, because no later stage would look at them."""
    order = envelope.order if envelope and parse_arrival_name(name)[1] == SEND else None
    if order is None:
        return
    row = orders.row(change, order)
    if row is None or row.state != OrderState.OPEN:
        given_files.leave(change, order, time.time())


_NOTEWORTHY = {
    InstanceState.QUARANTINED: Event.QUARANTINED,
    InstanceState.CONFLICT: Event.CONFLICT,
    InstanceState.DUPLICATE: Event.DUPLICATE,
}


def _report_other_patients(name: str, rows: list[dict[str, Any]], before: set[str]) -> None:
    """Log the instances of other patients by study, as an alarm only when they are the first of their study."""
    others = Counter(row["study_instance_uid"] for row in rows if row["code"] == InstanceCode.OTHER_PATIENT)
    for study, instances in sorted(others.items()):
        say = emit if study in before else alarm
        about = {"study": study, "code": InstanceCode.OTHER_PATIENT, "instances": instances, "arrival": name}
        say(Event.QUARANTINED, **about, reason=OTHER_PATIENT)


def _report(row: dict[str, Any]) -> None:
    event = _NOTEWORTHY.get(row["state"])
    if event:
        say = emit if event == Event.DUPLICATE else alarm
        say(
            event,
            study=row["study_instance_uid"],
            instance=row["sop_instance_uid"],
            arrival=row["arrival"],
            file=row["file"],
            reason=row["reason"],
        )


def _report_strangers(rows: list[dict[str, Any]], contents: ArrivalContents) -> None:
    """Log senders that have sent instances to the receiver of orders, although [pacs] does not name them."""
    peer = contents.envelope.peer if contents.envelope else None
    of_strangers = [row for row in rows if row["scope"].kind == ScopeKind.STRANGER]
    counted = Counter((row["study_instance_uid"], row["calling_ae_title"]) for row in of_strangers)
    for (study, calling), instances in counted.items():
        known = {"calling_ae_title": calling, "peer": peer, "instances": instances}
        emit(Event.UNCLAIMED, logging.WARNING, study=study, **known)


def _report_unknown_senders(rows: list[dict[str, Any]], contents: ArrivalContents, site: Site) -> None:
    """Log once for each arrival the senders that the institution mapping does not have."""
    peer = contents.envelope.peer if contents.envelope else None
    for calling in sorted({row["calling_ae_title"] for row in rows if row["institution"] is None}):
        if site.institutions.names:
            emit(Event.UNKNOWN_INSTITUTION, calling_ae_title=calling, peer=peer)
