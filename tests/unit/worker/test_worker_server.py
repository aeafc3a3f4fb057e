"""What the loop does while the ledger's server cannot be reached, and after a standby has taken its place."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.machine.dicom_programs import wait_until
from support.sites.line_site import all_settled, arrive, instance, rounds, settings_for, states, working

from pipeline.errors import Transient
from pipeline.ledger import Ledger
from pipeline.processes.jobs import JobKey, JobKind
from pipeline.spool.spool import Spool
from pipeline.worker import worker as loop
from pipeline.worker.heartbeat import LedgerReplaced


def look_anew(worker) -> None:
    """Have the worker report in its next round, whenever it did last."""
    worker._heartbeat._next = 0.0


def test_a_node_that_could_not_report_does_nothing_that_needs_the_ledger_before_it_has(
    tmp_path, monkeypatch, caplog
):
    with working(settings_for(tmp_path)) as (_, worker):
        monkeypatch.setattr(Spool, "has_store", property(lambda _: True))
        worker._heartbeat.failure = Transient("the server does not answer")
        assert set(worker._questions(is_whole=True)) == {"sweep"}
        assert set(worker._questions(is_whole=True)) == {"sweep"}
        assert caplog.text.count("held what=report") == 1
        worker._heartbeat.failure = None
        assert {"take over", "admit", "deliver"} <= set(worker._questions(is_whole=True))


def test_after_a_standby_took_over_nothing_begins_before_the_rooms_are_compared(tmp_path, monkeypatch, caplog):
    may_end = threading.Event()
    with working(settings_for(tmp_path)) as (site, worker), ThreadPoolExecutor(1) as threads:
        monkeypatch.setattr(Ledger, "history", lambda _: "00000002")
        worker._jobs.start(threads, JobKey(JobKind.PROCESS, "1.2"), lambda: may_end.wait(60))
        arrive(site.spool, instance(tmp_path))
        try:
            for _ in range(3):
                look_anew(worker)
                worker.round()
            assert states(site, "arrivals") == {}, "what is in hand has not ended"
        finally:
            may_end.set()
        wait_until(worker.is_idle, what="the job")
        rounds(worker, until=all_settled(site))
        assert caplog.text.count("ledger-replaced ") == 1
        assert "now=00000002" in caplog.text


def test_after_a_standby_took_over_work_that_takes_too_long_ends_the_worker(tmp_path, monkeypatch):
    may_end = threading.Event()
    monkeypatch.setattr(loop, "LONGEST_JOBS_SECONDS", 0.0)
    with working(settings_for(tmp_path)) as (_, worker), ThreadPoolExecutor(1) as threads:
        monkeypatch.setattr(Ledger, "history", lambda _: "00000002")
        worker._jobs.start(threads, JobKey(JobKind.PROCESS, "1.2"), lambda: may_end.wait(60))
        try:
            look_anew(worker)
            worker.round()
            with pytest.raises(LedgerReplaced) as ended:
                worker.round()
        finally:
            may_end.set()
    assert ended.value.exit_code == 75


def test_a_node_that_drains_leaves_the_orders_to_others_once_its_own_steps_have_ended(tmp_path, monkeypatch):
    left: list[str] = []
    may_end = threading.Event()
    monkeypatch.setattr(Ledger, "leave", lambda _, subject: left.append(subject))
    with working(settings_for(tmp_path)) as (_, worker), ThreadPoolExecutor(1) as threads:
        worker._heartbeat.is_draining = True
        worker._jobs.start(threads, JobKey(JobKind.ORDER, 1), lambda: may_end.wait(60))
        try:
            assert "orders" not in worker._questions(is_whole=True)
            assert left == [], "another node would find or prepare the same order"
        finally:
            may_end.set()
        wait_until(worker.is_idle, what="the step")
        worker._questions(is_whole=True)
        assert left == ["orders"]
