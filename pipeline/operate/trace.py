"""The history of every instance of a study, as `trace --json` has it (docs/design.md, Commands).

`trace` asks the ledger, `archived` the archive of what the ledger has forgotten.
"""

import json
import tempfile
import time
from collections.abc import Collection, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from pipeline.errors import Permanent
from pipeline.events import moment
from pipeline.ledger import FILE_NAME, Ledger, accounts, attempts, reports
from pipeline.ledger.attempts import DeliveryAttempt
from pipeline.ledger.rows import OrderRow, TraceRow
from pipeline.ledger.tables import orders
from pipeline.site.waiting import Wait, waits
from pipeline.spool.account_archive import AccountArchive
from pipeline.spool.spool import Spool

MOST_ATTEMPTS = 1000


def trace(subject: str, ledger: Ledger, configured: Collection[str] | None = None) -> dict[str, Any]:
    """Return every instance that an accession number, a study UID or an arrival's name selects.

    `configured` are the names of the destinations: a delivery to another one waits for a person. None means that
    every destination is configured.
    """
    with ledger.reading() as connection:
        rows = reports.trace(connection, subject)
        open_ones = waits(
            reports.open_deliveries(connection), reports.destination_rows(connection), configured, time.time()
        )
        waiting = {row.id: wait for row, wait in open_ones}
        tried = attempts.of_subject(connection, reports.named_by(subject), MOST_ATTEMPTS)
        ordered = [_order(row) for row in reports.orders_of(connection, subject)]
    studies: dict[tuple[str | None, str | None], list[dict[str, Any]]] = {}
    for _, group in groupby(rows, key=lambda row: row.id):
        of_one = list(group)
        first = of_one[0]
        instances = studies.setdefault((first.study_instance_uid, first.accession_number), [])
        instances.append(_instance(first, of_one, waiting))
    return {
        "studies": [
            {"study_instance_uid": study, "accession_number": accession, "instances": instances}
            for (study, accession), instances in studies.items()
        ],
        "orders": ordered,
        "attempts": [_attempt(row) for row in tried],
    }


def _attempt(row: DeliveryAttempt) -> dict[str, Any]:
    return {**row._asdict(), "began_at": moment(row.began_at), "ended_at": moment(row.ended_at)}


def _order(row: OrderRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "verb": row.verb,
        "destination": row.destination,
        "state": row.state,
        "stage": row.stage,
        "error": row.error_kind.words if row.error_kind else None,
        "detail": row.detail,
        "at": moment(row.created_at),
        "ended_at": moment(row.ended_at),
    }


def _instance(row: TraceRow, receipts: list[TraceRow], waiting: Mapping[int, Wait]) -> dict[str, Any]:
    return {
        "sop_instance_uid": row.sop_instance_uid,
        "series_instance_uid": row.series_instance_uid,
        "sop_class_uid": row.sop_class_uid,
        "modality": row.modality,
        "state": row.state,
        "reason": row.reason,
        "arrival": row.arrival,
        "file": row.file,
        "calling_ae_title": row.calling_ae_title,
        "institution": row.institution,
        "received_sha256": row.received_sha256,
        "transfer_syntax_received": row.transfer_syntax_received,
        "transfer_syntax_sent": row.transfer_syntax_sent,
        "pixel_length": row.pixel_length,
        "pixel_md5": row.pixel_md5,
        "pixel_sha256": row.pixel_sha256,
        "encoded_length": row.encoded_length,
        "changes": row.changes or [],
        "deliveries": [
            _delivery(receipt, waiting.get(receipt.delivery))
            for receipt in receipts
            if receipt.delivery is not None
        ],
    }


def _message(row: TraceRow) -> str | None:
    return f"left out, and listed on what was made: {row.message}" if row.left_out else row.message


def _delivery(row: TraceRow, wait: Wait | None) -> dict[str, Any]:
    return {
        "destination": row.destination,
        "order": row.order_id,
        "state": row.receipt_state,
        "code": row.receipt_code or None,
        "message": _message(row) or (wait.reason if wait else row.delivery_reason),
        "left_out": row.left_out,
        "verified": row.verified,
        "at": moment(row.at),
        "sent_sha256": row.sent_sha256,
        "transfer_syntax": row.receipt_transfer_syntax,
        "delivery_state": row.delivery_state,
        "due_at": moment(row.due_at),
        "waits_for": wait.what if wait else None,
        "next_attempt_at": moment(wait.until if wait else None),
    }


def archived(subject: str, spool: Spool) -> dict[str, Any]:
    """Return what the archive of accounts knows of `subject`, in the shape of `trace --json`.

    The accounts are read into a temporary ledger, which then answers. Every yearly file is read whole, which takes
    seconds for each gigabyte. Raises Permanent naming a file that is damaged.
    """
    with tempfile.TemporaryDirectory(prefix="storestow-") as folder:
        ledger = Ledger(Path(folder) / FILE_NAME)
        try:
            ledger.create()
            _enter(subject, spool, ledger)
            return trace(subject, ledger)
        finally:
            ledger.close()


def _enter(subject: str, spool: Spool, ledger: Ledger) -> None:
    found: dict[str | int, dict[str, Any]] = {}  # the last of several: an append that was killed is repeated
    try:
        for line in AccountArchive(spool.accounts).lines(json.dumps(subject, ensure_ascii=False)[1:-1].encode()):
            entry = json.loads(line)
            found[entry["order"]["id"] if "order" in entry else entry["arrival"]["name"]] = entry
    except ValueError as error:
        raise Permanent(f"the archive of accounts: {error}") from error
    with ledger.transaction() as connection:
        for entry in found.values():
            if "order" in entry:
                connection.execute(insert(orders).values(**entry["order"]))
                continue
            for instance in entry["instances"]:
                for answer in instance["deliveries"]:
                    answer["delivery"]["order_id"] = None  # its order may not be forgotten yet
            accounts.restore(connection, entry)
