"""SIGKILL at every named point, then a restart: nothing is lost, nothing sent twice, nothing half done remains."""

import time
from pathlib import Path

import pytest
from support.crash.crash_scene import Scene, make_scene
from support.crash.crash_site import crash_site

ON_THE_LINE = {
    "admit-synced",
    "admitted",
    "intake-read",
    "intake-entering",
    "taken-in",
    "gathered",
    "instance-prepared",
    "prepared",
    "consigning",
    "consigned",
    "claimed",
    "deliver-attempt",
    "deliver-receipt",
    "filing-copied",
    "filing-named",
    "attempted",
    "concluded",
    "settle-account",
    "settle-renamed",
    "settled",
    "quarantine-renamed",
    "ledger-creating",
    "reconciled",
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def site(tmp_path: Path):
    with crash_site(tmp_path) as one:
        yield one


@pytest.fixture(scope="module")
def undisturbed(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """How it ends when nobody kills anything."""
    with crash_site(tmp_path_factory.mktemp("undisturbed")) as site:
        scene.arrive(site)
        site.work()
        site.assert_all_is_accounted_for()
        return site.outcome()


def test_an_undisturbed_run_has_every_outcome_there_is(undisturbed):
    states = [state for _, state in undisturbed["instances"]]
    assert sorted(set(states)) == ["conflict", "duplicate", "encoded", "quarantined"]
    assert {state for state, _ in undisturbed["arrivals"]} == {"settled", "quarantined"}


@pytest.mark.parametrize("point", sorted(ON_THE_LINE))
def test_a_worker_killed_twice_goes_on_as_if_it_had_not_been(point, scene, site, undisturbed):
    scene.arrive(site)
    assert site.killed("work", point=point), f"{point} is never reached"
    site.killed("work", point=point, count=2)
    site.work()
    site.assert_all_is_accounted_for()
    assert site.outcome() == undisturbed


@pytest.mark.parametrize("point", ["intake-read", "instance-prepared", "deliver-receipt", "settle-account"])
def test_a_worker_that_is_told_to_end_in_the_middle_quarantines_nothing_and_ends_well(
    point, scene, site, undisturbed
):
    site.in_one_room = False
    scene.arrive(site)
    began = time.monotonic()
    site.ended(point=point)
    assert time.monotonic() - began < 15, "it waited for what it had cancelled"
    site.work()
    site.assert_all_is_accounted_for()
    assert site.outcome() == undisturbed
