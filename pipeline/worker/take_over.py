"""Take over what a node had in hand that reports no more: deliveries, studies, retrievals; or leave it to others.

Whoever had them may still live, cut off from the ledger: its next write finds that its claim is gone (`Fenced`).
"""

import contextlib
import logging
import time

from sqlalchemy import Connection

from pipeline import engine
from pipeline.errors import StorestowError
from pipeline.events import Event, emit
from pipeline.ledger import claims, deliveries, nodes, retrievals
from pipeline.model import RetrievalState
from pipeline.site.node import lost_after
from pipeline.site.site import Site

# Seconds until others attempt what a worker leaves when it ends: by then its process has sent its last byte.
LEAVING_SECONDS = 2.0


def take_over(name: str, site: Site) -> None:
    """Make due what the node `name` had in hand, unless it has reported meanwhile."""
    with site.ledger.transaction() as change:
        node = nodes.lose(change, name, lost_after(site.settings))
        if node is None:
            return
        counts = _let_go(change, node.report.worker, time.time(), site)
    seconds = round(node.seen_seconds, 1)
    if node.lost_at is None:
        level = logging.WARNING if node.draining else logging.ERROR  # It was about to be stopped.
        emit(Event.NODE_LOST, level, node=name, seconds=seconds, at_the_door=node.report.at_the_door)
    if any(counts.values()):
        emit(Event.TAKEN_OVER, logging.WARNING, node=name, by=site.claimant.node, **counts, seconds=seconds)


def leave(site: Site) -> None:
    """Make due for others what this worker still has in hand, because it ends.

    Without a store there are no others: the next start does this. If the ledger cannot be written now, nothing is
    raised: the others take over later.
    """
    if not site.spool.has_store:
        return
    with contextlib.suppress(StorestowError):
        with site.ledger.transaction() as change:
            counts = _let_go(change, site.claimant.worker, time.time() + LEAVING_SECONDS, site)
            nodes.leave(change, site.claimant.worker)
        emit(Event.NODE_LEFT, node=site.claimant.node, **counts)


def _let_go(change: Connection, worker: str, due_at: float, site: Site) -> dict[str, int]:
    """Let go of all that a worker has in hand; return how many of each kind that was."""
    sending = deliveries.sending(change, worker)
    deliveries.resume(change, sending, due_at)
    studies = claims.release_studies_of(change, worker)
    of_it = (row for row in retrievals.open_ones(change) if row.worker == worker)
    moving = [row for row in of_it if row.state == RetrievalState.MOVING]
    for row in moving:
        retrievals.let_go(change, row, time.time())
    for lane in (engine.DELIVERIES, engine.STUDIES, engine.ORDERS):
        site.ledger.engine.ring(change, lane)
    return {"deliveries": len(sending), "studies": studies, "retrievals": len(moving)}
