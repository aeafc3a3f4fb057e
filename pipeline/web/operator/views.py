"""The contents of the operator's pages, from the ledger; only a study's page may show a patient, if allowed."""

import contextlib
import itertools
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from markupsafe import Markup
from pydicom.datadict import dictionary_VR
from pydicom.uid import UID

from pipeline.dicom.accession import AccessionNumber
from pipeline.dicom.patient import Patient
from pipeline.errors import StorestowError
from pipeline.languages import Translation
from pipeline.ledger import Ledger, act_records, attempts, found_studies, samples, tallies
from pipeline.ledger.found_studies import ListedStudy, StudyArrival, StudyDelivery, StudyInstance
from pipeline.ledger.samples import SampleKind
from pipeline.ledger.tallies import TallyKind
from pipeline.line.identify import ACCOUNT
from pipeline.line.quarantine import listed
from pipeline.line.study_patient import marks_of
from pipeline.model import InstanceCode
from pipeline.operate.measurements import Measurements, measured, open_associations
from pipeline.operate.silence import HISTORY_SECONDS, Silence, missed_senders
from pipeline.operate.status import present_state
from pipeline.orders import list_orders
from pipeline.patients.dicom import DicomPatients
from pipeline.site.settings import Settings
from pipeline.spool.spool import Spool
from pipeline.web.operator.drawings import TimeLineEvent, bars, duration, lines, time_line

MOST_STUDIES, MOST_WAITING, MOST_ORDERS, MOST_ACTS, MOST_SET_ASIDE = 25, 50, 100, 20, 200
MOST_INSTANCES, MOST_CHANGES, MOST_ATTEMPTS = 200, 200, 100
MOST_READ = 5000  # Instances of one study whose changes are added up.
SPANS = {"day": 86400.0, "week": 7 * 86400.0}


@dataclass(frozen=True, slots=True)
class ReceiverLine:
    """A receiver and its senders."""

    name: str
    ae_title: str
    port: int
    mode: str
    is_up: bool
    associations: int
    senders: Sequence[tuple[str, float, bool]]  # AE title, when it last sent, whether it is missed.


def overview(settings: Settings, ledger: Ledger, span: str, words: Translation) -> dict[str, Any]:
    """Return the contents of the first page."""
    now = time.time()
    numbers = measured(settings, ledger, now)
    with ledger.reading() as connection:
        history = tallies.since(connection, now - HISTORY_SECONDS, TallyKind.RECEIVED)
        studies = found_studies.newest(connection, MOST_STUDIES)
        done = act_records.newest(connection, MOST_ACTS)
    missed = missed_senders(settings, history, now)
    stands = present_state(settings, ledger)
    return {
        "now": now,
        "numbers": numbers,
        "span": span,
        "stands": stands,
        "waiting": stands["attention"][:MOST_WAITING],
        "more_waiting": max(0, len(stands["attention"]) - MOST_WAITING),
        "receivers": _receivers(settings, numbers, missed),
        "studies_found": studies,
        "acts": done,
        "pictures": pictures(settings, ledger, span, now, words),
    }


def _receivers(settings: Settings, numbers: Measurements, missed: Sequence[Silence]) -> list[ReceiverLine]:
    last: dict[str, list[tuple[str, float]]] = {}
    for tally in numbers.totals:
        if tally.kind == TallyKind.RECEIVED:
            last.setdefault(tally.name, []).append((tally.detail, tally.last_at))
    silent = {(silence.receiver, silence.calling_ae_title) for silence in missed}
    connected = open_associations(settings)
    return [
        ReceiverLine(
            receiver.name,
            receiver.ae_title,
            receiver.port,
            receiver.mode,
            numbers.receivers_up[receiver.name],
            connected[receiver.name],
            [
                (title, at, (receiver.name, title) in silent)
                for title, at in sorted(last.get(receiver.name, []), key=lambda sender: -sender[1])[:12]
            ],
        )
        for receiver in settings.receiver
    ]


