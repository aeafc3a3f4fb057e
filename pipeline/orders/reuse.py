"""Decide which instances held already may serve an order instead of a retrieval.

Only instances that the PACS itself, as [pacs] names it now, has sent to the receiver of orders count. They are
usable if no two copies of an instance differ, if the PACS still lists it, and if it still names the patient in the
files: an archive corrects names and numbers under the same UIDs.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

from pipeline.dicom.part10 import Malformed
from pipeline.dicom.patient import Patient, patient_in
from pipeline.dicom.reading import data_set_of
from pipeline.dicom.same_patient import compare
from pipeline.ledger import retrievals
from pipeline.ledger.arrivals import OF_A_RETRIEVAL
from pipeline.ledger.completeness import Key
from pipeline.ledger.rows import SoundInstanceRow
from pipeline.line.senders import Sender, Senders, senders_of
from pipeline.processes.limits import to_read
from pipeline.site.site import Site


def usable(study: str, listed: Collection[Key], patient: Patient | None, site: Site) -> dict[Key, int]:
    """Return the instances, by Series and SOP Instance UID, that need not be sent again; none if in doubt."""
    if patient is None or not listed:
        return {}
    senders = senders_of(site.settings)
    with site.ledger.reading() as look:
        rows = [row for row in retrievals.kept(look, study) if _is_sent_by(senders, row)]
    wanted = set(listed)
    found = {key: row for row in rows if (key := (row.series_instance_uid, row.sop_instance_uid)) in wanted}
    if _differ(rows) or not all(_is_of(patient, row, site) for row in _one_a_series(list(found.values()))):
        return {}
    return {key: row.id for key, row in found.items()}


def _is_sent_by(senders: Senders, row: SoundInstanceRow) -> bool:
    """Tell whether the PACS has sent an instance, or we have fetched it by C-GET, which has no peer address."""
    is_fetched = row.peer is None and senders.address_decides and row.scope.startswith(OF_A_RETRIEVAL)
    return is_fetched or senders.include(Sender(row.calling_ae_title, row.peer))


def _differ(rows: Sequence[SoundInstanceRow]) -> bool:
    """Tell whether two copies of an instance differ: the PACS has changed it in between."""
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
    """Return the patient of a file, an empty one if it cannot be read; runs in a process of the pool."""
    path, scratch = task
    try:
        with data_set_of(path, scratch) as (data, layout):
            return patient_in(data, layout)
    except Malformed:
        return Patient()
