"""In a cluster the PACS may send to whichever node receives: a retrieval begins without a receiver here."""

import pytest
from sqlalchemy import update
from support.sites import ledger_place
from support.sites.line_site import node_settings, working
from support.sites.placed_orders import settings_with_pacs

from pipeline.ledger import nodes
from pipeline.ledger.nodes import NodeReport
from pipeline.ledger.tables import node
from pipeline.orders.scheduler import OrderScheduler
from pipeline.processes.jobs import Jobs

pytestmark = pytest.mark.programs


def reports(site, *receivers: str) -> None:
    with site.ledger.transaction() as change:
        nodes.report(change, NodeReport("b", "b", "1", receivers, 0, ""))


def test_the_pacs_is_asked_to_send_where_any_node_receives_for_orders(postgresql_server, tmp_path):
    with ledger_place.on(postgresql_server):
        about = settings_with_pacs(tmp_path).pacs
        settings = node_settings(tmp_path, "a").model_copy(update={"pacs": about})
        table = next(iter(settings.receiver)).model_copy(update={"name": "cdrecord", "mode": "association"})
        settings = settings.model_copy(update={"receiver": (*settings.receiver, table)})
        with working(settings) as (site, _):
            scheduler = OrderScheduler(site, Jobs(lambda: None), {})
            assert not scheduler._can_receive()
            reports(site, "modalities")
            assert not scheduler._can_receive()
            reports(site, "cdrecord")
            assert scheduler._can_receive()
            with site.ledger.transaction() as change:
                change.execute(update(node).values(lost_at=1.0))
            assert not scheduler._can_receive()
