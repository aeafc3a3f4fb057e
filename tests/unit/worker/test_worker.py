"""The loop sleeps until the next thing is due, and no longer."""

import errno
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydicom.uid import generate_uid
from support.machine.dicom_programs import wait_until
from support.sites.line_site import arrive, instance, rounds, settings_for, states, working

from pipeline.line import line
from pipeline.line.settle import settle
from pipeline.processes.jobs import JobKey, JobKind
from pipeline.schedule import Agenda, due_at, is_due
from pipeline.worker import heartbeat
from pipeline.worker import worker as loop

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("moments", "seconds"),
    [((), 5.0), ((3,), 3.0), ((3, 1), 1.0), ((60,), 5.0), ((-1,), 5.0), ((0,), 5.0)],
)
def test_it_sleeps_until_the_earliest_moment_named_and_never_longer_than_it_must_look_anyway(moments, seconds):
    agenda = Agenda()
    agenda.at(NOW + 0.5)
    agenda.begin()
    for moment in moments:
        agenda.at(NOW + moment)
    assert agenda.seconds(NOW, 5.0) == seconds


def test_at_the_moment_named_the_study_is_due_and_before_it_is_not():
    for newest, first, quiet, at_most in ((NOW, NOW, 10, 900), (NOW + 895, NOW, 10, 900), (NOW, NOW - 1, 5, 3)):
        moment = due_at(newest, first, quiet, at_most)
        assert is_due(moment, newest, first, quiet, at_most)
        assert not is_due(moment - 0.001, newest, first, quiet, at_most)


def running(worker):
    thread = threading.Thread(target=worker.run)
    thread.start()
    return thread


def test_a_study_is_delivered_as_soon_as_it_is_quiet_although_the_loop_looks_seldom(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "POLL_SECONDS", 600.0)  # so long it would take, and that no busy machine does
    with working(settings_for(tmp_path)) as (site, worker):
        thread = running(worker)
        try:
            began = time.monotonic()
            arrive(site.spool, instance(tmp_path), age=-1.0)
            wait_until(lambda: states(site, "deliveries") == {"delivered": 1}, seconds=100, what="the study")
            assert time.monotonic() - began > 1.5
        finally:
            worker.stop()
            thread.join(30)


def test_a_receiver_whose_incoming_folder_cannot_be_listed_stops_no_other(tmp_path, monkeypatch, caplog):
    with working(settings_for(tmp_path)) as (site, worker):
        broken = site.spool.incoming / "broken"
        broken.mkdir()
        monkeypatch.setattr(
            heartbeat, "leftovers", lambda _: list(broken.iterdir())
        )  # As of one that is configured.
        listed = os.scandir, os.listdir

        def entries(of, folder):
            if Path(folder) == broken:
                raise OSError(errno.EIO, "input/output error", str(folder))
            return of(folder)

        monkeypatch.setattr(os, "scandir", partial(entries, listed[0]))
        monkeypatch.setattr(os, "listdir", partial(entries, listed[1]))
        arrive(site.spool, instance(tmp_path))
        rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 1}, seconds=60)
        monkeypatch.undo()
    assert any("sweep broken" in record.getMessage() for record in caplog.records)


def test_what_was_put_off_is_tried_when_its_time_has_come_although_the_loop_looks_seldom(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "POLL_SECONDS", 600.0)
    (tmp_path / "shelf").mkdir()
    shelf = {"name": "shelf", "kind": "folder", "folder": str(tmp_path / "shelf")}
    with working(settings_for(tmp_path, destinations=[shelf])) as (site, worker):
        (tmp_path / "shelf").rename(tmp_path / "away")
        thread = running(worker)
        try:
            arrive(site.spool, instance(tmp_path))
            wait_until(lambda: states(site, "deliveries") == {"deferred": 1}, what="the study to be put off")
            (tmp_path / "away").rename(tmp_path / "shelf")
            wait_until(
                lambda: states(site, "deliveries") == {"delivered": 1}, seconds=100, what="the next attempt"
            )
        finally:
            worker.stop()
            thread.join(30)


def test_a_study_is_delivered_while_another_arrival_is_being_settled(tmp_path, monkeypatch):
    may_settle = threading.Event()
    monkeypatch.setattr(line, "settle", lambda name, site: may_settle.wait(60) and settle(name, site))
    with working(settings_for(tmp_path)) as (site, worker):
        thread = running(worker)
        try:
            arrive(site.spool, instance(tmp_path))
            wait_until(lambda: states(site, "deliveries") == {"delivered": 1}, what="the first study")
            arrive(site.spool, instance(tmp_path, "b", StudyInstanceUID=generate_uid()))
            wait_until(lambda: states(site, "deliveries") == {"delivered": 2}, what="the second study")
            may_settle.set()
            wait_until(lambda: states(site, "arrivals") == {"settled": 2}, what="both to be settled")
        finally:
            may_settle.set()
            worker.stop()
            thread.join(30)


