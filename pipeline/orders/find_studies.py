"""Find an order's studies at the PACS, and retrieve those that are not held already.

Held instances count only if the PACS itself, as [pacs] names it now, has sent them to the receiver of orders. They
are usable if no two copies of an instance differ, if the PACS still lists them, and if the PACS still names the
patient in the files: an archive corrects names and numbers under the same UIDs.

A retrieval is queued before the instances are listed, so that the first image does not wait for the list. If some
instances of a study are held, its instances are listed first. After a crash the step continues where it was.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from pipeline.dicom.accession import AccessionNumber
from pipeline.dicom.part10 import Malformed
from pipeline.dicom.patient import Patient, patient_in
from pipeline.dicom.reading import data_set_of
from pipeline.dicom.same_patient import compare
from pipeline.errors import PeerUnavailable
from pipeline.ledger import orders, retrievals
from pipeline.ledger.completeness import Key
from pipeline.ledger.rows import OrderRow, OrderStudyRow, SoundInstanceRow
from pipeline.ledger.scope import ScopeKind
from pipeline.line.senders import Sender, Senders, senders_of
from pipeline.model import OrderError, OrderStage, OrderState, RetrievalState
from pipeline.orders import c_find, prove
from pipeline.orders.c_find import Series, SeriesAnswer, StudyAnswer
from pipeline.orders.finish import end
from pipeline.processes.limits import to_read
from pipeline.site.site import Site


def find(number: int, site: Site) -> None:
    """Query the studies of an order, and queue what must be retrieved; end the order if that is not possible.

    Raises PacsBusy if the PACS accepts no association for now: it is asked again within `order_timeout`.
    """
    with site.ledger.transaction() as connection:
        orders.set_stage(connection, number, OrderStage.FINDING)
        order = orders.one(connection, number)
        is_known = bool(orders.links(connection, number))
    try:
        patients = {} if is_known else _ask(order, site)
        if patients is not None:
            _queue(number, patients, site)
    except PeerUnavailable as error:
        end(number, OrderState.FAILED, site, OrderError.PACS_UNREACHABLE, str(error))


def _ask(order: OrderRow, site: Site) -> dict[str, Patient] | None:
    """Query the studies, enter them in the ledger and return the patient of each; None if the order has ended."""
    accessions = [AccessionNumber(text) for text in order.accessions]
    said = c_find.studies_of(accessions, site.settings, site.spool.run)
    answers, studies = said.answers, _by_study(said.answers)
    missing = sorted(set(accessions) - {answer.accession_number for answer in answers})
    with site.ledger.transaction() as connection:
        orders.change_row(connection, order.id, missing=missing, detail=_unknown(missing, said.unclear))
    if not answers or (missing and not order.missing_allowed):
        end(order.id, OrderState.FAILED, site, OrderError.NO_DATA, _unknown(missing, said.unclear))
        return None
    if not prove.before_retrieval(order, answers, site):
        return None
    told = [
        (answers, c_find.series_of(answers[0].study_instance_uid, site.settings, site.spool.run))
        for answers in studies
    ]
    if untold := _untold(order, told):
        end(order.id, OrderState.FAILED, site, OrderError.MOVE_INCOMPLETE, untold)
        return None
    rows = [row for found, series in told if (row := _link(order, found, series))]
    if not rows:
        nothing = f"there is no series of {', '.join(order.modalities)}"
        end(order.id, OrderState.FAILED, site, OrderError.NO_DATA, nothing)
        return None
    with site.ledger.transaction() as connection:
        orders.enter_studies(connection, rows)
    return {answer.study_instance_uid: answer.patient for answer in answers}


def _unknown(missing: Sequence[AccessionNumber], unclear: Mapping[AccessionNumber, str]) -> str | None:
    """Return a text for a person about the accession numbers without study, None if there are none."""
    absent = [number for number in missing if number not in unclear]
    words = [f"the PACS has no study under {', '.join(absent)}"] if absent else []
    return "; ".join([*words, *(unclear[number] for number in missing if number in unclear)]) or None


def _by_study(answers: Sequence[StudyAnswer]) -> list[list[StudyAnswer]]:
    """Group the answers by study: a study may have been ordered under several accession numbers."""
    studies: dict[str, list[StudyAnswer]] = {}
    for answer in answers:
        studies.setdefault(answer.study_instance_uid, []).append(answer)
    return list(studies.values())


def _untold(order: OrderRow, told: Sequence[tuple[Sequence[StudyAnswer], Series]]) -> str:
    """Return why it is unknown which series an order for some modalities needs, "" if it is known."""
    if not order.modalities:
        return ""
    reasons = [
        f"of study {answers[0].study_instance_uid} {words}"
        for answers, series in told
        if (words := series.untold(order.modalities, answers[0]))
    ]
    if not reasons:
        return ""
    asked = ", ".join(order.modalities)
    return f"the PACS does not tell which series are {asked}: {'; '.join(reasons)}; nothing was moved"


def _link(order: OrderRow, answers: Sequence[StudyAnswer], told: Series) -> dict[str, Any] | None:
    """Return the row of one study of the order, None if the order wants no series of the study."""
    figures = [answer.instances for answer in answers if answer.instances is not None]
    counted = max(figures, default=None)  # A PACS may count only instances of the requested number.
    series: Sequence[SeriesAnswer] = told.all_told
    if order.modalities:
        series = told.of(order.modalities)
        counted = _sum(series)
        if not series:
            return None
    return {
        "order_id": order.id,
        "study_instance_uid": answers[0].study_instance_uid,
        "accession_numbers": tuple(dict.fromkeys(answer.accession_number for answer in answers)),
        "found_at": time.time(),
        "series": [[answer.series_instance_uid, answer.modality, answer.instances] for answer in series],
        "counted": counted if counted is not None else _sum(series),
    }


def _sum(series: Sequence[SeriesAnswer]) -> int | None:
    figures = [answer.instances for answer in series]
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known and len(known) == len(figures) else None


def _queue(number: int, patients: dict[str, Patient], site: Site) -> None:
    """Give every study of the order a retrieval, and list its instances; studies without held ones come first."""
    order, links = _order_and_links(number, site)
    for link in links:
        if link.retrieval is None and not _is_held(link, site):
            _attach(order, link, {}, site)
    for link in _order_and_links(number, site)[1]:
        listed = link.listed if link.asked else _list(link, site)
        if link.retrieval is None:
            keys = [(series, instance) for series, instance in listed or ()]
            patient = patients.get(link.study_instance_uid)
            _attach(order, link, usable(link.study_instance_uid, keys, patient, site), site)
    with site.ledger.transaction() as connection:
        orders.set_stage(connection, number, OrderStage.QUEUED)


def _order_and_links(number: int, site: Site) -> tuple[OrderRow, list[OrderStudyRow]]:
    with site.ledger.reading() as connection:
        return orders.one(connection, number), orders.links(connection, number)


def _is_held(link: OrderStudyRow, site: Site) -> bool:
    with site.ledger.reading() as connection:
        return bool(retrievals.kept(connection, link.study_instance_uid))


def _list(link: OrderStudyRow, site: Site) -> list[Key] | None:
    """Query the instances of a study, record and return them; None if the PACS does not list them."""
    series = [uid for uid, _, _ in link.series]
    try:
        study = link.study_instance_uid
        listed = c_find.instances_of(study, series, site.settings, site.spool.run) if series else None
    except PeerUnavailable:
        listed = None
    with site.ledger.transaction() as connection:
        orders.change_link(connection, link.order_id, link.study_instance_uid, asked=True, listed=listed)
    return listed


def _attach(order: OrderRow, link: OrderStudyRow, usable: dict[Key, int], site: Site) -> None:
    """Give a study its retrieval: an open one, otherwise a new one for the instances that are not `usable`.

    If every listed instance is usable, the retrieval is complete at once.
    """
    study, modalities, now = link.study_instance_uid, order.modalities, time.time()
    with site.ledger.transaction() as connection:
        number = retrievals.open_one(connection, study, modalities)
        if number is None:
            present = {row.id for row in retrievals.kept(connection, study)}  # Some may have been deleted since.
            instances = sorted(present.intersection(usable.values()))
            number = retrievals.enter(connection, study, modalities, instances, now)
            if usable and len(instances) == len(usable) == _listed(connection, link):
                values = {"state": RetrievalState.COMPLETE, "ended_at": now, "detail": "held already"}
                retrievals.change_row(connection, number, **values)
        orders.change_link(connection, order.id, study, retrieval=number)


def _listed(connection: Connection, link: OrderStudyRow) -> int:
    rows = [
        row for row in orders.links(connection, link.order_id) if row.study_instance_uid == link.study_instance_uid
    ]
    return len(set(rows[0].listed or ()))


def usable(study: str, listed: Collection[Key], patient: Patient | None, site: Site) -> dict[Key, int]:
    """Return the held instances that need not be sent again, by Series and SOP Instance UID; none if in doubt."""
    if patient is None or not listed:
        return {}
    senders = senders_of(site.settings)
    with site.ledger.reading() as connection:
        rows = [row for row in retrievals.kept(connection, study) if _is_sent_by(senders, row)]
    wanted = set(listed)
    found = {key: row for row in rows if (key := (row.series_instance_uid, row.sop_instance_uid)) in wanted}
    if _differ(rows) or not all(_is_of(patient, row, site) for row in _one_a_series(list(found.values()))):
        return {}
    return {key: row.id for key, row in found.items()}


def _is_sent_by(senders: Senders, row: SoundInstanceRow) -> bool:
    """Tell whether the PACS has sent an instance, or we have fetched it by C-GET; then no address is known."""
    is_fetched = row.peer is None and senders.address_decides and row.scope.kind == ScopeKind.RETRIEVAL
    return is_fetched or senders.include(Sender(row.calling_ae_title, row.peer))


def _differ(rows: Sequence[SoundInstanceRow]) -> bool:
    """Tell whether two copies of an instance differ, because the PACS has changed it between two retrievals."""
    distinct = {(row.series_instance_uid, row.sop_instance_uid, row.data_set_sha256) for row in rows}
    return len(distinct) > len({(series, instance) for series, instance, _ in distinct})


def _one_a_series(rows: Sequence[SoundInstanceRow]) -> list[SoundInstanceRow]:
    return list({row.series_instance_uid: row for row in rows}.values())


def _is_of(patient: Patient, row: SoundInstanceRow, site: Site) -> bool:
    path = site.spool.find(row.arrival, row.file)
    if path is None:
        return False
    ((_, found),) = site.aside.each(_patient_of, [(path, site.spool.run)], lambda task: to_read(task[0]))
    if not isinstance(found, Patient):
        return False
    placeholders = site.settings.site.placeholder_ids
    compared = compare(found, patient, placeholders, is_same_study=True, ignores_case=True)
    return found.is_known and patient.is_known and not compared.differs


def _patient_of(task: tuple[Path, Path]) -> Patient:
    """Return the patient in a file, an empty one if the file cannot be read; runs in a process of the pool."""
    path, scratch = task
    try:
        with data_set_of(path, scratch) as (data, layout):
            return patient_in(data, layout)
    except Malformed:
        return Patient()
