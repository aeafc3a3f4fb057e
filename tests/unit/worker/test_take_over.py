"""What a node had in hand that reports no more is due again, and who has it still writes nothing."""

import re
import time
from dataclasses import replace

import pytest
from sqlalchemy import insert, select, update
from support.sites.line_site import settings_for, working

from pipeline.ledger import claims, deliveries, nodes, retrievals
from pipeline.ledger.claims import Claimant, Fenced
from pipeline.ledger.nodes import NodeReport
from pipeline.ledger.tables import attempt, delivery, node
from pipeline.model import RetrievalState
from pipeline.site.node import LOST_AFTER_SECONDS
from pipeline.site.worker_state import BEAT_SECONDS
from pipeline.spool.spool import Spool
from pipeline.worker import heartbeat
from pipeline.worker.heartbeat import Heartbeat
from pipeline.worker.take_over import leave, take_over

DEAD = Claimant("dead", "node-dead")


@pytest.fixture
def site(tmp_path):
    with working(settings_for(tmp_path)) as (site, _):
        with site.ledger.transaction() as change:
            values = {"receiver": "r", "study_instance_uid": "1.1", "created_at": 0.0, "due_at": 0.0}
            change.execute(insert(delivery).values(id=1, destination="d", state="waiting", **values))
            retrievals.enter(change, "1.1", (), (), 1.0)
            nodes.report(change, NodeReport("node-dead", "dead", "1.0", (), 3, ""))
        yield site


def claim_everything(site):
    with site.ledger.transaction() as change:
        sent = deliveries.claim(change, 1, 1.0, DEAD, slots=1)
        study = claims.claim_study(change, "r", "1.1", DEAD)
        moving = retrievals.begin(change, 1, DEAD, 1.0)
    return sent, study, moving


def fall_silent(site, seconds: float = LOST_AFTER_SECONDS) -> None:
    with site.ledger.transaction() as change:
        change.execute(update(node).where(node.c.name == "node-dead").values(seen=node.c.seen - seconds))


@pytest.mark.both_databases
def test_what_a_lost_node_had_in_hand_is_due_again_and_its_claims_are_fenced(site, caplog):
    sent, study, moving = claim_everything(site)
    fall_silent(site)
    take_over("node-dead", site)
    with site.ledger.transaction() as change:
        assert deliveries.due(change, "d", 2e9, at_most=9) == [1]
        assert change.scalar(select(attempt.c.reason)) == deliveries.INTERRUPTED
        assert claims.claim_study(change, "r", "1.1", site.claimant)
        assert retrievals.row(change, 1).state == RetrievalState.RECEIVING
        for fenced in (
            lambda: claims.require_delivery(change, sent),
            lambda: claims.require_study(change, study),
            lambda: retrievals.require(change, moving),
        ):
            with pytest.raises(Fenced):
                fenced()
    assert re.search(r"node-lost node=node-dead seconds=3\d\.\d at_the_door=3", caplog.text)
    here = site.claimant.node
    assert f"taken-over node=node-dead by={here} deliveries=1 studies=1 retrievals=1" in caplog.text
    caplog.clear()
    take_over("node-dead", site)
    assert caplog.text == ""


def test_a_node_that_has_reported_meanwhile_keeps_what_it_has(site):
    claim_everything(site)
    take_over("node-dead", site)
    with site.ledger.reading() as look:
        assert deliveries.sending(look, "dead") == {1}


def test_the_worker_that_reports_finds_the_silent_node_and_takes_over_in_its_next_round(site, tmp_path):
    claim_everything(site)
    beats = Heartbeat(site)
    beats.beat()
    assert beats.silent == []
    fall_silent(site)
    beats.beat()
    assert beats.silent == [], "not more often than every few seconds"
    beats = Heartbeat(site)
    beats.beat()
    assert beats.silent == ["node-dead"]


def test_a_report_says_what_is_up_and_what_is_at_the_door_and_is_told_of_a_drain(site):
    other = replace(site, claimant=Claimant("w", "node-w"))
    (other.spool.incoming_of("modalities") / "study_1").mkdir(parents=True)
    beats = Heartbeat(other)
    beats.beat()
    assert not beats.is_draining
    with site.ledger.transaction() as change:
        found = next(one for one in nodes.known(change) if one.report.name == "node-w")
        nodes.drain(change, "node-w", draining=True)
    assert (found.report.worker, found.report.receivers, found.report.at_the_door) == ("w", (), 1)
    beats = Heartbeat(other)
    beats.beat()
    assert beats.is_draining


@pytest.mark.both_databases
def test_what_a_node_leaves_when_it_ends_is_due_at_once_and_it_does_not_count_as_at_work(site):
    sent, _, _ = claim_everything(site)
    left = replace(site, claimant=DEAD, spool=Spool(site.spool.root, site.spool.root / "store"))
    leave(left)
    with site.ledger.transaction() as change:
        assert deliveries.next_due(change, "d", 0.0) < time.time() + LOST_AFTER_SECONDS / 2
        assert deliveries.next_due(change, "d", time.time()) is not None, "its process may still send for a moment"
        assert claims.claim_study(change, "r", "1.1", site.claimant)
        with pytest.raises(Fenced):
            claims.require_delivery(change, sent)
        assert nodes.others(change, "worker").at_work == set()
        assert nodes.silent(change, "worker", 0.0) == []
        nodes.report(change, NodeReport("node-dead", "dead", "1.0", (), 0, ""))
        assert nodes.others(change, "worker").at_work == {"node-dead"}


def test_a_node_that_could_not_report_itself_takes_nobody_for_silent(site, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now[0])
    beating = Heartbeat(site)
    fall_silent(site)
    now[0] += LOST_AFTER_SECONDS
    beating.beat()
    assert beating.silent == [], "what stopped this node may have stopped that one"
    for _ in range(2):
        now[0] += BEAT_SECONDS
        beating.beat()
    assert beating.silent == ["node-dead"]
