"""Find the very files that were pinned before the first attempt, or make them again byte for byte."""

from dataclasses import replace

from pipeline.destinations import Destination
from pipeline.errors import Permanent
from pipeline.ledger import arrivals, rerouting, study_routes
from pipeline.line.consign import pin_of
from pipeline.line.prepare import Prepared, prepare
from pipeline.line.prepare_study import limits_of, task_of
from pipeline.model import Item, Receipt, ReceiptState
from pipeline.site.site import Site

NOT_REPRODUCIBLE = (
    "the file pinned before the first attempt is gone, and the original no longer gives the same bytes; "
    "`storestow send --again` sends it as it is made today"
)

NO_LONGER_KEPT = (
    "its original is no longer kept (keep_originals): retrieve the study from the archive, where it is complete"
)


def pinned(  # noqa: PLR0913, PLR0917  # one instance of one delivery, and where it is to go
    identity: int, item: Item, receiver: str, destination: Destination, site: Site, delivery: int
) -> Item | Receipt:
    """Return `item` with the file pinned before the first attempt, made again if it is gone, otherwise why not.

    A rerouted instance has no file for this destination yet: the file is made, and pinned, now.

    Other bytes must not be sent under the same UID (docs/facts.md, Archives). If the file cannot be read or made
    now (a full disk, a killed process), nothing is refused.
    """
    path = site.spool.present(item.path)
    try:
        if item.sha256 and path and site.hashed.sha256_of(path) == item.sha256:
            return replace(item, path=path)
    except OSError as error:
        return Receipt(item.key, ReceiptState.PENDING, "", f"its file cannot be read now: {error.strerror}")
    with site.ledger.reading() as look:
        original = arrivals.instance_row(look, identity)
        encoding = study_routes.encoding_of(look, delivery, identity) or destination.encode
        is_gone = arrivals.is_gone(look, original.arrival)
    if is_gone and not site.spool.find(original.arrival, original.file):
        return Receipt(item.key, ReceiptState.REFUSED, "", NO_LONGER_KEPT)
    tasks = [task_of(original, receiver, {encoding}, site)]
    ((_, again),) = site.pool.each(prepare, tasks, limits_of)
    if isinstance(again, Exception) and not isinstance(again, Permanent):
        return Receipt(item.key, ReceiptState.PENDING, "", f"its file cannot be made again now: {again}")
    if not item.sha256:
        return _pinned_first(identity, item, again, site, delivery)
    outputs = again.outputs if isinstance(again, Prepared) else ()
    same = (replace(item, path=output.path) for output in outputs if output.sha256 == item.sha256)
    return next(same, None) or Receipt(item.key, ReceiptState.REFUSED, "", NOT_REPRODUCIBLE)


def _pinned_first(
    identity: int, item: Item, made: Prepared | Exception, site: Site, delivery: int
) -> Item | Receipt:
    if isinstance(made, Exception):
        return Receipt(item.key, ReceiptState.REFUSED, "", str(made))
    (output,) = made.outputs
    with site.ledger.transaction() as change:
        rerouting.pin(change, delivery, identity, pin_of(output, site))
    syntax = output.transfer_syntax_uid
    return replace(item, path=output.path, sha256=output.sha256, size=output.size, transfer_syntax_uid=syntax)
