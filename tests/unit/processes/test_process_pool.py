import errno
import fractions
import os
import resource
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from support.machine.dicom_programs import wait_until

from pipeline.errors import Permanent, Transient
from pipeline.processes import bounded_process
from pipeline.processes import limits as of_tasks
from pipeline.processes.limits import ProcessLimits, memory_bound, to_encode, to_read
from pipeline.processes.process_pool import OverLimit, PoolProcessDied, ProcessPool


@pytest.fixture
def pool():
    with closing(ProcessPool(2)) as shop:
        yield shop


def test_answers_come_in_the_order_of_the_tasks(pool):
    assert [answer for _, answer in pool.each(abs, range(-9, 0))] == list(range(9, 0, -1))


def test_an_error_of_one_task_is_its_answer_and_the_others_go_on(pool):
    answers = dict(pool.each(int, ["1", "x", "3"]))
    assert (answers["1"], answers["3"]) == (1, 3)
    assert isinstance(answers["x"], PoolProcessDied)


def test_a_person_reads_words_of_a_bug_and_the_log_has_where_it_arose(pool, caplog):
    ((_, answer),) = pool.each(fractions.Fraction, ["x"])
    assert str(answer) == "a fault of this program ended its work on it; the log says where"
    assert "ValueError < fractions.py:" in caplog.text


def test_the_text_of_a_bug_is_not_told_because_it_may_name_a_patient(pool, caplog):
    ((_, answer),) = pool.each(int, ["DOE^JOHN"])
    assert "DOE" not in str(answer)
    assert "DOE" not in caplog.text


def test_a_task_that_kills_its_process_twice_is_blamed_and_nothing_else(pool):
    answers = dict(pool.each(os._exit, [3]))
    assert isinstance(answers[3], PoolProcessDied)
    assert dict(pool.each(abs, [-1])) == {-1: 1}


def test_a_process_killed_from_outside_costs_nothing(tmp_path):
    with closing(ProcessPool(1)) as shop:
        assert dict(shop.each(abs, [-1])) == {-1: 1}
        (process,) = shop._all
        os.kill(process.pid, signal.SIGKILL)
        assert dict(shop.each(abs, [-2])) == {-2: 2}


def test_where_no_process_can_be_started_now_the_task_is_put_off_and_not_blamed(monkeypatch):
    with closing(ProcessPool(1)) as shop:
        with monkeypatch.context() as full:
            full.setattr(bounded_process.subprocess, "Popen", refuse)
            open_before = len(list(Path("/proc/self/fd").iterdir()))
            ((_, answer),) = shop.each(abs, [-1])
            assert len(list(Path("/proc/self/fd").iterdir())) == open_before
        assert isinstance(answer, Transient)
        assert str(answer) == "no process can be started to open files: Resource temporarily unavailable"
        assert dict(shop.each(abs, [-1])) == {-1: 1}


def refuse(*_, **__):
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def test_a_task_that_takes_long_on_the_clock_only_is_put_off_and_not_blamed(impatient):
    with closing(ProcessPool(1)) as shop:
        ((_, answer),) = shop.each(time.sleep, [60], lambda _: ProcessLimits(0.1, 1 << 30))
        assert isinstance(answer, Transient)
        assert "longer than 1 s" in str(answer)
        assert dict(shop.each(abs, [-1])) == {-1: 1}


@pytest.fixture
def at_leisure(monkeypatch):
    """Allow a task more time on the clock, of which a busy machine gives the processor's for a small part."""
    monkeypatch.setattr(of_tasks, "TIMES_ON_THE_CLOCK", 100)


def test_a_task_that_takes_too_much_of_the_processor_is_blamed_at_the_second_try(at_leisure):
    with closing(ProcessPool(1)) as shop:
        (asked, answer), (_, next_answer) = shop.each(
            exec, ["while True: pass", "1"], lambda _: ProcessLimits(1, 1 << 30)
        )
        assert asked == "while True: pass"
        assert isinstance(answer, OverLimit)
        assert str(answer) == "the process that had it in hand needed more than 1 s of the processor's time, twice"
        assert next_answer is None


