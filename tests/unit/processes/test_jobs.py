"""The table of jobs: one key runs once, what failed waits, and a stale list starts nothing."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.processes import jobs
from pipeline.processes.jobs import JobKey, JobKind, Jobs

KEY = JobKey(JobKind.DELIVER, 5, "archive")


@pytest.fixture
def executor():
    with ThreadPoolExecutor(2) as found:
        yield found


def fail() -> None:
    raise OSError("the disk is full")


def test_a_key_says_in_the_log_what_is_done_where_and_about_what():
    assert str(KEY) == "deliver archive 5"
    assert str(JobKey(JobKind.TIDY)) == "tidy"


def test_a_job_runs_once_at_a_time_and_its_end_wakes_the_loop(executor):
    woken, may_end = threading.Event(), threading.Event()
    table = Jobs(woken.set)
    assert table.start(executor, KEY, may_end.wait)
    assert not table.start(executor, KEY, may_end.wait)
    assert table.running() == {KEY}
    may_end.set()
    assert woken.wait(10)
    assert table.running() == set()
    assert table.start(None, KEY, lambda: None)


def test_a_job_that_ended_since_the_list_was_begun_is_not_started_by_that_list(executor):
    woken, may_end = threading.Event(), threading.Event()
    table = Jobs(woken.set)
    table.start(executor, KEY, may_end.wait)
    table.begin_list()
    may_end.set()
    assert woken.wait(10)
    assert not table.start(None, KEY, lambda: None)
    assert table.running_since_list() == {KEY}
    table.begin_list()
    assert table.start(None, KEY, lambda: None)


def test_a_job_that_failed_is_left_alone_for_a_while_and_tried_again(monkeypatch):
    table, ran = Jobs(lambda: None), []
    assert table.start(None, KEY, fail)
    assert table.failed(JobKind.DELIVER) == [KEY]
    assert table.failed(JobKind.ADMIT) == []
    assert not table.start(None, KEY, lambda: ran.append(KEY))
    table.take_step(KEY, lambda: ran.append(KEY))
    assert ran == []
    monkeypatch.setattr(jobs, "RETRY_SECONDS", 0.0)
    other = JobKey(JobKind.DELIVER, 6, "archive")
    table.start(None, other, fail)
    assert table.start(None, other, lambda: ran.append(other))
    assert ran == [other]
    assert table.failed(JobKind.DELIVER) == [KEY]


def test_a_job_that_no_thread_can_run_is_not_in_the_table():
    table, closed = Jobs(lambda: None), ThreadPoolExecutor(1)
    closed.shutdown()
    with pytest.raises(RuntimeError):
        table.start(closed, KEY, lambda: None)
    assert table.running() == set()
    assert table.start(None, KEY, lambda: None)


def test_who_ends_reports_no_failure_of_what_is_running_still(caplog):
    table = Jobs(lambda: None)
    table.close()
    table.start(None, KEY, fail)
    assert caplog.records == []
    assert table.failed(JobKind.DELIVER) == []
