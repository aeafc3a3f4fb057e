"""A node reports every few seconds, and at once where a person has decided about a node."""

import pytest
from support.sites.line_site import settings_for, working

from pipeline.engine import NODES, ORDERS
from pipeline.ledger import nodes
from pipeline.operate.drain import drain
from pipeline.worker.heartbeat import Heartbeat


@pytest.mark.parametrize(("lane", "sees_it"), [(NODES, True), (ORDERS, False)])
def test_a_node_sees_that_it_drains_as_soon_as_it_hears_of_nodes(tmp_path, lane, sees_it):
    with working(settings_for(tmp_path)) as (site, _):
        heartbeat = Heartbeat(site)
        heartbeat.beat()
        with site.ledger.reading() as look:
            (own,) = (node.report.name for node in nodes.known(look))
        drain(site.settings, site.ledger, own)
        heartbeat.hear(lane)
        heartbeat.beat()
        assert heartbeat.is_draining is sees_it
