"""Whoever changes what other workers may do says so in the same transaction, by the lane that it concerns."""

from contextlib import contextmanager

from sqlalchemy import Connection, update
from support.sites.line_site import arrive, instance, rounds, settings_for, states, working
from support.sites.placed_orders import order, settings_with_pacs

from pipeline.engine.alone import Alone
from pipeline.ledger import nodes
from pipeline.ledger.nodes import NodeReport
from pipeline.ledger.tables import delivery, node
from pipeline.operate.drain import drain, forget
from pipeline.operate.pause import pause, resume
from pipeline.operate.reroute import discard, reroute
from pipeline.operate.retry import retry
from pipeline.orders.finish import cancel
from pipeline.worker.take_over import take_over


class Recording(Alone):
    """Keep the lanes that are rung, and see that each is within a transaction that writes."""

    def __init__(self) -> None:
        self.lanes: list[str] = []

    def ring(self, change: Connection, lane: str) -> None:
        assert change.in_transaction() or change.connection.dbapi_connection.in_transaction
        self.lanes.append(lane)

    def heard(self) -> set[str]:
        """Return the lanes since the last call."""
        found, self.lanes = set(self.lanes), []
        return found


@contextmanager
def recorded(settings):
    with working(settings) as (site, worker):
        site.ledger.engine = Recording()
        yield site, worker, site.ledger.engine


def test_what_was_admitted_and_what_is_to_be_delivered(tmp_path):
    with recorded(settings_for(tmp_path)) as (site, worker, engine):
        arrive(site.spool, instance(tmp_path))
        rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 1})
        assert engine.heard() == {"intake/modalities", "deliver/nowhere"}


def test_what_a_person_decides(tmp_path):
    with recorded(settings_for(tmp_path)) as (site, worker, engine):
        arrive(site.spool, instance(tmp_path))
        rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 1})
        engine.heard()

        def stand(state: str, destination: str = "nowhere") -> None:
            with site.ledger.transaction() as change:
                change.execute(update(delivery).values(state=state, destination=destination))

        pause(site.settings, site.ledger, "nowhere", "its disk is full")
        assert engine.heard() == {"deliver/nowhere"}
        resume(site.settings, site.ledger, "nowhere")
        assert engine.heard() == {"deliver/nowhere"}
        for named, lane in (("nowhere", "deliver/nowhere"), (None, "deliver")):
            stand("refused")
            retry(site.ledger, None, named, release_guard=False)
            assert engine.heard() == {lane}
        stand("waiting", "gone")
        reroute(site.settings, site.ledger, "gone", "nowhere")
        assert engine.heard() == {"deliver/nowhere"}
        stand("waiting", "gone")
        discard(site.settings, site.ledger, "gone", "nobody needs it")
        assert engine.heard() == {"settle"}


def test_what_becomes_of_nodes(tmp_path):
    with recorded(settings_for(tmp_path)) as (site, _, engine):
        with site.ledger.transaction() as change:
            nodes.report(change, NodeReport("other", "other", "1.0", (), 0, ""))
            change.execute(update(node).values(seen=0.0))
        for undo in (False, True):
            drain(site.settings, site.ledger, "other", undo=undo)
            assert engine.heard() == {"nodes"}
        take_over("other", site)
        assert engine.heard() == {"deliver", "process", "orders/desk"}
        forget(site.settings, site.ledger, "other")
        assert engine.heard() == {"nodes"}


def test_an_order_that_is_placed_or_cancelled_and_not_one_that_is_shared(tmp_path):
    with recorded(settings_with_pacs(tmp_path)) as (site, _, engine):
        number = order(site, "A1").order_id
        assert engine.heard() == {"orders/desk"}
        order(site, "A1")
        assert engine.heard() == set()
        cancel(site.ledger, number, "nobody needs it")
        assert engine.heard() == {"orders/desk"}
