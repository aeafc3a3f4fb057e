"""Redeliver an instance that was received again to a destination that no longer has it.

A modality that sends a study again is told that it was stored, as always. If the archive has lost or deleted the
study meanwhile, ignoring the duplicates would make that untrue. The same bytes are sent as before: the pinned
file, or the same file made again from the kept original. If neither is available, the duplicate is pinned and
sent.
"""

import time
from dataclasses import replace

from pipeline.destinations import Destination
from pipeline.errors import Permanent
from pipeline.ledger import claims, instance_rows, redeliveries, study_routes
from pipeline.ledger.redeliveries import RequestedInstance
from pipeline.ledger.rows import ClaimedDeliveryRow
from pipeline.line.consign import pin_of
from pipeline.line.delivery_items import DeliveryItems, InstanceToSend, pinned
from pipeline.line.prepare import Prepared, prepare
from pipeline.line.prepare_study import limits_of, outcome_of, task_of
from pipeline.model import Item, Receipt, ReceiptState
from pipeline.site.site import Site

TOO_SOON = "sent again less than a day ago, and not there: sent again once a day is over"


def burden_of_request(row: ClaimedDeliveryRow, destination: Destination, site: Site) -> DeliveryItems:
    """Return the items of a request: instances that the destination no longer has; raises as `holds` does."""
    since = time.time() - redeliveries.ONCE_IN
    with site.ledger.reading() as look:
        wanted = redeliveries.wanted_of(look, row.id, site.spool.store)
        sent_lately = redeliveries.answered_since(look, row.destination, row.study_instance_uid, since)
    there = destination.holds([one.item for one in wanted])
    found = DeliveryItems(numbers={one.item.key: one.identity for one in wanted})
    for one in wanted:
        key = one.item.key
        if key in there:
            found.lacking[one.identity] = Receipt(key, ReceiptState.STORED, "QIDO-RS", verified=True)
        elif key in sent_lately:
            found.waits.append(TOO_SOON)
        else:
            _add(found, one, row, destination, site)
    return found


def _add(
    found: DeliveryItems, one: RequestedInstance, row: ClaimedDeliveryRow, destination: Destination, site: Site
) -> None:
    """Add the file for an instance, or the receipt that says why there is none."""
    identity, file = one.identity, _as_it_was(one, row, destination, site)
    if isinstance(file, Receipt) and file.state is ReceiptState.REFUSED and one.asked_by is not None:
        file = _as_it_is_now(one, file.message, row, destination, site)
        if isinstance(file, Item):
            identity = found.numbers[file.key] = one.asked_by
    if isinstance(file, Item):
        # With `attempted`, an instance that is found there counts as ours, and QIDO-RS is asked by itself for one
        # that is not in a list.
        found.items.append(replace(file, attempted=True))
    else:
        found.lacking[identity] = file


def _as_it_was(
    one: RequestedInstance, row: ClaimedDeliveryRow, destination: Destination, site: Site
) -> Item | Receipt:
    """Return the file that was sent before, or a receipt that says why it is not available."""
    with site.ledger.reading() as look:
        original = instance_rows.row(look, one.identity)
    if site.spool.present(one.item.path) is None and site.spool.find(original.arrival, original.file) is None:
        return Receipt(one.item.key, ReceiptState.REFUSED, "", "its original is no longer kept")
    return pinned(InstanceToSend(one.identity, one.item, row.receiver, row.id), destination, site, row)


def _as_it_is_now(
    one: RequestedInstance, why: str, row: ClaimedDeliveryRow, destination: Destination, site: Site
) -> Item | Receipt:
    """Return the file of the duplicate, to be sent in place of the first, and record that in its row.

    If it cannot be prepared, return a receipt that says why.
    """
    assert one.asked_by is not None
    with site.ledger.reading() as look:
        duplicate = instance_rows.row(look, one.asked_by)
        encoding = study_routes.encoding_of(look, row.id, one.identity) or destination.encode
    task = task_of(duplicate, row.receiver, {encoding}, site)
    ((_, prepared),) = site.pool.each(prepare, [task], limits_of)
    if not isinstance(prepared, Prepared):
        state = ReceiptState.REFUSED if isinstance(prepared, Permanent) else ReceiptState.PENDING
        return Receipt(one.item.key, state, "", f"{why}; what was received again cannot be made ready: {prepared}")
    output = next(output for output in prepared.outputs if output.encoding == encoding)
    said = (
        f"{duplicate.reason}; sent again to {destination.name} as it came now (SHA-256 {output.sha256}) in the "
        f"place of what was sent first (SHA-256 {one.item.sha256}): {why}"
    )
    values = {**outcome_of(prepared), "state": duplicate.state, "reason": said}
    with site.ledger.transaction() as change:
        claims.require_delivery(change, row)
        redeliveries.put_in_its_place(change, row.id, one, pin_of(output, site), values)
    syntax = output.transfer_syntax_uid
    return replace(one.item, path=output.path, sha256=output.sha256, size=output.size, transfer_syntax_uid=syntax)
