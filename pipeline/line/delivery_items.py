"""Find the items of a delivery: the files it hands to its destination, each exactly the one that was pinned.

A pinned file that is gone is made again, byte for byte. A destination that makes a file gets all instances or
none: a file of some instances would be taken for the whole study.
"""

from collections.abc import Generator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.destinations import Destination
from pipeline.errors import Permanent, StorestowError, Transient
from pipeline.ledger import (
    arrivals,
    claims,
    instance_rows,
    receipts,
    rerouting,
    study_routes,
    undelivered_instances,
)
from pipeline.ledger.rows import ClaimedDeliveryRow
from pipeline.ledger.undelivered_instances import UndeliveredInstance
from pipeline.line.consign import pin_of
from pipeline.line.prepare import Prepared, prepare
from pipeline.line.prepare_study import limits_of, task_of
from pipeline.model import Consignment, InstanceKey, Item, Receipt, ReceiptState
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
class DeliveryItems:
    """The files to hand over.

    `numbers` has the row numbers of the delivery's own instances, `lacking` the receipts of those without a file.

    `beside` has instances of other deliveries that belong in the same file.
    """

    items: list[Item] = field(default_factory=list)
    numbers: dict[InstanceKey, int] = field(default_factory=dict)
    lacking: dict[int, Receipt] = field(default_factory=dict)
    beside: dict[InstanceKey, UndeliveredInstance] = field(default_factory=dict)
    waits: list[str] = field(default_factory=list)  # A reason for each instance that is not handed over now.

    def on_earlier(self) -> frozenset[InstanceKey]:
        """Return the keys of the instances beside that are on an earlier, published disc."""
        return frozenset(key for key, one in self.beside.items() if one.has_arrived)

    def unanswered(self) -> list[UndeliveredInstance]:
        """Return the items of other deliveries that no visible disc has answered yet."""
        return [one for one in self.beside.values() if not one.is_answered]


def burden_of(
    row: ClaimedDeliveryRow, destination: Destination, site: Site, only: AbstractSet[int] | None = None
) -> DeliveryItems:
    """Return the items that a delivery must still send; for a made file, all instances that belong in it.

    With `only`, return those of these row numbers.

    Raises:
        Transient: the file cannot be made now, because one of its instances is not available.
        Permanent: the file can never be made, because one of its instances is lost.
    """
    waiting, beside = _wanted(row, destination, site)
    _require_all(beside)
    waiting = [(identity, item) for identity, item in waiting if only is None or identity in only]
    found = DeliveryItems(numbers={item.key: identity for identity, item in waiting}, beside=beside)
    wanted = [InstanceToSend(identity, item, row.receiver, row.id) for identity, item in waiting]
    wanted += [InstanceToSend(one.identity, one.item, one.receiver, one.delivery) for one in beside.values()]
    for one in wanted:
        file = pinned(one, destination, site, row)
        if isinstance(file, Item):
            found.items.append(file)
        elif destination.makes_file:
            raise _nothing_made(file)
        else:
            found.lacking[one.identity] = file
    return found


def _wanted(
    row: ClaimedDeliveryRow, destination: Destination, site: Site
) -> tuple[list[tuple[int, Item]], dict[InstanceKey, UndeliveredInstance]]:
    """Return the items still to send with their receipt ids, and the other instances for the same file.

    The file of an order is made anew, so it contains every instance, also those that have a final receipt.
    """
    root = site.spool.store
    with site.ledger.reading() as look:
        if destination.makes_file and row.order_id is not None:
            is_unanswered = bool(receipts.unanswered(look, row.id))
            return receipts.items(look, row.id, root, answered=True) if is_unanswered else [], {}
        waiting = receipts.items(look, row.id, root)
        if not (waiting and destination.makes_file):
            return waiting, {}
        beside = undelivered_instances.of(look, row, root)
    for _, item in waiting:
        beside.pop(item.key, None)
    return waiting, beside


def _require_all(beside: Mapping[InstanceKey, UndeliveredInstance]) -> None:
    """Raise Permanent if originals have been deleted: a disc of the rest would look like the whole study."""
    if gone := sum(one.is_gone for one in beside.values()):
        raise Permanent(
            f"these instances are late, and the originals of {gone} others of the study, which are on an earlier "
            "disc, are no longer kept (keep_originals): retrieve the study from the archive for a disc of all of "
            "it"
        )


def _nothing_made(lacking: Receipt) -> StorestowError:
    said = f"nothing was made, as instance {lacking.key.sop_instance_uid} is not at hand: {lacking.message}"
    return Permanent(said) if lacking.state is ReceiptState.REFUSED else Transient(said)


def handed_over(
    consignment: Consignment, burden: DeliveryItems, destination: Destination
) -> Generator[Receipt, None, None]:
    """Yield the destination's receipts for the delivery's own instances; raises what the destination raises.

    If the delivery is refused together with instances of other deliveries, the error names the remedies.
    """
    try:
        for answer in destination.deliver(consignment) if burden.items else ():
            if answer.key in burden.numbers:
                yield answer
    except Permanent as error:
        if not (others := len(burden.unanswered())):
            raise
        raise Permanent(
            f"{error} (together with {others} other instances of this study that are on no disc yet): "
            f"mend that and say `storestow retry {consignment.study_instance_uid}`, or make a disc of the files "
            "that are meant with `storestow disc`"
        ) from error
    if burden.waits:
        raise Transient(f"{len(burden.waits)} instances were {burden.waits[0]}")


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
            return item if path is item.path else replace(item, path=path)
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
