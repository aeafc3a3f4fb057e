"""Studies as a person looks for them: the newest, by number, AE title or keyed hash; and the history of one."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from pipeline.ledger.attempts import range_of
from pipeline.ledger.tables import arrival, delivery, instance, receipt, study_patient, tally
from pipeline.ledger.tallies import HOUR, TallyKind

MOST_HOURS = 100  # An AE title is looked for in the newest hours in which it sent.
MOST_PATIENTS = 200_000  # The newest studies, whose patient is compared with the typed ID.


class ListedStudy(NamedTuple):
    """A study as lists show it; times are seconds since the epoch."""

    study_instance_uid: str
    accession_number: str
    calling_ae_title: str
    receiver: str
    modalities: str
    instances: int
    set_aside: int
    first_at: float
    last_at: float


def newest(connection: Connection, at_most: int) -> list[ListedStudy]:
    """Return the studies of the last arrivals, the newest first."""
    names = select(arrival.c.name).order_by(arrival.c.admitted_at.desc()).limit(at_most)
    return _of(connection, instance.c.arrival.in_(names))[:at_most]


def named(connection: Connection, text: str, at_most: int) -> list[ListedStudy]:
    """Return the studies with this accession number or Study Instance UID."""
    found = _of(connection, instance.c.accession_number == text) or _of(
        connection, instance.c.study_instance_uid == text
    )
    return found[:at_most]


def sent_by(connection: Connection, calling_ae_title: str, at_most: int) -> list[ListedStudy]:
    """Return the last studies an AE title has sent, the newest first, by its counts by the hour."""
    of_it = (tally.c.kind == TallyKind.RECEIVED) & (tally.c.detail == calling_ae_title) & (tally.c.hour > 0)
    found: list[ListedStudy] = []
    hours = select(tally.c.hour).where(of_it).distinct().order_by(tally.c.hour.desc()).limit(MOST_HOURS)
    for hour in list(connection.scalars(hours)):
        within = (arrival.c.admitted_at >= hour * HOUR) & (arrival.c.admitted_at < (hour + 1) * HOUR)
        names = list(connection.scalars(select(arrival.c.name).where(within)))
        is_it = instance.c.arrival.in_(names) & (instance.c.calling_ae_title == calling_ae_title)
        found += _of(connection, is_it)
        if len(found) >= at_most:
            break
    return found[:at_most]


def of_patient(connection: Connection, is_patient: Callable[[str, str], bool], at_most: int) -> list[ListedStudy]:
    """Return the studies whose UID and hash of the Patient ID `is_patient` accepts, the newest first."""
    columns = (study_patient.c.study_instance_uid, study_patient.c.identifier)
    wanted = select(*columns).order_by(study_patient.c.at.desc()).limit(MOST_PATIENTS)
    studies: list[str] = []
    for study, identifier in connection.execute(wanted):
        if len(studies) < at_most and study not in studies and is_patient(study, identifier):
            studies.append(study)
    return _of(connection, instance.c.study_instance_uid.in_(studies)) if studies else []


def _of(connection: Connection, named_so: Any) -> list[ListedStudy]:
    aside = instance.c.state.in_(("quarantined", "conflict")) & instance.c.discarded_at.is_(None)
    wanted = (
        select(
            instance.c.study_instance_uid,
            func.coalesce(func.max(instance.c.accession_number), ""),
            func.max(instance.c.calling_ae_title),
            func.max(arrival.c.receiver),
            func.min(instance.c.modality),
            func.count(),
            func.count().filter(aside),
            func.min(arrival.c.admitted_at),
            func.max(arrival.c.admitted_at),
        )
        .join(arrival, arrival.c.name == instance.c.arrival)
        .where(named_so, instance.c.study_instance_uid.is_not(None))
        .group_by(instance.c.study_instance_uid)
        .order_by(func.max(arrival.c.admitted_at).desc())
    )
    return [ListedStudy._make(row)._replace(modalities=row[4] or "") for row in connection.execute(wanted)]


class StudyDelivery(NamedTuple):
    """The state of one delivery of a study, and how many of its receipts are in each state."""

    id: int
    destination: str
    state: str
    reason: str | None
    created_at: float
    first_attempt_at: float | None
    finished_at: float | None
    attempts: int
    order_id: int | None
    instances: int
    arrived: int
    verified: int
    codes: str


def deliveries_of(connection: Connection, study: str) -> list[StudyDelivery]:
    """Return the deliveries that hold instances of a study, the oldest first."""
    arrived = receipt.c.state.in_(("stored", "warned", "present", "duplicate"))
    columns = (
        *(delivery.c.id, delivery.c.destination, delivery.c.state, delivery.c.reason, delivery.c.created_at),
        *(delivery.c.first_attempt_at, delivery.c.finished_at, delivery.c.attempts, delivery.c.order_id),
    )
    wanted = (
        select(
            *columns,
            func.count(),
            func.count().filter(arrived),
            func.count().filter(receipt.c.verified),
            func.min(receipt.c.code),
            func.max(receipt.c.code),
        )
        .join(receipt, receipt.c.delivery == delivery.c.id)
        .join(instance, instance.c.id == receipt.c.instance)
        .where(instance.c.study_instance_uid == study)
        .group_by(*columns)
        .order_by(delivery.c.id)
    )
    found = []
    for *row, low, high in connection.execute(wanted):
        found.append(StudyDelivery._make((*row, range_of(low, high))))
    return found


class StudyArrival(NamedTuple):
    """One arrival that brought instances of a study."""

    name: str
    receiver: str
    state: str
    reason: str | None
    calling_ae_title: str
    peer: str | None
    newest_file_at: float
    admitted_at: float
    settled_at: float | None
    instances: int
    size: int


def arrivals_of(connection: Connection, study: str) -> list[StudyArrival]:
    """Return the arrivals that brought instances of a study, the oldest first."""
    wanted = (
        select(
            *(arrival.c.name, arrival.c.receiver, arrival.c.state, arrival.c.reason),
            func.max(instance.c.calling_ae_title),
            *(arrival.c.peer, arrival.c.newest_file_at, arrival.c.admitted_at, arrival.c.settled_at),
            func.count(),
            func.sum(instance.c.size),
        )
        .join(instance, instance.c.arrival == arrival.c.name)
        .where(instance.c.study_instance_uid == study)
        .group_by(arrival.c.name)
        .order_by(arrival.c.admitted_at)
    )
    return [StudyArrival(*row) for row in connection.execute(wanted)]


def files_of(connection: Connection, study: str, at_most: int) -> list[tuple[str, str]]:
    """Return arrival and file of some instances of a study."""
    wanted = select(instance.c.arrival, instance.c.file).where(instance.c.study_instance_uid == study)
    return [(row[0], row[1]) for row in connection.execute(wanted.order_by(instance.c.id).limit(at_most))]


class StudyInstance(NamedTuple):
    """What a page shows of one instance of a study."""

    sop_instance_uid: str
    series_instance_uid: str
    modality: str | None
    state: str
    code: str | None
    reason: str | None
    arrival: str
    file: str
    received_sha256: str
    transfer_syntax_received: str | None
    transfer_syntax_sent: str | None
    pixel_length: int | None
    encoded_length: int | None
    changes: list[dict[str, str | None]] | None


def instances_of(connection: Connection, study: str, at_most: int) -> Iterable[StudyInstance]:
    """Yield the instances of a study in the order received, no more than `at_most`."""
    columns = (instance.c[name] for name in StudyInstance._fields)
    wanted = select(*columns).where(instance.c.study_instance_uid == study).order_by(instance.c.id).limit(at_most)
    for row in connection.execute(wanted):
        yield StudyInstance(*row)