def test_the_processor_time_of_one_task_is_not_charged_to_the_next(at_leisure):
    half_a_second = "import time\nbegan = time.process_time()\nwhile time.process_time() < began + 0.5: pass"
    with closing(ProcessPool(1)) as shop:
        answers = shop.each(exec, [half_a_second] * 5, lambda _: ProcessLimits(1, 1 << 30))
        assert [answer for _, answer in answers] == [None] * 5


def test_a_process_of_the_pool_leaves_no_core():
    with closing(ProcessPool(1)) as shop:
        ((_, (soft, _)),) = shop.each(resource.getrlimit, [resource.RLIMIT_CORE])
        assert soft == 0


def seconds_of(shop: ProcessPool, function, tasks) -> float:
    began = time.monotonic()
    list(shop.each(function, tasks))
    return time.monotonic() - began


@pytest.fixture
def impatient(monkeypatch):
    """Call slow what takes half a second, so that nobody waits for it here."""
    monkeypatch.setattr(bounded_process, "SLOW_SECONDS", 0.5)


MINUTE = ProcessLimits(60, 1 << 30)


class LongToRead:
    """What takes a process longer to read than a task may take that is not slow."""

    def __reduce__(self):
        return time.sleep, (1.0,)


def test_a_task_is_not_slow_for_the_time_its_process_takes_to_begin_it(impatient):
    called_slow = []
    with closing(bounded_process.BoundedProcess()) as process:
        answers = process.do(repr, [(LongToRead(), MINUTE)], lambda: called_slow.append(True))
        assert (answers, called_slow) == (["None"], [])
        process.do(time.sleep, [(1.0, MINUTE)], lambda: called_slow.append(True))
        assert called_slow == [True]


def test_a_task_that_does_not_begin_gives_way_as_a_slow_one(monkeypatch):
    monkeypatch.setattr(bounded_process, "BEGIN_SECONDS", 0.2)
    called_slow = []
    with closing(bounded_process.BoundedProcess()) as process:
        process.do(repr, [(LongToRead(), MINUTE)], lambda: called_slow.append(True))
    assert called_slow


@pytest.mark.parametrize(("size", "studies"), [(1, 4), (2, 2)])
def test_studies_whose_every_instance_takes_long_do_not_stop_another(impatient, size, studies):
    with closing(ProcessPool(size)) as shop, ThreadPoolExecutor(studies) as threads:
        seconds_of(shop, abs, range(4))
        slow = [threads.submit(seconds_of, shop, time.sleep, [300] * 8) for _ in range(studies)]
        try:
            wait_until(lambda: len(shop._running) >= size)
            assert seconds_of(shop, abs, range(20)) < 10
            assert seconds_of(shop, abs, range(20)) < 3
            assert not any(one.done() for one in slow)
            assert len(shop._all) <= size + max(1, size // 2)
        finally:
            shop.close()


def test_a_large_file_gives_way_at_once(monkeypatch):
    monkeypatch.setattr(bounded_process, "SLOW_SECONDS", 60.0)
    with closing(ProcessPool(1)) as shop, ThreadPoolExecutor(1) as threads:
        large = threads.submit(
            list, shop.each(time.sleep, [300], lambda _: ProcessLimits(300, 1 << 30, is_large=True))
        )
        wait_until(lambda: shop._running)
        assert seconds_of(shop, abs, range(3)) < 10
        assert not large.done()
        shop.close()


def test_a_long_study_of_short_tasks_does_not_stop_another():
    with closing(ProcessPool(1)) as shop, ThreadPoolExecutor(1) as threads:
        seconds_of(shop, abs, range(4))
        long = threads.submit(seconds_of, shop, time.sleep, [0.2] * 50)
        wait_until(lambda: shop._running)
        assert seconds_of(shop, abs, [1]) < 2
        assert not long.done()
        shop.close()


def test_what_had_to_give_way_is_done_in_the_end(impatient):
    with closing(ProcessPool(1)) as shop, ThreadPoolExecutor(4) as threads:
        slow = [threads.submit(list, shop.each(time.sleep, [1.0])) for _ in range(3)]
        wait_until(lambda: len(shop._waiting) + len(shop._running) == 3)
        for _ in range(4):
            seconds_of(shop, abs, range(3))
        assert [one.result() for one in slow] == [[(1.0, None)]] * 3


def test_a_full_disk_is_not_the_fault_of_the_instance(pool):
    ((_, answer),) = pool.each(os.listdir, ["/no/such/folder"])
    assert isinstance(answer, Transient)


def test_a_file_that_ends_too_early_is_the_fault_of_the_instance_and_not_tried_for_ever(pool, caplog):
    ((_, answer),) = pool.each(exec, ['raise OSError("No tag to read at file position 51C")'])
    assert isinstance(answer, PoolProcessDied)
    assert "OSError" in caplog.text


linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's memory")


@linux
def test_a_task_that_wants_more_than_its_share_of_the_memory_gets_none_and_the_next_is_done(pool):
    answers = dict(pool.each(bytearray, [memory_bound(), 1]))
    assert isinstance(answers[memory_bound()], OverLimit)
    assert "MiB of memory" in str(answers[memory_bound()])
    assert answers[1] == b"\0"


@linux
def test_a_task_gets_as_much_memory_as_its_file_warrants(pool, tmp_path):
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"x")
    with large.open("wb") as file:
        file.truncate(64 << 20)
    for limits, mebibytes in ((to_read, 600), (to_encode, 1200)):
        hungry = f"held = bytearray({mebibytes} << 20)"
        ((_, refused),) = pool.each(exec, [hungry], lambda _, limits=limits: limits(small))
        ((_, given),) = pool.each(exec, [hungry], lambda _, limits=limits: limits(large))
        assert isinstance(refused, OverLimit)
        assert given is None
    assert to_read(large) == ProcessLimits(74, (512 + 128) << 20)
    assert to_encode(large, large) == ProcessLimits(3 * 138, (1024 + 6 * 128) << 20, is_large=True)
    assert to_read(tmp_path / "gone") == ProcessLimits(10, 512 << 20)


