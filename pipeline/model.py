"""The types of the line: immutable values that cannot be wrong once they exist."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple


class ArrivalState(StrEnum):
    """The state of an admitted folder (docs/design.md, State)."""

    ADMITTED = "admitted"
    PROCESSING = "processing"
    SETTLED = "settled"
    QUARANTINED = "quarantined"


class InstanceState(StrEnum):
    """The state of one received file (docs/design.md, State)."""

    RECEIVED = "received"
    PASSED = "passed"
    ENCODED = "encoded"
    QUARANTINED = "quarantined"
    CONFLICT = "conflict"
    DUPLICATE = "duplicate"


class InstanceCode(StrEnum):
    """Why an instance is set aside or sent nowhere, as a code; the ledger's reason has it in words."""

    OTHER_PATIENT = "other-patient"  # Its study began with another patient.
    OVER_LIMIT = "over-limit"  # Reading or preparing it needs more than its size warrants.
    MISREAD = "misread"  # storescp dropped or misread an element of it in study mode.
    NO_PATIENT = "no-patient"  # It lacks the element Patient's Name or Patient ID, even an empty one.
    UNCLAIMED = "unclaimed"  # Nobody asked for it, or no destination gets it: it is not set aside.


SET_ASIDE_CODES = tuple(code for code in InstanceCode if code != InstanceCode.UNCLAIMED)


class DeliveryState(StrEnum):
    """The state of a consignment on its way to one destination (docs/design.md, State)."""

    WAITING = "waiting"
    SENDING = "sending"
    DELIVERED = "delivered"
    DEFERRED = "deferred"
    REFUSED = "refused"


class ReceiptState(StrEnum):
    """The peer's response to one SOP Instance (docs/design.md, State)."""

    PENDING = "pending"
    STORED = "stored"
    WARNED = "warned"
    PRESENT = "present"
    DUPLICATE = "duplicate"
    REFUSED = "refused"


class LeftOutCode(StrEnum):
    """Why a made file lacks an instance that was received; a sentence for it stands beside the code."""

    KIND = "kind"  # no directory record exists for its SOP Class
    COMPRESSED = "compressed"  # no decoder here reads its pixels
    FILM = "film"  # the medium must not have its video transfer syntax
    LARGE = "large"  # one file cannot hold it, as it is or once decoded
    DAMAGED = "damaged"  # it is no DICOM object, or not a whole one
    OTHER_CONTENT = "other-content"  # another object of the same UIDs is there
    NOT_CONVERTED = "not-converted"  # converting it took too much, or met a fault of this program
    SET_ASIDE = "set-aside"  # it was set aside before anything was made
    OTHER = "other"


class OrderState(StrEnum):
    """The state of an order (docs/design.md, State)."""

    OPEN = "open"
    DONE = "done"
    PARTIAL = "partial"  # Some instances came, not all: it is never called done, whoever allowed it.
    FAILED = "failed"


class OrderStage(StrEnum):
    """The current step of an open order, in this order."""

    PLACED = "placed"
    FINDING = "finding"
    QUEUED = "queued"  # Stored for QUEUED, MOVING and RECEIVING; the view derives which one from the retrievals.
    MOVING = "moving"
    RECEIVING = "receiving"  # The PACS has finished, and its instances are being taken in.
    PREPARING = "preparing"
    DELIVERING = "delivering"
    ENDED = "ended"


SEND_VERB = "send"  # The one verb whose order retrieves nothing: it sends files from this machine's disk.


class RetrievalState(StrEnum):
    """The state of a retrieval of one study from the PACS; several orders may wait for one."""

    QUEUED = "queued"
    MOVING = "moving"
    RECEIVING = "receiving"  # The PACS has finished; its instances are being taken in, or more may follow.
    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    FAILED = "failed"


class OrderError(StrEnum):
    """Why an order ended without being done; a person and the HIS read `words`."""

    NO_DATA = "no-data"
    MORE_THAN_ONE_PATIENT = "more-than-one-patient"
    PATIENT_UNKNOWN = "patient-unknown"
    PATIENTS_UNAVAILABLE = "patients-unavailable"
    PACS_UNREACHABLE = "pacs-unreachable"
    RECEIVER_NOT_READY = "receiver-not-ready"
    MOVE_INCOMPLETE = "move-incomplete"
    MOVE_TIMED_OUT = "move-timed-out"
    DISC_FAILED = "disc-failed"
    PUBLISHER_UNREACHABLE = "publisher-unreachable"
    RELAY_FAILED = "relay-failed"
    RELAY_INCOMPLETE = "relay-incomplete"
    NOT_CONFIGURED = "not-configured"
    CANCELLED = "cancelled"
    INTERNAL = "internal-error"

    @property
    def words(self) -> str:
        """Return the short words of the HTTP interface; they never change."""
        return _ERROR_WORDS[self]