def pictures(settings: Settings, ledger: Ledger, span: str, now: float, words: Translation) -> list[Markup]:
    """Return the charts of the last day or week."""
    begin = now - SPANS[span]
    with ledger.reading() as connection:
        counts = tallies.since(connection, begin, TallyKind.RECEIVED, TallyKind.VERIFIED)
        measured_so = samples.since(connection, begin)
    received: dict[str, dict[int, float]] = {}
    verified: dict[str, dict[int, tuple[float, int]]] = {}
    for tally in counts:
        if tally.kind == TallyKind.RECEIVED:
            hours = received.setdefault(tally.name, {})
            hours[tally.hour] = hours.get(tally.hour, 0) + tally.times
        else:
            means = verified.setdefault(tally.name, {})
            seconds, times = means.get(tally.hour, (0.0, 0))
            means[tally.hour] = (seconds + tally.seconds, times + tally.times)
    means_of = {
        name: [((hour + 0.5) * 3600, seconds / times / 60) for hour, (seconds, times) in sorted(hours.items())]
        for name, hours in verified.items()
    }
    of_kind: dict[SampleKind, dict[str, list[tuple[float, float]]]] = {}
    for sample in measured_so:
        of_kind.setdefault(sample.kind, {}).setdefault(sample.name, []).append((sample.at, sample.value))
    free = [(at, value / 1e9) for at, value in of_kind.get(SampleKind.FREE, {}).get("", [])]
    oldest = {
        name: [(at, value / 60) for at, value in points]
        for name, points in of_kind.get(SampleKind.OLDEST, {}).items()
    }
    mark = settings.site.alarm_below / 1e9 or None
    return [
        bars(words.say("operator.picture_arrivals"), received, begin, now),
        lines(words.say("operator.picture_waiting"), of_kind.get(SampleKind.WAITING, {}), begin, now),
        lines(words.say("operator.picture_oldest"), oldest, begin, now),
        lines(words.say("operator.picture_verified"), means_of, begin, now),
        lines(words.say("operator.picture_free"), {words.say("operator.free_line"): free}, begin, now, mark=mark),
    ]


def destination(settings: Settings, ledger: Ledger, name: str) -> dict[str, Any] | None:
    """Return one destination and its queue, None if neither configuration nor ledger knows it."""
    stands = present_state(settings, ledger)
    it = next((line for line in stands["destinations"] if line["name"] == name), None)
    if it is None:
        return None
    queue = [line for line in stands["attention"] if line["destination"] == name]
    with ledger.reading() as connection:
        done = act_records.newest(connection, MOST_ACTS, name)
    others = [other.name for other in settings.destination if other.name != name]
    about = {"queue_lines": queue[:MOST_WAITING], "more_waiting": max(0, len(queue) - MOST_WAITING)}
    return {"now": time.time(), "it": it, "acts": done, "others": others, **about}


def orders(ledger: Ledger) -> dict[str, Any]:
    """Return the last orders."""
    return {"now": time.time(), "orders": list_orders(ledger, at_most=MOST_ORDERS)["orders"]}


def quarantine(ledger: Ledger) -> dict[str, Any]:
    """Return what is set aside."""
    found = listed(ledger)["quarantined"]
    shown = [
        {**it, "at": it["at"] and datetime.fromisoformat(it["at"]).timestamp()} for it in found[:MOST_SET_ASIDE]
    ]
    return {"now": time.time(), "found": shown, "more": max(0, len(found) - MOST_SET_ASIDE)}


def search(settings: Settings, ledger: Ledger, text: str) -> dict[str, Any]:
    """Return the studies for a typed text: accession number, study UID, AE title or Patient ID."""
    sought = text.strip()[:128]
    found: list[ListedStudy] = []
    by = ""
    if sought:
        with ledger.reading() as connection:
            found, by = found_studies.named(connection, sought, MOST_STUDIES), "accession"
            if not found:
                found, by = found_studies.sent_by(connection, sought, MOST_STUDIES), "ae_title"
            if not found:
                found, by = _of_patient(settings, connection, sought), "patient"
    return {"now": time.time(), "text": sought, "found": found, "by": by}


def _of_patient(settings: Settings, connection: Any, identifier: str) -> list[ListedStudy]:
    """Return the studies whose first patient has this ID, which the ledger has as a keyed hash only."""
    spool, placeholders = settings.spool, settings.site.placeholder_ids
    sought = Patient(identifier=identifier)

    def is_patient(study: str, known: str) -> bool:
        marks = marks_of(study, sought, placeholders, spool)
        return marks is not None and marks.identifier == known

    return found_studies.of_patient(connection, is_patient, MOST_STUDIES)


def study(settings: Settings, ledger: Ledger, uid: str, words: Translation) -> dict[str, Any] | None:
    """Return the whole history of a study, None if it is unknown."""
    with ledger.reading() as connection:
        arrivals = found_studies.arrivals_of(connection, uid)
        if not arrivals:
            return None
        deliveries = found_studies.deliveries_of(connection, uid)
        tried = attempts.of_study(connection, uid, MOST_ATTEMPTS)
        instances = list(found_studies.instances_of(connection, uid, MOST_READ))
        files = found_studies.files_of(connection, uid, 8)
        done = act_records.newest(connection, MOST_ACTS, uid)
    shows = settings.site.show_names
    changes = _changes(instances, words.say("operator.hidden") if not shows else "")
    return {
        "now": time.time(),
        "uid": uid,
        "patient": _patient(settings, files) if shows else None,
        "arrivals": arrivals,
        "deliveries": deliveries,
        "attempts": tried,
        "instances": instances[:MOST_INSTANCES],
        "more_instances": sum(arrival.instances for arrival in arrivals) - len(instances[:MOST_INSTANCES]),
        "changes": changes[:MOST_CHANGES],
        "states": Counter(instance.state for instance in instances).most_common(),
        "other_patient": any(instance.code == InstanceCode.OTHER_PATIENT for instance in instances),
        "not_compared": any(d.arrived > d.verified and d.state == "delivered" for d in deliveries),
        "can_retry": any(d.state in {"refused", "deferred", "waiting"} for d in deliveries),
        "encoding": _encoding(instances),
        "picture": _life(arrivals, deliveries, settings.spool, words),
        "acts": done,
    }


