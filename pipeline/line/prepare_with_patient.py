"""Prepare an instance for an order and read its patient; this runs in the pool's processes.

The module is in this room, because in `orders` a process would import that whole room and the ledger with it: a
third of a second before the first instance, and 20 MB.
"""

from dataclasses import dataclass

from pipeline.dicom import part10
from pipeline.dicom.part10 import Malformed
from pipeline.dicom.patient import Patient, patient_in
from pipeline.dicom.reading import data_set_of
from pipeline.errors import Permanent
from pipeline.line.identify import says_what_it_is
from pipeline.line.prepare import IDENTITY, Prepared, PreparedFile, PrepareTask, prepare
from pipeline.model import InstanceKey

AS_RECEIVED = ("none",)


@dataclass(frozen=True, slots=True)
class PreparedWithPatient:
    """An instance ready to be sent, and its patient."""

    prepared: Prepared
    patient: Patient


def prepare_identified(task: PrepareTask) -> PreparedWithPatient:
    """Prepare one instance, as received if nothing changes, and return it with its patient.

    Raises as `prepare` does.
    """
    try:
        with data_set_of(task.source, task.scratch) as (data, layout):
            patient = patient_in(data, layout)
            key = InstanceKey(*(part10.text_of(data, layout.elements.get(tag)) for tag in IDENTITY))
            is_ready = goes_as_received(task) and key == task.key and says_what_it_is(data, layout)
            prepared = as_received(task, layout.transfer_syntax_uid) if is_ready else None
    except Malformed as malformed:
        raise Permanent(f"the file has changed since it was taken in: {malformed}") from malformed
    return PreparedWithPatient(prepared or prepare(task), patient)


def goes_as_received(task: PrepareTask) -> bool:
    """Tell whether nothing is to be changed in an instance, so that the received file itself may be sent."""
    return not task.rules and task.encodings == AS_RECEIVED


def as_received(task: PrepareTask, transfer_syntax_uid: str) -> Prepared:
    """Return the received file as the prepared file."""
    size = task.source.stat().st_size
    same = PreparedFile(AS_RECEIVED[0], task.source, task.received_sha256, size, transfer_syntax_uid)
    return Prepared((), (same,))
