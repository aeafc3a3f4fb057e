import os
import signal
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.errors import Permanent, Transient
from pipeline.processes.workshop import Workshop, WorkshopProcessDied, memory_bound


@pytest.fixture
def workshop():
    with closing(Workshop(2)) as shop:
        yield shop


def test_answers_come_in_the_order_of_the_tasks(workshop):
    assert [answer for _, answer in workshop.each(abs, range(-9, 0))] == list(range(9, 0, -1))


def test_an_error_of_one_task_is_its_answer_and_the_others_go_on(workshop):
    answers = dict(workshop.each(int, ["1", "x", "3"]))
    assert (answers["1"], answers["3"]) == (1, 3)
    assert isinstance(answers["x"], WorkshopProcessDied)
    assert "ValueError" in str(answers["x"])


def test_the_text_of_a_bug_is_not_told_because_it_may_name_a_patient(workshop):
    ((_, answer),) = workshop.each(int, ["DOE^JOHN"])
    assert "DOE" not in str(answer)


def test_a_task_that_kills_its_process_twice_is_blamed_and_nothing_else(workshop):
    answers = dict(workshop.each(os._exit, [3]))
    assert isinstance(answers[3], WorkshopProcessDied)
    assert dict(workshop.each(abs, [-1])) == {-1: 1}


def test_a_process_killed_from_outside_costs_nothing(tmp_path):
    with closing(Workshop(1)) as shop:
        assert dict(shop.each(abs, [-1])) == {-1: 1}
        (hand,) = shop._all
        os.kill(hand._process.pid, signal.SIGKILL)
        assert dict(shop.each(abs, [-2])) == {-2: 2}


def test_a_task_over_its_time_limit_is_stopped():
    with closing(Workshop(1, time_limit_seconds=0.5)) as shop:
        ((_, answer),) = shop.each(time.sleep, [60])
        assert "longer than" in str(answer)
        assert dict(shop.each(abs, [-1])) == {-1: 1}


def test_a_full_disk_is_not_the_fault_of_the_instance(workshop):
    ((_, answer),) = workshop.each(os.listdir, ["/no/such/folder"])
    assert isinstance(answer, Transient)


def test_a_file_that_ends_too_early_is_the_fault_of_the_instance_and_not_tried_for_ever(workshop):
    ((_, answer),) = workshop.each(exec, ['raise OSError("No tag to read at file position 51C")'])
    assert isinstance(answer, WorkshopProcessDied)
    assert "OSError" in str(answer)


linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's memory")


@linux
def test_a_task_that_wants_more_than_its_share_of_the_memory_gets_none_and_the_next_is_done(workshop):
    answers = dict(workshop.each(bytearray, [memory_bound(), 1]))
    assert "not enough memory" in str(answers[memory_bound()])
    assert answers[1] == b"\0"


@linux
def test_the_kernel_ends_a_process_of_the_workshop_before_any_other_of_ours(workshop):
    score = Path("/proc/self/oom_score_adj")
    assert dict(workshop.each(Path.read_text, [score])) == {score: "1000\n"}


def test_a_closed_workshop_blames_no_instance():
    shop = Workshop(1)
    tasks = shop.each(time.sleep, [0.01, 60])
    next(tasks)
    shop.close()
    with pytest.raises(Exception, match=r"^$|closed") as raised:
        list(tasks)
    assert not isinstance(raised.value, Permanent | WorkshopProcessDied)
