"""Find the items of a delivery: the files it hands to its destination, each exactly the one that was pinned.

A destination that makes a file gets all instances or none: a file of some instances would be taken for the whole
study.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pipeline.destinations import Destination
from pipeline.errors import Permanent, StorestowError, Transient
from pipeline.ledger import receipts, undelivered_instances
from pipeline.ledger.rows import ClaimedDeliveryRow
from pipeline.ledger.undelivered_instances import UndeliveredInstance
from pipeline.line.pinned_files import InstanceToSend, pinned
from pipeline.model import Consignment, InstanceKey, Item, Receipt, ReceiptState
from pipeline.site.site import Site


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


def burden_of(row: ClaimedDeliveryRow, destination: Destination, site: Site) -> DeliveryItems:
    """Return the items that a delivery must still send; for a made file, all instances that belong in it.

    Raises:
        Transient: the file cannot be made now, because one of its instances is not available.
        Permanent: the file can never be made, because one of its instances is lost.
    """
    waiting, beside = _wanted(row, destination, site)
    _require_all(beside)
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
        waiting = receipts.items(look, row.id, root)
        if not (waiting and destination.makes_file):
            return waiting, {}
        if row.order_id is not None:
            return receipts.items(look, row.id, root, answered=True), {}
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


def handed_over(consignment: Consignment, burden: DeliveryItems, destination: Destination) -> Iterator[Receipt]:
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
