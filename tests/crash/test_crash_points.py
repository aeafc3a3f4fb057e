"""SIGKILL at every crash point of the line, then a restart: nothing is lost, sent twice, or left half done."""

import fcntl
import time
from pathlib import Path

import pytest
from support.crash.crash_scene import Scene, make_scene
from support.crash.crash_site import CrashSite, crash_site, situations

from pipeline.receiving.lock import lock_file

SHARES = 12  # sites; each is killed at every twelfth point, so at early and at late ones
OF_A_STUDY = (
    *("admitted", "taken-in", "consigned", "claimed", "deliver-attempt", "deliver-receipt", "attempted"),
    *("concluded", "settle-renamed", "settled"),
)
AHEAD = ("line.encoded_ahead._write", "line.work_ahead._tidy")  # reached only if the study is not complete first


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


@pytest.fixture(scope="module")
def points(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Every crash point such a run always reaches, in order."""
    folder = tmp_path_factory.mktemp("recorded")
    with crash_site(folder) as site:
        scene.arrive(site)
        site.how["record"] = str(folder / "points")
        site.work()
    return [point for point in situations(folder / "points") if not point.endswith(AHEAD)]


def test_a_run_passes_the_points_of_every_stage(points):
    """A guard for the tests below: they are as good as the list they go through."""
    stages = {point.split()[-1].rpartition(".")[0] for point in points}
    of_the_line = {
        f"line.{one}" for one in ("admit", "consign", "prepare", "deliver", "verify", "settle", "reconcile")
    }
    assert stages >= of_the_line | {"ledger"}
    assert {point.split()[1] for point in points} >= {"commit", "rename", "unlink", "fsync", "link", "request"}
    assert len(points) >= 50


@pytest.mark.parametrize("share", range(SHARES))
def test_a_worker_killed_at_every_point_goes_on_as_if_it_had_not_been(share, points, scene, undisturbed, tmp_path):
    mine = points[share::SHARES]
    with crash_site(tmp_path / "all") as site:
        scene.arrive(site)
        passed_by = [point for point in mine if not site.killed("work", point=point)]
        site.killed("work", point=mine[-1], count=2)
        went_on(site, undisturbed)
    for number, point in enumerate(passed_by):  # what a restart does in another way than the first start
        with crash_site(tmp_path / str(number)) as site:
            scene.arrive(site)
            assert site.killed("work", point=point), f"{point} is never reached"
            went_on(site, undisturbed)


def went_on(site: CrashSite, undisturbed: dict) -> None:
    site.work()
    site.assert_all_is_accounted_for()
    assert site.outcome() == undisturbed


@pytest.mark.parametrize("point", OF_A_STUDY)
def test_after_a_power_cut_the_worker_goes_on_from_what_was_flushed(point, scene, site, undisturbed):
    scene.arrive(site)
    assert site.lost_power(point=point), f"{point} is never reached"
    went_on(site, undisturbed)


@pytest.mark.parametrize("step", ["rename", "unlink"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_killed_while_it_encodes_ahead_goes_on_as_if_it_had_not_been(
    when, step, scene, site, undisturbed
):
    with lock_file(site.spool, "modalities").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as if the receiver lived: what nobody has announced still comes in
        scene.arrive(site, is_announced=False)
        assert site.killed("work", point=f"{when} {step} in line.encoded_ahead._write", until=lambda: False)
    went_on(site, undisturbed)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_killed_while_it_prepares_ahead_goes_on_as_if_it_had_not_been(when, scene, site, undisturbed):
    site.quiet_seconds = 3600  # no study is complete, so the worker works ahead
    site.configure()
    scene.arrive(site)
    assert site.killed("work", point=f"{when} rename in line.prepare._made")
    site.quiet_seconds = 1
    site.configure()
    went_on(site, undisturbed)


@pytest.mark.parametrize("point", ["intake-entering", "consigning", "deliver-receipt", "settle-account"])
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
