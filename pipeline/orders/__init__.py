"""Place orders, which are requests by accession number, and show them.

Each order is a row of the ledger that the worker executes. Commands, the hook and the shim only call `place`, so
an order survives the death of any process, and equal requests share one order. `ledger.orders` has the SQL,
`steps` the steps of an order.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection

from pipeline import engine
from pipeline.dicom.accession import AccessionNumber, distinct
from pipeline.errors import Configuration, Transient, Usage
from pipeline.events import Event, emit
from pipeline.ledger import Ledger, order_counts, order_queries
from pipeline.ledger import orders as rows
from pipeline.ledger.order_counts import NotThere, OrderCounts
from pipeline.ledger.rows import OrderRow
from pipeline.model import OrderError, OrderStage, OrderState
from pipeline.orders.compare_sources import Findings, HisAnswer, SourceDifference
from pipeline.site.settings import Settings

SHORTEST_REASON, LONGEST_REASON = 3, 200  # Characters.


class TooManyOrders(Transient):
    """Say that as many orders are open as are allowed: nothing was placed; try again a little later."""


@dataclass(frozen=True, slots=True)
class OrderLimit:
    """A limit on parallel orders: no new one is placed while `at_most` orders with these verbs are open."""

    verbs: tuple[str, ...]
    at_most: int


@dataclass(frozen=True, slots=True)
class PlacedOrder:
    """The number of the order that serves a request; `is_new` says that this request has created it."""

    order_id: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """A study the PACS has under a requested accession number; `instances` is None if it does not say.

    `accession_numbers` are all requested numbers under which the PACS has it, `accession_number` is the first.
    """

    study_instance_uid: str
    accession_number: str
    series: int
    modalities: tuple[str, ...]
    instances: int | None
    accession_numbers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MadeFile:
    """The file that a destination made for a person to fetch; a person sees `name`, and never `path`."""

    path: str
    name: str
    size: int  # Bytes.


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """The number of instances of an order's studies that came from one sender that [pacs] does not name.

    `address` is None if the receiver does not know it. These instances are in no result.
    """

    ae_title: str
    address: str | None
    instances: int


@dataclass(frozen=True, slots=True)
class OrderView:
    """An order as everybody may see it, without patient; `as_json` gives JSON. Times are seconds since the epoch.

    `expected` and `received` count distinct instances over all studies, `failed` sub-operations of the PACS.
    `counted` is the PACS's count, if it is more than came and its final response says that this was all. `sent`
    and `refused` count instances at the destination, `sent_before` those that an earlier order for the same
    request has delivered. `late` instances arrived after this order had been served and are in none of its
    results. `moving_since` is when the PACS was first asked to send. `place_in_queue` is the number of retrievals
    before this order's first waiting one. `already_sent` says that the order was done before this request came.
    `result` exists while its file is kept; `left_out` are received instances that the file lacks, and `sent`
    counts these too. `differing` and `noted` say, without values, in which patient attributes the sources
    contradict each other, and in which they only differ; `identity_allowed` says that a person accepted the
    former. `accession_differs` counts images with another accession number. `his` says whether the HIS was asked,
    None if the site has none to ask.
    """

    id: int
    verb: str
    accessions: tuple[str, ...]
    modalities: tuple[str, ...]
    destination: str
    container: str
    missing_allowed: bool
    incomplete_allowed: bool
    state: OrderState
    stage: OrderStage
    place_in_queue: int | None
    error_kind: OrderError | None
    error: str | None  # The error in a few words, None if nothing is wrong.
    detail: str | None
    found: tuple[FoundStudy, ...]
    missing: tuple[str, ...]
    expected: int | None
    received: int
    failed: int
    sent: int
    sent_before: int
    refused: int
    result: MadeFile | None
    late: int
    created_at: float
    last_progress_at: float
    ended_at: float | None
    already_sent: bool
    left_out: tuple[NotThere, ...] = ()
    differing: tuple[SourceDifference, ...] = ()
    noted: tuple[SourceDifference, ...] = ()
    accession_differs: int = 0
    his: HisAnswer | None = None
    identity_allowed: bool = False
    counted: int | None = None
    unclaimed_from: tuple[Unclaimed, ...] = ()
    moving_since: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the view in the types of JSON."""
        table: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return table


