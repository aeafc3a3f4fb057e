"""The burden of a delivery: the files it hands to its destination, each the very one that was pinned.

A file is made of all of it or not at all: one of some instances would be taken for the whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.destinations import Destination
from pipeline.errors import Permanent, StorestowError, Transient
from pipeline.ledger import companions, deliveries
from pipeline.ledger.companions import Companion
from pipeline.line.pins import pinned
from pipeline.model import ARRIVED, Consignment, InstanceKey, Item, Receipt, ReceiptState
from pipeline.site.site import Site


@dataclass(frozen=True, slots=True)
class Burden:
    """What is handed over. `numbers` are the rows of the delivery's own instances, `lacking` why some are not.

    `beside` are instances of the study that other deliveries were to bring; `helped` are those deliveries of
    which the destination said that it has some. `brought_before` counts what is there already.
    """

    items: list[Item] = field(default_factory=list)
    numbers: dict[InstanceKey, int] = field(default_factory=dict)
    lacking: dict[int, Receipt] = field(default_factory=dict)
    beside: dict[InstanceKey, Companion] = field(default_factory=dict)
    helped: set[int] = field(default_factory=set)
    brought_before: int = 0


def burden_of(row: Any, destination: Destination, site: Site) -> Burden:
    """Return what a delivery still has to bring; where a file is made, all that belongs in it, or raise.

    Raises:
        Transient: a file cannot be made now, because one of its instances is not at hand.
        Permanent: it never can, because one cannot be had again.
    """
    waiting, beside, before = _wanted(row, destination, site)
    numbers = {item.key: identity for identity, item in waiting}
    found = Burden(numbers=numbers, beside=beside, brought_before=len(before - numbers.keys()))
    wanted = [(identity, item, row.receiver) for identity, item in waiting]
    wanted += [(one.identity, one.item, one.receiver) for one in beside.values()]
    for identity, item, receiver in wanted:
        file = pinned(identity, item, receiver, destination, site)
        if isinstance(file, Path):
            found.items.append(replace(item, path=file))
        elif destination.makes_file:
            raise _nothing_made(file)
        else:
            found.lacking[identity] = file
    return found


def _wanted(
    row: Any, destination: Destination, site: Site
) -> tuple[list[tuple[int, Item]], dict[InstanceKey, Companion], set[InstanceKey]]:
    """Return what is to be brought, with row numbers, what belongs in the same file besides, and what is there.

    The file of an order is made anew, so it is made of everything, whatever has been answered before.
    """
    root = site.spool.root
    with site.ledger.reading() as look:
        waiting = deliveries.items(look, row.id, root)
        if not (waiting and destination.makes_file):
            return waiting, {}, set()
        if row.order_id is not None:
            return deliveries.items(look, row.id, root, answered=True), {}, set()
        beside, before = companions.of(look, row, root), companions.arrived_of(look, row)
    for _, item in waiting:
        beside.pop(item.key, None)
    return waiting, beside, before


def _nothing_made(lacking: Receipt) -> StorestowError:
    said = f"nothing was made, as instance {lacking.key.sop_instance_uid} is not at hand: {lacking.message}"
    return Permanent(said) if lacking.state is ReceiptState.REFUSED else Transient(said)


def handed_over(consignment: Consignment, burden: Burden, destination: Destination) -> Iterator[Receipt]:
    """Yield what the destination says of the delivery's own instances; raises what it raises.

    What it refuses together with instances of others it refuses with the ways out.
    """
    try:
        for answer in destination.deliver(consignment) if burden.items else ():
            if answer.key in burden.numbers:
                yield answer
            elif answer.state in ARRIVED and answer.verified:
                burden.helped.add(burden.beside[answer.key].delivery)
    except Permanent as error:
        if not burden.beside:
            raise
        raise Permanent(
            f"{error} (together with {len(burden.beside)} other instances of this study that are on no disc yet): "
            f"mend that and say `storestow retry {consignment.study_instance_uid}`, or make a disc of the files "
            "that are meant with `storestow disc`"
        ) from error
