"""A person takes a node out of the work, and forgets one that is lost; `status` shows the nodes."""

import platform

import pytest
from sqlalchemy import update
from support.sites.line_site import arrive, instance, settings_for, states, working

from pipeline.errors import Usage
from pipeline.ledger import claims, nodes
from pipeline.ledger.claims import Claimant
from pipeline.ledger.nodes import NodeReport
from pipeline.ledger.tables import node
from pipeline.operate.drain import drain, forget
from pipeline.operate.status import status
from pipeline.worker import worker as loop

HERE = platform.node()


def test_a_worker_that_drains_admits_and_does_nothing_else_until_it_takes_work_again(tmp_path):
    with working(settings_for(tmp_path)) as (site, worker):
        worker.round()
        assert drain(site.settings, site.ledger) == HERE
        worker._heartbeat._next = 0.0
        worker.round()
        arrive(site.spool, instance(tmp_path))
        for _ in range(5):
            worker.round()
            assert all(key.kind == "admit" for key in worker._jobs.running())
        assert drain(site.settings, site.ledger, HERE, undo=True) == HERE
        worker._heartbeat._next = 0.0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "POLL_SECONDS", 0.1)
            worker.run(until_idle=True)
        assert states(site, "deliveries") == {"delivered": 1}
        (one,) = status(site.settings, site.ledger)["nodes"]
        assert (one["name"], one["state"], one["in_hand"]) == (HERE, "up", 0)


def test_only_a_lost_node_that_has_nothing_in_hand_is_forgotten(tmp_path):
    with working(settings_for(tmp_path)) as (site, worker):
        worker.round()
        with site.ledger.transaction() as change:
            nodes.report(change, NodeReport("other", "other", "1.0", ("modalities",), 1, ""))
            token = claims.claim_study(change, "r", "1.1", Claimant("other", "other"))
        with pytest.raises(Usage, match=r"other reported 0 s ago; only a node that is lost"):
            forget(site.settings, site.ledger, "other")
        with site.ledger.transaction() as change:
            change.execute(update(node).where(node.c.name == "other").values(seen=node.c.seen - 40))
        shown = {one["name"]: one for one in status(site.settings, site.ledger)["nodes"]}
        assert (shown["other"]["state"], shown["other"]["in_hand"], shown["other"]["at_the_door"]) == (
            "lost",
            1,
            1,
        )
        assert shown["other"]["seen_seconds"] >= 40
        with pytest.raises(Usage, match="has 1 in hand"):
            forget(site.settings, site.ledger, "other")
        with site.ledger.transaction() as change:
            claims.release_study(change, token)
        forget(site.settings, site.ledger, "other")
        assert [one["name"] for one in status(site.settings, site.ledger)["nodes"]] == [HERE]
        for run in (
            lambda: forget(site.settings, site.ledger, "other"),
            lambda: drain(site.settings, site.ledger, "x"),
        ):
            with pytest.raises(Usage, match="there is no node"):
                run()