def place(  # noqa: PLR0913  # what may be asked for, each by its name
    ledger: Ledger,
    settings: Settings,
    *,
    verb: str,
    accessions: Sequence[AccessionNumber],
    destination: str,
    modalities: Sequence[str] = (),
    container: str = "",
    missing_allowed: bool = False,
    incomplete_allowed: bool = False,
    again: bool = False,
    allow_identity: str | None = None,
    limit: OrderLimit | None = None,
    now: float | None = None,
) -> PlacedOrder:
    """Return the order for this request: an open one, one done within `same_link`, otherwise a new one.

    The request is verb, accession numbers, modalities, destination and container; a shared order keeps what its
    first client allowed. With `again` only an open order is shared. `allow_identity` is a person's reason for
    accepting a difference between sources: such an order is never shared. Failed and partial orders are never
    shared after their end. Raises InvalidAccession, Usage for an unfit reason, Configuration if [pacs] or the
    destination is missing, and TooManyOrders if a new order would exceed `limit`.
    """
    if settings.pacs is None:
        raise Configuration("nothing can be retrieved: the configuration has no [pacs]")
    settings.destination_named(destination)
    reason = None if allow_identity is None else parse_reason(allow_identity)
    wanted = distinct(
        accessions,
        at_most=settings.shim.max_accessions,
        longest=settings.pacs.accession_number_length,
    )
    wish = _wish(verb, wanted, destination, modalities, container)
    now = time.time() if now is None else now
    key = _key(wish if reason is None else {**wish, "let through": str(uuid4())})
    since = None if again else now - settings.shim.same_link.total_seconds()
    with ledger.transaction() as connection:
        known = rows.shared(connection, key, since)
        if known is None and limit and order_queries.count_open(connection, limit.verbs) >= limit.at_most:
            raise TooManyOrders(f"{limit.at_most} orders are open, as many as may be at once")
        number = known or rows.enter(
            connection,
            key=key,
            identity_allowed=reason,
            missing_allowed=missing_allowed,
            incomplete_allowed=incomplete_allowed,
            again=again,
            now=now,
            **wish,
        )
        if known is None:
            ledger.engine.ring(connection, engine.ORDERS)
    if known is None:
        allowed = None if reason is None else "allowed"
        about = {"verb": verb, "accessions": len(wanted), "destination": destination, "identity": allowed}
        emit(Event.ORDERED, order=number, **about)
        settings.spool.wake_worker()
    return PlacedOrder(number, known is None)


def known(  # noqa: PLR0913  # what may be asked for, each by its name
    connection: Connection,
    settings: Settings,
    *,
    verb: str,
    accessions: Sequence[AccessionNumber],
    destination: str,
    modalities: Sequence[str] = (),
    container: str = "",
    now: float | None = None,
) -> int | None:
    """Return the number of the order that `place` would share for this request, None if it would create one."""
    since = (time.time() if now is None else now) - settings.shim.same_link.total_seconds()
    return rows.shared(connection, _key(_wish(verb, accessions, destination, modalities, container)), since)


def _wish(
    verb: str, accessions: Sequence[AccessionNumber], destination: str, modalities: Sequence[str], container: str
) -> dict[str, Any]:
    return {
        "verb": verb,
        "accessions": list(accessions),
        "modalities": sorted(set(modalities)),
        "destination": destination,
        "container": container,
    }


def parse_reason(text: str) -> str:
    """Return a person's reason for accepting a difference of identity; raises Usage if it is too short or long."""
    plain = " ".join(text.split())
    if not SHORTEST_REASON <= len(plain) <= LONGEST_REASON or not plain.isprintable():
        raise Usage(f"the reason must be {SHORTEST_REASON} to {LONGEST_REASON} printable characters")
    return plain


def _key(wish: dict[str, Any]) -> str:
    return json.dumps({**wish, "accessions": sorted(wish["accessions"])}, sort_keys=True)


def view(connection: Connection, order_id: int, *, is_new: bool = True) -> OrderView | None:
    """Return the state of an order, None if there is none; `is_new` is what `place` told this client."""
    row = rows.row(connection, order_id)
    if row is None:
        return None
    counts = order_counts.counts(connection, row)
    kind = row.error_kind
    findings = Findings.read(row.identity)
    return OrderView(
        id=row.id,
        verb=row.verb,
        accessions=row.accessions,
        modalities=row.modalities,
        destination=row.destination,
        container=row.container,
        missing_allowed=row.missing_allowed,
        incomplete_allowed=row.incomplete_allowed,
        state=row.state,
        stage=counts.stage,
        place_in_queue=counts.place_in_queue,
        error_kind=kind,
        error=kind.words if kind else None,
        detail=row.detail or counts.remark,
        found=tuple(
            FoundStudy(
                study.study_instance_uid,
                study.accession_numbers[0],
                len(study.series),
                tuple(sorted({modality for _, modality, _ in study.series if modality})),
                study.expected,
                study.accession_numbers,
            )
            for study in counts.studies
        ),
        missing=row.missing,
        expected=counts.expected,
        received=counts.received,
        failed=counts.failed,
        sent=counts.sent,
        sent_before=row.sent_before,
        refused=counts.refused,
        result=_result(row, counts),
        late=counts.late,
        created_at=row.created_at,
        last_progress_at=max(row.last_progress_at, counts.last_progress_at),
        ended_at=row.ended_at,
        already_sent=row.state == OrderState.DONE and not is_new,
        left_out=counts.left_out,
        differing=findings.differing,
        noted=findings.noted,
        accession_differs=(row.identity or {}).get("accession_differs", 0),
        his=HisAnswer.read(row.identity),
        identity_allowed=row.identity_allowed is not None,
        counted=counts.counted,
        moving_since=counts.moving_since,
        unclaimed_from=tuple(
            Unclaimed(*who, count) for who, count in sorted(counts.from_strangers.items(), key=str)
        ),
    )


def list_orders(ledger: Ledger, *, at_most: int, only_open: bool = False) -> dict[str, Any]:
    """Return the latest orders, the newest first, as `orders --json` has them, without patients."""
    with ledger.reading() as connection:
        numbers = order_queries.newest(connection, at_most, only_open=only_open)
        views = [view(connection, number) for number in numbers]
    return {"orders": [seen.as_json() for seen in views if seen is not None]}


def _result(row: OrderRow, counts: OrderCounts) -> MadeFile | None:
    if counts.made_path is None or row.cleared_at is not None:
        return None
    return MadeFile(counts.made_path, Path(counts.made_path).name, counts.made_size)
