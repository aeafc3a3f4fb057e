"""Take over what a node had in hand that reports no more: deliveries, studies and retrievals.

Whoever had them may still live, cut off from the ledger: its next write finds that its claim is gone (`Fenced`).
"""

import logging
import time

from pipeline import engine
from pipeline.events import Event, emit
from pipeline.ledger import claims, deliveries, nodes, retrievals
from pipeline.model import RetrievalState
from pipeline.site.node import lost_after
from pipeline.site.site import Site


def take_over(name: str, site: Site) -> None:
    """Make due what the node `name` had in hand, unless it has reported meanwhile."""
    with site.ledger.transaction() as change:
        node = nodes.lose(change, name, lost_after(site.settings))
        if node is None:
            return
        worker, now = node.report.worker, time.time()
        sending = deliveries.sending(change, worker)
        deliveries.resume(change, sending, now)
        studies = claims.release_studies_of(change, worker)
        of_it = (row for row in retrievals.open_ones(change) if row.worker == worker)
        moving = [row for row in of_it if row.state == RetrievalState.MOVING]
        for row in moving:
            retrievals.let_go(change, row, now)
        for lane in (engine.DELIVERIES, engine.STUDIES, engine.ORDERS):
            site.ledger.engine.ring(change, lane)
    seconds = round(node.seen_seconds, 1)
    if node.lost_at is None:
        level = logging.WARNING if node.draining else logging.ERROR  # It was about to be stopped.
        emit(Event.NODE_LOST, level, node=name, seconds=seconds, at_the_door=node.report.at_the_door)
    if sending or studies or moving:
        counts = {"deliveries": len(sending), "studies": studies, "retrievals": len(moving)}
        emit(Event.TAKEN_OVER, logging.WARNING, node=name, by=site.claimant.node, **counts, seconds=seconds)