@linux
def test_what_cannot_be_mapped_for_want_of_memory_is_the_fault_of_the_task(pool):
    mapping = "import mmap\nmmap.mmap(-1, 1 << 30)"
    ((_, answer),) = pool.each(exec, [mapping], lambda _: ProcessLimits(10, 512 << 20))
    assert isinstance(answer, OverLimit)


@linux
def test_the_kernel_ends_a_process_of_the_pool_before_any_other_of_ours(pool):
    score = Path("/proc/self/oom_score_adj")
    assert dict(pool.each(Path.read_text, [score])) == {score: "1000\n"}


def test_a_process_that_nothing_needs_for_a_while_ends_and_the_next_task_starts_another():
    with closing(ProcessPool(1)) as shop:
        assert not shop._all
        shop.warm(str)
        assert dict(shop.each(abs, [-1])) == {-1: 1}
        (process,) = shop._all
        shop.end_idle(60)
        assert process.is_alive()
        shop.warm(str)
        assert shop._all == {process}
        wait_until(lambda: shop._free == [process], what="the process is free")
        shop.end_idle(0)
        assert not process.is_alive()
        assert not shop._all
        assert dict(shop.each(abs, [-2])) == {-2: 2}


def test_a_process_with_a_task_in_hand_is_not_idle():
    with closing(ProcessPool(1)) as shop:
        tasks = shop.each(time.sleep, [0.5])
        with ThreadPoolExecutor(1) as threads:
            answer = threads.submit(dict, tasks)
            wait_until(lambda: bool(shop._all), what="the task has begun")
            shop.end_idle(0)
            assert answer.result() == {0.5: None}


def test_a_closed_pool_blames_no_instance():
    shop = ProcessPool(1)
    tasks = shop.each(time.sleep, [0.01, 60])
    next(tasks)
    shop.close()
    with pytest.raises(Exception, match=r"^$|closed") as raised:
        list(tasks)
    assert not isinstance(raised.value, Permanent | PoolProcessDied)


def test_a_mapped_file_that_the_disk_cannot_read_is_not_blamed(pool):
    ((_, answer),) = pool.each(signal.raise_signal, [signal.SIGBUS])
    assert isinstance(answer, Transient)
    assert dict(pool.each(abs, [-1])) == {-1: 1}
