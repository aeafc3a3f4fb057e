"""Find the very files that were pinned before the first attempt, or make them again byte for byte."""

from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.destinations import Destination
from pipeline.errors import Permanent
from pipeline.ledger import arrivals, claims, instance_rows, receipts, rerouting, study_routes
from pipeline.ledger.rows import ClaimedDeliveryRow
from pipeline.line.consign import pin_of
from pipeline.line.prepare import Prepared, prepare
from pipeline.line.prepare_study import limits_of, task_of
from pipeline.model import Item, Receipt, ReceiptState
from pipeline.site.site import Site
from pipeline.spool.hashed_files import sha256_of

NOT_REPRODUCIBLE = (
    "the file pinned before the first attempt is gone, and the original no longer gives the same bytes; "
    "`storestow send --again` sends it as it is made today"
)
NOT_MADE_AGAIN = "the file pinned before the first attempt is gone or has changed, and cannot be made again"

NO_LONGER_KEPT = (
    "its original is no longer kept (keep_originals): retrieve the study from the archive, where it is complete"
)


@dataclass(frozen=True, slots=True)
class InstanceToSend:
    """One instance of a delivery, by its row numbers; `receiver` is the receiver it came by.

    The delivery may be another than the attempted one: a disc also has instances that other deliveries lack.
    """

    identity: int
    item: Item
    receiver: str
    delivery: int


def pinned(
    one: InstanceToSend, destination: Destination, site: Site, attempted: ClaimedDeliveryRow
) -> Item | Receipt:
    """Return the item with the file pinned before the first attempt, made again if it is gone; or a receipt.

    The receipt says why there is no such file. A rerouted instance has no file for this destination yet: the file
    is made and pinned now.

    Other bytes must not be sent under the same UID (docs/facts.md, Archives), so the returned file has the pinned
    hash; after a first attempt, which may have found other bytes, the file is always hashed again. If the file
    cannot be read or made now (a full disk, a killed process), the receipt stays pending.

    Raises Fenced if a file is to be pinned and another worker has the `attempted` delivery.
    """
    identity, item, receiver, delivery = one.identity, one.item, one.receiver, one.delivery
    path = site.spool.present(item.path)
    try:
        if item.sha256 and path and _hash_of(path, item, site) == item.sha256:
            return replace(item, path=path)
    except OSError as error:
        return Receipt(item.key, ReceiptState.PENDING, "", f"its file cannot be read now: {error.strerror}")
    with site.ledger.reading() as look:
        original = instance_rows.row(look, identity)
        encoding = study_routes.encoding_of(look, delivery, identity) or destination.encode
        is_gone = arrivals.is_gone(look, original.arrival)
    if is_gone and not site.spool.find(original.arrival, original.file):
        return Receipt(item.key, ReceiptState.REFUSED, "", NO_LONGER_KEPT)
    # A pinned file that has changed raises doubts about the original, too: it is hashed in any case.
    task = replace(task_of(original, receiver, {encoding}, site), hashed_in=None)
    ((_, again),) = site.pool.each(prepare, [task], limits_of)
    if isinstance(again, Exception) and not isinstance(again, Permanent):
        return Receipt(item.key, ReceiptState.PENDING, "", f"its file cannot be made again now: {again}")
    if not item.sha256:
        return _pinned_first(one, again, destination, site, attempted)
    return _made_again(item, again)


def _hash_of(path: Path, item: Item, site: Site) -> str:
    return sha256_of(path) if item.attempted else site.hashed.sha256_of(path)


def _made_again(item: Item, again: Prepared | Permanent) -> Item | Receipt:
    """Return the item with the file that was made again, if it has the pinned hash; otherwise a receipt."""
    if isinstance(again, Permanent):
        return Receipt(item.key, ReceiptState.REFUSED, "", f"{NOT_MADE_AGAIN}: {again}")
    try:
        for output in again.outputs:
            if output.sha256 == item.sha256 == sha256_of(output.path):
                return replace(item, path=output.path)
    except OSError as error:
        return Receipt(item.key, ReceiptState.PENDING, "", f"its file cannot be read now: {error.strerror}")
    return Receipt(item.key, ReceiptState.REFUSED, "", NOT_REPRODUCIBLE)


def _pinned_first(
    one: InstanceToSend,
    made: Prepared | Permanent,
    destination: Destination,
    site: Site,
    attempted: ClaimedDeliveryRow,
) -> Item | Receipt:
    item = one.item
    if isinstance(made, Permanent):
        return Receipt(item.key, ReceiptState.REFUSED, "", str(made))
    (output,) = made.outputs
    with site.ledger.transaction() as change:
        claims.require_delivery(change, attempted)
        is_first = rerouting.pin(change, one.delivery, one.identity, pin_of(output, site))
        rows = {} if is_first else dict(receipts.items(change, one.delivery, site.spool.store, answered=True))
    if earlier := rows.get(one.identity):
        return pinned(replace(one, item=earlier), destination, site, attempted)
    syntax = output.transfer_syntax_uid
    return replace(item, path=output.path, sha256=output.sha256, size=output.size, transfer_syntax_uid=syntax)