_ERROR_WORDS = {
    OrderError.NO_DATA: "no DICOM data for accession_number",
    OrderError.MORE_THAN_ONE_PATIENT: "more than one patient",
    OrderError.PATIENT_UNKNOWN: "accession_number not found",
    OrderError.PATIENTS_UNAVAILABLE: "patient API unavailable",
    OrderError.PACS_UNREACHABLE: "PACS unreachable",
    OrderError.RECEIVER_NOT_READY: "receiver not ready",
    OrderError.MOVE_INCOMPLETE: "PACS move incomplete",
    OrderError.MOVE_TIMED_OUT: "PACS move timed out",
    OrderError.DISC_FAILED: "ISO creation failed",
    OrderError.PUBLISHER_UNREACHABLE: "CD Publisher unreachable",
    OrderError.RELAY_FAILED: "DICOM relay failed",
    OrderError.RELAY_INCOMPLETE: "DICOM relay incomplete",
    OrderError.NOT_CONFIGURED: "not configured",
    OrderError.CANCELLED: "cancelled",
    OrderError.INTERNAL: "internal error",
}


ARRIVED = frozenset(
    {ReceiptState.STORED, ReceiptState.WARNED, ReceiptState.PRESENT, ReceiptState.DUPLICATE}
)  # A delivery is `delivered` when all receipts are one of these and verified.


@dataclass(frozen=True, slots=True, order=True)
class InstanceKey:
    """Identify an instance within its scope; SOP Instance UID alone is not enough (docs/facts.md)."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an instance came from, as far as its receiver knows.

    `calling_ae_title` is (0002,0016) in study mode and the association's in association mode; `peer` is the
    numeric IP address, known in association mode only. `called_ae_title` is what the sender called in association
    mode, the receiver's own AE title in study mode (storescp does not tell).
    """

    receiver: str
    calling_ae_title: str
    called_ae_title: str
    peer: str | None
    admitted_at: (
        # With time zone UTC; it becomes Attribute Modification DateTime, so that the same input gives the same
        # bytes.
        datetime
    )


@dataclass(frozen=True, slots=True)
class Change:
    """Propose that a top-level attribute gets `value`, or is removed (`value` is None).

    `keyword` is its DICOM keyword, `"gggg,CREATOR,ee"` for a private element, otherwise `ggggeeee`. `value` is a
    text; backslashes separate several values. `before` and `after` are texts for the ledger, None if the attribute
    is absent; `before` is filled in when the change is applied.
    """

    tag: int
    keyword: str
    value: Any | None
    before: str | None
    after: str | None
    rule: str


@dataclass(frozen=True, slots=True)
class Item:
    """One instance of a consignment: the very file that is sent, pinned by its SHA-256."""

    key: InstanceKey
    path: Path
    sha256: str
    size: int  # Bytes.
    sop_class_uid: str
    transfer_syntax_uid: str
    calling_ae_title: str
    called_ae_title: str
    institution: str | None  # The mapped Institution Name, None if the mapping knows neither AE title nor peer.
    attempted: bool = False  # An earlier attempt may have left this instance at the destination.


@dataclass(frozen=True, slots=True)
class Receipt:
    """A destination's response to one instance.

    `stored`, `warned` and `duplicate` must be `verified` before the delivery is `delivered`. A `present` instance
    that is not `verified` was not compared: the delivery ends, and the original stays until a person says
    `accept`. `code` is the status of the peer's protocol as text (`0xA700`, `HTTP 503`), `message` a sentence
    without patient data. `left_out` is the reason why the made file lists the instance without holding it.
    """

    key: InstanceKey
    state: ReceiptState
    code: str = ""
    message: str = ""
    verified: bool = False
    left_out: LeftOutCode | None = None


