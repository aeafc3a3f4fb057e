"""The rows of the ledger as types: mypy finds a column that does not exist.

Each class has the columns of its table, by their names and in their order: a row is made of a selected table by
position. What a query selects besides follows in a class that inherits.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Result

from pipeline.ledger.scope import Scope
from pipeline.model import (
    ArrivalState,
    DeliveryState,
    InstanceCode,
    InstanceKey,
    InstanceState,
    LeftOutCode,
    OrderError,
    OrderStage,
    OrderState,
    ReceiptState,
    RetrievalState,
)

Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True)
class ArrivalRow:
    """An admitted folder."""

    name: str
    receiver: str
    state: ArrivalState
    reason: str | None
    admitted_at: float
    newest_file_at: float
    settled_at: float | None
    gone_at: float | None
    calling_ae_title: str | None
    called_ae_title: str | None
    peer: str | None
    hidden_files: int
    empty_files: int


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """A received file and what became of it; a file that is no instance may lack everything its data set tells."""

    id: int
    arrival: str
    file: str
    state: InstanceState
    reason: str | None
    code: InstanceCode | None
    scope: Scope
    study_instance_uid: str | None
    series_instance_uid: str | None
    sop_instance_uid: str | None
    sop_class_uid: str | None
    modality: str | None
    accession_number: str | None
    calling_ae_title: str
    called_ae_title: str
    institution: str | None
    size: int
    received_sha256: str
    data_set_sha256: str | None
    transfer_syntax_received: str | None
    transfer_syntax_sent: str | None
    changes: list[dict[str, str | None]] | None
    pixel_length: int | None
    pixel_md5: str | None
    pixel_sha256: str | None
    encoded_length: int | None
    frames: int | None
    body_part: str | None
    routed_to: tuple[tuple[str, str], ...] | None
    consigned: bool
    discarded_at: float | None


@dataclass(frozen=True, slots=True)
class SetAsideRow(InstanceRow):
    """A received file that a person must look at, with when its arrival was admitted."""

    admitted_at: float


@dataclass(frozen=True, slots=True)
class SoundInstanceRow(InstanceRow):
    """A received file that is an instance, with what its arrival knows: its data set told all of these."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    data_set_sha256: str
    transfer_syntax_received: str
    admitted_at: float
    peer: str | None

    @property
    def key(self) -> InstanceKey:
        """Return Study, Series and SOP Instance UID."""
        return InstanceKey(self.study_instance_uid, self.series_instance_uid, self.sop_instance_uid)


@dataclass(frozen=True, slots=True)
class StudyPatientRow:
    """A patient of a study, by keyed hashes."""

    scope: Scope
    study_instance_uid: str
    identifier: str
    issuer: str
    name: str
    birth_date: str
    is_first: bool
    arrival: str
    reason: str | None
    at: float


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A consignment on its way to one destination."""

    id: int
    destination: str
    receiver: str
    study_instance_uid: str
    state: DeliveryState
    reason: str | None
    held: bool
    guard_released: bool
    created_at: float
    due_at: float
    first_attempt_at: float | None
    attempts: int
    finished_at: float | None
    order_id: int | None
    requested: bool
    made_path: str | None
    made_size: int | None
    growing: bool
    claim: str | None
    worker: str | None


@dataclass(frozen=True, slots=True)
class ClaimedDeliveryRow(DeliveryRow):
    """A delivery that is being attempted."""

    first_attempt_at: float
    claim: str


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    """What a destination said of one instance of a delivery, and the file that was sent (the pin)."""

    delivery: int
    instance: int
    state: ReceiptState
    code: str
    message: str
    verified: bool
    attempted: bool
    path: str
    sha256: str
    size: int
    transfer_syntax_uid: str
    encoding: str
    at: float | None
    asked_by: int | None
    left_out: LeftOutCode | None


@dataclass(frozen=True, slots=True)
class DestinationRow:
    """What is noted of a destination as a whole."""

    name: str
    paused: bool
    down_since: float | None
    try_at: float | None
    reason: str | None
    paused_by: str | None
    paused_at: float | None
    trial: int | None


@dataclass(frozen=True, slots=True)
class OrderRow:
    """A request by accession number, or to send files."""

    id: int
    key: str
    verb: str
    accessions: tuple[str, ...]
    modalities: tuple[str, ...]
    destination: str
    container: str
    missing_allowed: bool
    incomplete_allowed: bool
    again: bool
    state: OrderState
    stage: OrderStage
    error_kind: OrderError | None
    detail: str | None
    missing: tuple[str, ...]
    sent_before: int
    receiver: str | None
    files: int
    several_patients: bool
    identity: Mapping[str, Any] | None
    identity_allowed: str | None
    created_at: float
    last_progress_at: float
    ended_at: float | None
    cleared_at: float | None


@dataclass(frozen=True, slots=True)
class RetrievalRow:
    """One study that the PACS is asked to send (C-MOVE, C-GET); of no `modalities`: all of it."""

    id: int
    study_instance_uid: str
    modalities: tuple[str, ...]
    state: RetrievalState
    created_at: float
    started_at: float | None
    finished_at: float | None
    ended_at: float | None
    last_progress_at: float
    attempts: int
    status: str | None
    completed: int
    failed: int
    warned: int
    remaining: int
    announced: int | None
    arrived: int
    error_kind: OrderError | None
    detail: str | None
    claim: str | None
    worker: str | None


@dataclass(frozen=True, slots=True)
class OrderStudyRow:
    """One study of an order, as the PACS has answered.

    `series` are (Series Instance UID, Modality, number of instances or None), `listed` are Series and SOP Instance
    UIDs.
    """

    order_id: int
    study_instance_uid: str
    accession_numbers: tuple[str, ...]
    retrieval: int | None
    found_at: float
    series: tuple[tuple[str, str, int | None], ...]
    counted: int | None
    asked: bool
    listed: tuple[tuple[str, str], ...] | None


@dataclass(frozen=True, slots=True)
class WantedStudyRow(OrderStudyRow):
    """One study of an order with the modalities that the order asked for, none for all."""

    modalities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TraceRow(InstanceRow):
    """A received file with one of its receipts and the delivery of that; None where it has no receipt."""

    delivery: int | None
    destination: str | None
    receipt_state: ReceiptState | None
    receipt_code: str | None
    message: str | None
    left_out: LeftOutCode | None
    verified: bool | None
    at: float | None
    sent_sha256: str | None
    receipt_transfer_syntax: str | None
    delivery_state: DeliveryState | None
    delivery_reason: str | None
    due_at: float | None
    order_id: int | None


def read_all(kind: Callable[..., Kind], result: Result[Any]) -> list[Kind]:
    """Return every row of a result."""
    return [kind(*row) for row in result]


def read_one(kind: Callable[..., Kind], result: Result[Any]) -> Kind:
    """Return the one row of a result; raises NoResultFound where there is none."""
    return kind(*result.one())


def read_one_or_none(kind: Callable[..., Kind], result: Result[Any]) -> Kind | None:
    """Return the one row of a result, None where there is none."""
    row = result.one_or_none()
    return None if row is None else kind(*row)