def test_between_two_rounds_the_loop_leaves_the_processor_to_the_jobs_four_times_as_long_as_a_round_took(
    tmp_path, monkeypatch
):
    with working(settings_for(tmp_path)) as (_, worker):
        took, paused = iter((0.02, 0.5, 0.0)), []

        def a_round(*, is_whole: bool) -> None:
            clock.now += next(took)
            worker._wake.set()

        def pause(seconds: float) -> bool:
            paused.append(round(seconds, 3))
            if len(paused) == 3:
                worker.stop()
            return False

        clock = SimpleNamespace(now=100.0)
        clock_of_loop = SimpleNamespace(time=time.time, monotonic=lambda: clock.now)
        monkeypatch.setattr(loop, "time", clock_of_loop)
        monkeypatch.setattr(worker, "round", a_round)
        monkeypatch.setattr(worker._stopping, "wait", pause)
        worker.run()
        assert paused == [0.08, loop.LONGEST_PAUSE, 0.0]


def test_a_job_that_ends_long_after_the_last_round_is_seen_at_once(tmp_path, monkeypatch):
    with working(settings_for(tmp_path)) as (_, worker):
        paused = []

        def a_round(*, is_whole: bool) -> None:
            clock.now += 0.02

        def wake_after_a_while(_: float) -> bool:
            clock.now += 0.05
            return True

        def pause(seconds: float) -> bool:
            paused.append(round(seconds, 3))
            worker.stop()
            return False

        clock = SimpleNamespace(now=100.0)
        clock_of_loop = SimpleNamespace(time=time.time, monotonic=lambda: clock.now)
        monkeypatch.setattr(loop, "time", clock_of_loop)
        monkeypatch.setattr(worker, "round", a_round)
        monkeypatch.setattr(worker._wake, "wait", wake_after_a_while)
        monkeypatch.setattr(worker._stopping, "wait", pause)
        worker.run()
        assert paused == [0.03]


def test_only_some_rounds_are_whole_the_first_those_a_command_asks_for_and_one_each_few_seconds(
    tmp_path, monkeypatch
):
    with working(settings_for(tmp_path)) as (_, worker):
        rounds_made = []
        # What happens after each round: a job ends, a command wakes the worker, time passes.
        then = iter((worker._wake.set, worker._ask_all, worker._wake.set, partial(pass_time, 5.0), worker.stop))

        def a_round(*, is_whole: bool) -> None:
            rounds_made.append(is_whole)

        def wait(_: float) -> bool:
            next(then)()
            return False

        monkeypatch.setattr(loop, "time", SimpleNamespace(time=time.time, monotonic=lambda: clock.now))
        monkeypatch.setattr(clock, "now", 100.0)
        monkeypatch.setattr(worker, "round", a_round)
        monkeypatch.setattr(worker._wake, "wait", wait)
        worker.run()
        assert rounds_made == [True, False, True, False, True]


clock = SimpleNamespace(now=100.0)


def pass_time(seconds: float) -> None:
    clock.now += seconds


def test_arrivals_are_settled_between_whole_rounds_only_while_nothing_is_delivered(tmp_path):
    with working(settings_for(tmp_path)) as (_, worker):
        goes_on = threading.Event()
        assert "settle" in worker._questions(is_whole=False)
        with ThreadPoolExecutor(1) as executor:
            worker._jobs.start(executor, JobKey(JobKind.DELIVER, 1, "nowhere"), goes_on.wait)
            try:
                assert list(worker._questions(is_whole=False)) == ["admit", "identify", "gather", "deliver"]
                assert "settle" in worker._questions(is_whole=True)
            finally:
                goes_on.set()


def test_a_prepared_study_is_delivered_without_another_round(tmp_path, monkeypatch):
    with working(settings_for(tmp_path)) as (site, worker):
        arrive(site.spool, instance(tmp_path))
        with monkeypatch.context() as none_is_complete:
            none_is_complete.setattr(line, "complete_studies", lambda *_: iter(()))
            rounds(worker, until=lambda: states(site, "instances") == {"received": 1})
        worker.round()
        wait_until(lambda: states(site, "deliveries") == {"delivered": 1}, what="the delivery")