@dataclass(frozen=True, slots=True)
class ContentComparison:
    """Whether two files hold the same instance, and which attributes, by keyword, differ nevertheless."""

    is_same: bool
    differing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SetAside:
    """An instance that was received and is sent nowhere; `key` is None if the file does not tell it."""

    key: InstanceKey | None
    reason: str


@dataclass(frozen=True, slots=True)
class ConsignmentAbout:
    """The order a consignment is for.

    `expected` and `received` are distinct instances of all its studies: fewer received than expected means that a
    person allowed an incomplete one, and what is made must say so. `missing` are accession numbers the PACS does
    not know; `container` is the one asked for, empty for any; `modalities` are the only ones asked for, empty for
    all. `counted` is the count of the PACS, if it is more than came and its final response says that this was all.
    `identity_allowed` is a person's reason for accepting that two sources name different patients, None if nothing
    differed.
    """

    order: int
    accessions: tuple[str, ...]
    expected: int
    received: int
    missing: tuple[str, ...] = ()
    container: str = ""
    modalities: tuple[str, ...] = ()
    counted: int | None = None
    identity_allowed: str | None = None


class WhyLeftOut(NamedTuple):
    """Why an instance is not on a disc: for programs, and as a sentence."""

    code: LeftOutCode
    reason: str


@dataclass(frozen=True, slots=True)
class NewDisc:
    """A disc of a study that is about to appear: its name, its contents, the receipts of the others."""

    name: str
    volume_id: str
    size: int  # Bytes.
    sha256: str
    made_at: datetime  # With a time zone.
    on_it: tuple[InstanceKey, ...]
    left_out: Mapping[InstanceKey, WhyLeftOut]


@dataclass(frozen=True, slots=True)
class EarlierDisc:
    """The latest disc of a study that was visible; `name` is empty if the ledger was lost since."""

    name: str
    volume_id: str
    made_at: datetime  # aware


def _nobody_asks(_items: "Sequence[Item]") -> None:
    pass


def _nobody_compares(_ours: Path, _theirs: Path) -> ContentComparison:
    return ContentComparison(is_same=False)  # What was not compared is not the same.


def _nobody_fetches(_path: Path) -> None:
    pass


def _nobody_remembers(_disc: NewDisc) -> None:
    pass


def _nobody_notes() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Consignment:
    """Instances for one destination.

    A destination calls `attempt(items)` before the first byte of these items is sent: their receipts then say
    durably that the peer may have them, so that after a crash the peer is asked before anything is sent again. A
    destination that makes a file for a person to fetch calls `made(path)` once the file is complete and read back,
    before the receipts; if it is made twice, the last path counts. `study_instance_uid` is the first study's if an
    order holds several; each item has its own key. `compare(ours, theirs)` compares a file with the destination's
    copy, written below `scratch`; it raises Permanent if they cannot be compared, Transient if not now.
    `set_aside` are instances that a made file lacks and must mention; it is known only if a file is made.

    If a delivery still grows, a destination may call `added()` while it sends: it returns the instances that were
    added since, and these are then handed over as `items` are. Without the call a later attempt hands them over.

    If a disc is made of a study on the line, `items` are all instances of the study, including those on the
    `earlier` disc (`on_earlier`). Call `remember(disc)` before anything of a new disc is visible, once for each
    name that is tried, and `offered()` once it was visible under its name.
    """

    delivery: int
    study_instance_uid: str
    items: tuple[Item, ...]
    attempt: Callable[[Sequence[Item]], None] = field(default=_nobody_asks, compare=False)
    guard_released: bool = False  # A person has said: send it although the guard holds it.
    about: ConsignmentAbout | None = None  # None: not for an order.
    made: Callable[[Path], None] = field(default=_nobody_fetches, compare=False)
    again: bool = False  # A person has said: send it although the destination already has these UIDs.
    set_aside: tuple[SetAside, ...] = ()
    compare: Callable[[Path, Path], ContentComparison] = field(default=_nobody_compares, compare=False)
    scratch: Path | None = field(default=None, compare=False)
    added: "Callable[[], Sequence[Item]] | None" = field(default=None, compare=False)
    earlier: EarlierDisc | None = None
    on_earlier: frozenset[InstanceKey] = frozenset()
    remember: Callable[[NewDisc], None] = field(default=_nobody_remembers, compare=False)
    offered: Callable[[], None] = field(default=_nobody_notes, compare=False)
