"""The simulated day of 40 sites loses no study, and no queue of it works more than it can."""

import sys
from bisect import bisect_right
from pathlib import Path

import pytest

BENCH = str(Path(__file__).parents[2] / "bench")
MOMENTS = [moment * 397.0 for moment in range(500)]


@pytest.fixture(scope="module")
def queues_module():
    sys.path.insert(0, BENCH)
    try:
        import study_queues
    finally:
        sys.path.remove(BENCH)
    return study_queues


@pytest.fixture(scope="module")
def small_world(queues_module):
    """A hundredth of a day, on stages that are too slow for its morning, with an outage of the second one."""
    q = queues_module
    studies = q.studies_of_a_day(load=0.01)
    stages = (
        q.Stage("network", "MB/s", lambda study, _: study.megabytes, 5.0),
        q.Stage(
            "cores", "cores", lambda study, costs: study.megabytes * costs.processor_seconds_a_megabyte, 1.0, 2
        ),
        q.Stage("archive of each site", "instances/s", lambda study, _: study.instances, 3.0, is_shared=False),
    )
    costs = q.Costs(0.9, 0.3, transactions_of_a_study=5, transactions_a_megabyte=0.3)
    outage = (10 * q.HOUR, 11 * q.HOUR)
    queues = q.day(studies, stages, costs, lambda stage: outage if stage.name == "cores" else None)
    return studies, queues, outage


def test_a_day_has_the_studies_the_instances_and_the_bytes_it_is_said_to_have(queues_module) -> None:
    studies = queues_module.studies_of_a_day(load=0.5)
    assert len(studies) == 10_000
    assert sum(study.instances for study in studies) == pytest.approx(4_000_000)
    assert sum(study.megabytes for study in studies) == pytest.approx(2_000_000)
    assert [study.at for study in studies] == sorted(study.at for study in studies)
    assert max(queues_module.HOURS) == 12
    assert sum(queues_module.HOURS) == 100


def test_at_every_moment_each_study_that_came_is_out_or_in_one_queue_or_quiet(queues_module, small_world) -> None:
    studies, queues, _ = small_world
    quiet = [(end, end + 10) for end in queues[0].left]
    assert max(queues_module.waiting(queues, MOMENTS)) > 20, "a world without a queue shows nothing"
    for moment in MOMENTS:
        came = sum(study.at <= moment for study in studies)
        out = bisect_right(sorted(queues[-1].left), moment)
        is_quiet = sum(begin <= moment < end for begin, end in quiet)
        assert came == out + is_quiet + sum(queue.depth(moment) for queue in queues), moment
    assert out == len(studies)


def test_no_stage_works_more_than_its_servers_can(queues_module, small_world) -> None:
    _, queues, _ = small_world
    for queue in queues[:2]:
        for begin, end in zip(MOMENTS, MOMENTS[12:], strict=False):
            done = sum(
                busy
                for came, left, busy in zip(queue.came, queue.left, queue.busy, strict=True)
                if left - busy >= begin and left <= end and came >= begin
            )
            assert done <= (end - begin) * queue.stage.servers + 1e-6


def test_nobody_is_done_before_the_work_is_and_in_an_outage_nobody_is_done(small_world) -> None:
    _, queues, (begin, end) = small_world
    for queue in queues:
        for came, left, busy in zip(queue.came, queue.left, queue.busy, strict=True):
            assert left >= came + busy - 1e-6
    assert not [left for left in queues[1].left if begin < left < end]
    assert [left for left in queues[1].left if left >= end]


def test_studies_are_served_in_the_order_of_coming_by_as_many_servers_as_there_are(queues_module) -> None:
    served = queues_module.served
    assert served([0, 1, 2], [10, 10, 10]) == [10, 20, 30]
    assert served([0, 1, 2], [10, 10, 10], servers=2) == [10, 11, 20]
    assert served([0, 50], [10, 10]) == [10, 60]


def test_an_outage_lets_what_is_in_hand_go_on_afterwards_and_begins_nothing(queues_module) -> None:
    served = queues_module.served
    assert served([0, 20], [10, 10], down=(5, 105)) == [110, 120]
    assert served([6], [10], down=(5, 105)) == [115]
    assert served([0], [5], down=(5, 105)) == [5]