def _changes(instances: Sequence[StudyInstance], hidden_as: str) -> list[tuple[str, str, str, str, int]]:
    """Return keyword, before, after, rule and number of instances of every change.

    Values that name somebody are `hidden_as` this text, where there is one.
    """
    counted: Counter[tuple[str, str, str, str]] = Counter()
    for instance in instances:
        for change in instance.changes or []:
            keyword = str(change.get("keyword") or "")
            hidden = bool(hidden_as) and _names_somebody(keyword)
            before = hidden_as if hidden and change.get("before") else str(change.get("before") or "")
            after = hidden_as if hidden and change.get("after") else str(change.get("after") or "")
            counted[keyword, before, after, str(change.get("rule") or "")] += 1
    return [(*what, count) for what, count in sorted(counted.items())]


def _names_somebody(keyword: str) -> bool:
    """Say whether an attribute may identify a person; an unknown attribute may."""
    if keyword.startswith(("Patient", "OtherPatient", "IssuerOfPatient")):
        return True
    try:
        return dictionary_VR(keyword) in {"PN", "SQ", "UN"}
    except (KeyError, ValueError):  # The keyword is not in the dictionary.
        return True


def _encoding(instances: Sequence[StudyInstance]) -> dict[str, Any]:
    encoded = [instance for instance in instances if instance.encoded_length and instance.pixel_length]
    before = sum(instance.pixel_length or 0 for instance in encoded)
    after = sum(instance.encoded_length or 0 for instance in encoded)
    reasons = Counter(instance.reason for instance in instances if instance.state == "passed" and instance.reason)
    return {
        "count": len(encoded),
        "before": before,
        "after": after,
        "ratio": before / after if after else 0.0,
        "syntaxes": sorted({_named(instance.transfer_syntax_sent or "") for instance in encoded}),
        "passed": reasons.most_common(10),
    }


def _named(transfer_syntax: str) -> str:
    """Return the name of a transfer syntax and its UID; the UID alone where DICOM names none."""
    name = UID(transfer_syntax).name
    return transfer_syntax if name == transfer_syntax else f"{name} ({transfer_syntax})"


def _life(
    arrivals: Sequence[StudyArrival], deliveries: Sequence[StudyDelivery], spool: Spool, words: Translation
) -> Markup:
    events, now = [], time.time()
    state = words.table["operator_state"]
    for arrival in arrivals:
        first = min(_first_object(arrival, spool), arrival.newest_file_at)
        received = words.say("operator.life_received", count=arrival.instances, title=arrival.calling_ae_title)
        events.append(TimeLineEvent(arrival.receiver, first, arrival.newest_file_at, received))
        events.append(
            TimeLineEvent(
                state["admitted"], arrival.admitted_at, arrival.admitted_at, words.say("operator.life_admitted")
            )
        )
    for delivery in deliveries:
        end = delivery.finished_at or now
        begin = delivery.first_attempt_at or delivery.created_at
        said = words.say(
            "operator.life_delivery",
            state=state[delivery.state],
            attempts=delivery.attempts,
            verified=delivery.verified,
            instances=delivery.instances,
        )
        is_bad = delivery.state in {"refused", "deferred"}
        events.append(TimeLineEvent(delivery.destination, begin, end, said, is_bad=is_bad))
    events += [
        TimeLineEvent(state["settled"], arrival.settled_at, arrival.settled_at, state["settled"])
        for arrival in arrivals
        if arrival.settled_at is not None
    ]
    took = duration(max(event.end for event in events) - min(event.begin for event in events))
    return time_line(words.say("operator.life", time=took), events)


def _first_object(arrival: StudyArrival, spool: Spool) -> float:
    """Return when the first object of an arrival was written, as far as its files are kept."""
    for room in spool.rooms_of_arrivals:
        with contextlib.suppress(OSError), os.scandir(room / arrival.name) as entries:
            written = (
                entry.stat().st_mtime for entry in itertools.islice(entries, MOST_READ) if _is_object(entry)
            )
            return min(written, default=arrival.newest_file_at)
    return arrival.newest_file_at


def _is_object(entry: "os.DirEntry[str]") -> bool:
    return not entry.name.startswith(".") and entry.name != ACCOUNT


def _patient(settings: Settings, files: Sequence[tuple[str, str]]) -> Mapping[str, str | None] | None:
    """Return the patient, read from the originals, None if none is kept and readable."""
    spool = settings.spool
    paths = (path for arrival, file in files if (path := spool.find(arrival, file)))
    try:
        person = DicomPatients(settings.patients).find(AccessionNumber("-"), paths)
    except StorestowError:
        return None
    return {"name": person.patient_name, "id": person.medrec_id}
