"""A node claims as many studies as its processes can do with, and leaves to others what is theirs."""

import threading

import pytest
from sqlalchemy import update
from support.machine.dicom_programs import wait_until
from support.sites import ledger_place
from support.sites.line_site import RECEIVER, arrive, folder_of, instance, node_settings, rounds, states, working

from pipeline.ledger.tables import node
from pipeline.line import gather, line, work_ahead
from pipeline.line.prepare_study import PreparedAhead
from pipeline.line.work_ahead import WorkAhead
from pipeline.schedule import due_at

pytestmark = pytest.mark.programs
J2K = {"name": "nowhere", "kind": "null", "encode": "j2k"}
COUNT = 5


@pytest.fixture
def on_server(postgresql_server):
    with ledger_place.on(postgresql_server):
        yield


@pytest.fixture
def running(on_server, tmp_path):
    with working(node_settings(tmp_path, "a", destinations=(J2K,))) as (site, worker):
        yield site, worker


@pytest.fixture
def other(running, tmp_path):
    """A second node, with the store of the first."""
    settings = node_settings(tmp_path / "b", "b", store=tmp_path / "store", destinations=(J2K,))
    with working(settings) as (site, worker):
        yield site, worker


def identify_one(site, worker, folder, monkeypatch, age: float = 60.0) -> None:
    """Let a node take in a study, which is not prepared."""
    monkeypatch.setattr(line, "prepare_study", lambda *_: iter(()))
    arrive(site.spool, instance(folder), age=age)
    rounds(worker, until=lambda: states(site, "instances") == {"received": 1})


def test_a_node_claims_one_study_more_than_it_has_processes_until_they_take_long(running, tmp_path, monkeypatch):
    site, worker = running
    go_on, claimed = threading.Event(), []

    def prepared_slowly(study, *_):
        claimed.append(study.study_instance_uid)
        go_on.wait(60)
        return iter(())

    monkeypatch.setattr(line, "prepare_study", prepared_slowly)
    try:
        for number in range(COUNT):
            arrive(site.spool, instance(tmp_path, f"f{number}", StudyInstanceUID=f"1.2.{number + 1}"))
        wait_until(lambda: worker.round() or states(site, "instances").get("received") == COUNT, what="all of it")
        for _ in range(5):
            worker.round()
        assert len(claimed) == site.pool.size + 1
        monkeypatch.setattr(line, "LONG_SECONDS", 0.0)
        wait_until(lambda: worker.round() or len(claimed) == COUNT, what="the others")
    finally:
        go_on.set()


def test_a_study_that_another_node_at_work_brought_is_left_to_it_for_a_moment(
    running, other, tmp_path, monkeypatch
):
    identify_one(*running, tmp_path, monkeypatch)
    site, worker = other
    (study,) = gather.look_at_rooms(site).waiting
    due = due_at(study.newest_file_at, study.first_admitted_at, RECEIVER["quiet_seconds"], 3600)

    def is_taken(seconds: float) -> bool:
        monkeypatch.setattr(gather.time, "time", lambda: due + seconds)
        seen = gather.look_at_rooms(site)
        return bool(list(gather.complete_studies(seen, site, worker._agenda, gather.UnreadArrivals(), ())))

    assert not is_taken(gather.LEFT_SECONDS + 1), "when it reported last it had it at its door"
    reports(running[1])
    assert not is_taken(gather.LEFT_SECONDS - 1)
    assert is_taken(gather.LEFT_SECONDS + 1)
    seen_at(site, due)
    assert not is_taken(gather.LEFT_SECONDS + 1), "it has not reported since"
    reports(running[1])
    with site.ledger.transaction() as change:
        change.execute(update(node).where(node.c.name == "a").values(lost_at=1.0))
    assert is_taken(gather.LEFT_SECONDS - 1), "it does not see to it any more"


def reports(worker) -> None:
    worker._heartbeat._next = 0.0
    worker._heartbeat.beat()


def seen_at(site, moment: float) -> None:
    with site.ledger.transaction() as change:
        change.execute(update(node).where(node.c.name == "a").values(seen=moment))


@pytest.mark.parametrize("is_listed", [True, False])
def test_a_study_waits_for_what_another_node_has_of_it_at_its_door(
    running, other, tmp_path, monkeypatch, is_listed
):
    """One node brought the first part, which it would take now; to the other one the second part comes in."""
    identify_one(*running, tmp_path, monkeypatch)
    site, worker = running
    (study,) = gather.look_at_rooms(site).waiting
    uid = study.study_instance_uid if is_listed else "1.2.3"
    folder_of(other[0].spool, instance(tmp_path, "more", StudyInstanceUID=uid), name=f"S_{uid}")
    reports(other[1])
    seen = gather.look_at_rooms(site)
    taken = list(gather.complete_studies(seen, site, worker._agenda, gather.UnreadArrivals(), ()))
    assert bool(taken) is not is_listed


def test_a_study_waits_for_no_other_one_that_is_being_handed_over(running, tmp_path, monkeypatch):
    site, worker = running
    identify_one(*running, tmp_path, monkeypatch)
    arrive(site.spool, instance(tmp_path, "other", StudyInstanceUID="1.2.9"))
    taken = []
    monkeypatch.setattr(line, "admit", lambda *_: None)
    monkeypatch.setattr(line, "prepare_study", lambda study, *_: taken.append(study) or iter(()))
    wait_until(lambda: worker.round() or taken, what="the study")


def test_only_the_node_that_brought_a_study_prepares_it_ahead_and_only_until_it_is_due(
    running, other, tmp_path, monkeypatch
):
    identify_one(*running, tmp_path, monkeypatch)

    def is_prepared(site, *, is_due: bool) -> bool:
        monkeypatch.setattr(work_ahead, "is_due", lambda *_: is_due)
        prepared = PreparedAhead()
        WorkAhead(site, lambda *_: False, prepared=prepared).look()
        return bool(prepared._results)

    assert not is_prepared(other[0], is_due=False)
    assert not is_prepared(running[0], is_due=True)
    assert is_prepared(running[0], is_due=False)
