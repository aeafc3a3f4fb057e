"""The wall clock jumps, both ways, while work waits: nothing is lost, goes early, or waits for ever."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.crash.crash_scene import Scene, make_scene
from support.crash.crash_site import CrashSite, crash_site
from support.machine.dicom_programs import stop, wait_until
from support.peers.fake_dcm4chee import Answer

from pipeline.ledger.tables import arrival, delivery

HOUR, DAY = 3600, 86400
JUMPS = [3 * HOUR, -3 * HOUR, 90 * DAY, -90 * DAY]
POINTS = ["taken-in", "consigned", "attempted", "settled"]
QUICK = {"poll_seconds": 0.1, "shortest_wait": 0.1}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def site(scene: Scene, tmp_path: Path):
    with crash_site(tmp_path) as one:
        one.how = {**QUICK, "clock": str(tmp_path / "clock")}
        scene.arrive(one)
        yield one


def set_clock(site: CrashSite, seconds: int) -> None:
    """Set the clock of the running worker, and of those that come, ahead by so many seconds."""
    new = site.folder / "clock.new"
    new.write_text(str(seconds))
    new.rename(site.folder / "clock")


@contextmanager
def worker(site: CrashSite) -> Iterator[None]:
    process = site.start("work")
    try:
        yield
    finally:
        code = stop(process)
    assert code == 0, site.text()


def gone(site: CrashSite) -> list[str]:
    return [row["name"] for row in site.rows(arrival) if row["gone_at"]]


@pytest.mark.parametrize(("point", "jump"), list(zip(POINTS, JUMPS, strict=True)))
def test_a_worker_that_died_and_finds_another_time_goes_on(point: str, jump: int, site: CrashSite):
    assert site.killed("work", point=point)
    set_clock(site, jump)
    site.work()
    site.assert_all_is_accounted_for()
    assert not gone(site)


@pytest.mark.parametrize("jump", JUMPS)
def test_what_waits_for_a_dead_archive_is_delivered_whatever_the_clock_does(jump: int, site: CrashSite):
    site.how["shortest_wait"] = 30.0  # it waits when the clock jumps
    site.archive.every_query = Answer(503)
    with worker(site):
        wait_until(lambda: "peer-down" in site.log.read_text(), seconds=30, what=site.text())
        set_clock(site, jump)
        site.archive.every_query = None
        wait_until(lambda: f"clock-jumped seconds={jump}"[:-2] in site.log.read_text(), seconds=30)
        wait_until(site.is_at_rest, seconds=30, what=site.text())
    site.assert_all_is_accounted_for()
    assert not gone(site)


def test_originals_stay_when_the_clock_is_a_season_ahead_and_go_when_their_time_has_come(site: CrashSite):
    with worker(site):
        wait_until(site.is_at_rest, seconds=30, what=site.text())
        set_clock(site, 90 * DAY)
        wait_until(lambda: "clock-jumped" in site.log.read_text(), seconds=30)
    with worker(site):
        wait_until(lambda: site.log.read_text().count("worker-started") == 2, seconds=30)
    assert not gone(site)
    set_clock(site, 0)
    site.configure(keep_originals="1ms")
    site.work(until=lambda: len(gone(site)) == 1)
    site.assert_all_is_accounted_for()


def test_a_ledger_lost_after_the_clock_was_set_back_delivers_nothing_twice(site: CrashSite):
    """What was admitted by a clock that was ahead was admitted before the loss all the same."""
    assert site.killed("work", point="settled")
    site.lose_the_ledger()
    set_clock(site, -90 * DAY)
    site.work()
    held = {row["destination"] for row in site.rows(delivery) if row["held"] and row["state"] == "waiting"}
    assert held == {"nowhere"}
    site.run("retry", "--all")
    site.work()
    site.assert_all_is_accounted_for()
