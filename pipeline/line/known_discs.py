"""Tell a destination what the ledger has about a study's discs, and record a new disc."""

import time
from dataclasses import replace

from pipeline.destinations import Destination
from pipeline.events import Event, emit
from pipeline.ledger import claims, discs
from pipeline.ledger.rows import ClaimedDeliveryRow
from pipeline.line import settle
from pipeline.line.delivery_items import DeliveryItems
from pipeline.model import Consignment, NewDisc
from pipeline.site.site import Site


def end_unfinished(row: ClaimedDeliveryRow, destination: Destination, site: Site) -> None:
    """Complete the record of a disc whose attempt died if the disc was visible; otherwise delete the record."""
    with site.ledger.reading() as look:
        unfinished = discs.unfinished_of(look, row)
    if unfinished is None:
        return
    was_seen = destination.has_been_seen(row.study_instance_uid, unfinished.new)
    if was_seen:
        _note_offered(unfinished.identity, row, site)
        return
    with site.ledger.transaction() as change:
        claims.require_delivery(change, row)
        discs.forget(change, unfinished.identity)


def _note_offered(identity: str, row: ClaimedDeliveryRow, site: Site) -> None:
    with site.ledger.transaction() as change:
        claims.require_delivery(change, row)
        again = discs.offered(change, identity, time.time())
    for number in again:
        emit(Event.RETRIED, delivery=number)


def of_study(consignment: Consignment, load: DeliveryItems, row: ClaimedDeliveryRow, site: Site) -> Consignment:
    """Return the consignment with the study's earlier disc, and functions that record a new one.

    Once a disc has been published, the originals of all instances on it are kept for another `keep_originals`.
    """
    rows = {key: (one.delivery, one.identity) for key, one in load.beside.items()}
    rows |= {key: (row.id, identity) for key, identity in load.numbers.items()}
    remembered: list[str] = []

    def remember(new: NewDisc) -> None:
        with site.ledger.transaction() as change:
            claims.require_delivery(change, row)
            remembered.append(discs.remember(change, row, new, rows))

    def offered() -> None:
        _note_offered(remembered[-1], row, site)
        for number in {one.delivery for one in load.beside.values()}:
            settle.renew_accounts(number, site)  # Late instances need the originals for another disc.

    with site.ledger.reading() as look:
        earlier = discs.earlier_of(look, row)
    return replace(consignment, earlier=earlier, on_earlier=load.on_earlier(), remember=remember, offered=offered)
