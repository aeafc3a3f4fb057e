"""Tasks that are sent to a process together: what one of them does to the others."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from support.machine.dicom_programs import wait_until

from pipeline.errors import Transient
from pipeline.processes import bounded_process
from pipeline.processes.limits import ProcessLimits, memory_bound
from pipeline.processes.process_pool import OverLimit, PoolProcessDied, ProcessPool


@pytest.fixture
def shop():
    with closing(ProcessPool(1)) as pool:
        yield pool


def test_answers_come_in_the_order_of_the_tasks_and_a_bug_is_the_answer_of_its_task_alone(shop):
    tasks = [str(number) for number in range(40)]
    tasks[20] = "DOE^JOHN"
    answers = [answer for _, answer in shop.each(int, tasks, at_once=16)]
    assert isinstance(answers.pop(20), PoolProcessDied)
    assert answers == [number for number in range(40) if number != 20]


def test_they_are_few_at_first_so_that_every_process_begins_and_then_as_many_as_were_asked_for(tmp_path):
    sent = []
    with closing(ProcessPool(2)) as pool:
        submit = pool._submit
        pool._submit = lambda function, some, owner: sent.append(len(some)) or submit(function, some, owner)
        list(pool.each(abs, range(40), at_once=8))
    assert sent == [1, 1, 2, 2, 4, 4, 8, 8, 8, 2]


def test_a_large_one_is_sent_alone(shop):
    sent = []
    submit = shop._submit
    shop._submit = lambda function, some, owner: (
        sent.append([task for task, _ in some]) or submit(function, some, owner)
    )
    limits = lambda task: ProcessLimits(60, 1 << 30, is_large=task == 9)  # noqa: E731
    assert dict(shop.each(abs, [1, 2, 3, 9, 8, 7, 6], limits, 4)) == {n: n for n in (1, 2, 3, 9, 8, 7, 6)}
    assert sent == [[1], [2, 3], [9], [8, 7, 6]]


def test_one_that_takes_long_is_sent_alone_and_the_others_together(shop):
    sent = []
    submit = shop._submit
    shop._submit = lambda function, some, owner: (
        sent.append([task for task, _ in some]) or submit(function, some, owner)
    )
    answers = list(shop.each(abs, [1, 2, 3, 4, 5, 9, 8, 7], at_once=4, takes_long=lambda task: task > 7))
    assert [task for task, _ in answers] == [1, 2, 3, 4, 5, 9, 8, 7]
    assert sent == [[1], [2, 3], [4, 5], [9], [8], [7]]


def test_one_that_kills_its_process_is_blamed_and_the_others_are_done(shop):
    harmless = "__import__('os').getpid()"
    tasks = [harmless] * 8
    tasks[5] = "__import__('os')._exit(3)"
    answers = [answer for _, answer in shop.each(eval, tasks, at_once=8)]
    assert str(answers.pop(5)) == "the process that had it in hand died twice: exit code 3"
    assert all(isinstance(answer, int) for answer in answers)


def test_none_is_blamed_for_a_process_that_was_killed_once_from_outside(shop, tmp_path):
    (tmp_path / "first").touch()
    once = f"import os\nif os.path.exists({str(tmp_path / 'first')!r}): os.remove({str(tmp_path / 'first')!r})"
    kills = f"{once}; os.kill(os.getpid(), {signal.SIGKILL})"
    answers = [answer for _, answer in shop.each(exec, ["1", kills, "1", "1"], at_once=4)]
    assert answers == [None] * 4


def test_one_that_was_in_hand_at_a_death_of_several_still_has_two_attempts_of_its_own(shop, tmp_path):
    """The first death may be the fault of another of them, and the machine may kill a process a second time."""
    died = tmp_path / "died"
    dies_twice = (
        f"import os\nfd = os.open({str(died)!r}, os.O_CREAT | os.O_APPEND | os.O_RDWR)\nos.write(fd, b'x')\n"
        f"if os.fstat(fd).st_size <= 2: os.kill(os.getpid(), {signal.SIGKILL})"
    )
    answers = [answer for _, answer in shop.each(exec, ["1", "1", dies_twice], at_once=4)]
    assert answers == [None] * 3
    assert died.read_bytes() == b"xxx"


def test_one_that_wants_too_much_memory_is_blamed_and_those_after_it_are_done(shop):
    answers = [answer for _, answer in shop.each(bytearray, [1, 1, memory_bound(), 2], at_once=4)]
    assert isinstance(answers.pop(2), OverLimit)
    assert answers == [b"\0", b"\0", b"\0\0"]


def test_each_has_its_own_time_of_the_processor(monkeypatch, shop):
    monkeypatch.setattr(bounded_process, "SLOW_SECONDS", 60.0)
    some = "import time\nbegan = time.process_time()\nwhile time.process_time() < began + 0.4: pass"
    answers = shop.each(exec, [some] * 7, lambda _: ProcessLimits(1, 1 << 30), 4)
    assert [answer for _, answer in answers] == [None] * 7


def test_those_that_would_take_long_together_do_not_stop_another_caller(shop):
    with ThreadPoolExecutor(1) as threads:
        list(shop.each(abs, [1]))
        long = threads.submit(list, shop.each(time.sleep, [0.2] * 100, at_once=50))
        wait_until(lambda: shop._running)
        began = time.monotonic()
        assert list(shop.each(abs, [-1])) == [(-1, 1)]
        assert time.monotonic() - began < 5  # One trip is over after one or two of them, all take 20 s.
        assert not long.done()
        shop.close()


def test_what_has_not_begun_when_its_caller_stops_asking_is_not_done(shop, tmp_path):
    tasks = shop.each(exec, [f"open({str(tmp_path / str(number))!r}, 'x')" for number in range(20)])
    next(tasks)
    tasks.close()
    assert list(shop.each(abs, [-1])) == [(-1, 1)]  # What had begun is done now.
    assert len(list(tmp_path.iterdir())) <= 3


def test_where_no_process_can_be_started_now_each_of_them_is_put_off(shop, monkeypatch):
    def refuse(*_, **__):
        raise BlockingIOError(11, os.strerror(11))

    monkeypatch.setattr(bounded_process.subprocess, "Popen", refuse)
    answers = [answer for _, answer in shop.each(abs, range(4), at_once=4)]
    assert [type(answer) for answer in answers] == [Transient] * 4


def test_a_pool_closed_meanwhile_leaves_no_caller_waiting(shop, tmp_path):
    began = tmp_path / "began"
    with ThreadPoolExecutor(1) as threads:
        text = f"import pathlib, time\npathlib.Path({str(began)!r}).touch()\ntime.sleep(300)"
        waiting = threads.submit(list, shop.each(exec, [text] * 8, at_once=4))
        wait_until(Path(began).exists)
        shop.close()
        with pytest.raises(Exception, match=r"^$"):
            waiting.result(30)
