"""The disk becomes full in the middle of something: nothing half true is left, and room is all that it takes."""

from functools import partial
from pathlib import Path

import pytest
from support.crash.crash_scene import Scene, make_scene
from support.crash.crash_site import CrashSite, crash_site
from support.crash.forking import Forked
from support.machine.dicom_programs import stop, wait_until
from support.machine.small_disk import may_mount, small_disk

from pipeline.ledger import FILE_NAME

pytestmark = pytest.mark.skipif(not may_mount(), reason="only root on Linux may mount a small disk")

POINTS = [
    "admit-synced",
    "admitted",
    "intake-entering",
    "taken-in",
    "consigning",
    "claimed",
    "deliver-attempt",
    "deliver-receipt",
    "attempted",
    "settle-account",
    "settle-renamed",
    "quarantine-renamed",
]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def site(scene: Scene, tmp_path: Path):
    with small_disk(tmp_path / "spool", "4m"), crash_site(tmp_path) as one:
        scene.arrive(one)
        yield one


def ballast(site: CrashSite) -> Path:
    return site.spool.root / "ballast"


def start_until_full(site: CrashSite, point: str) -> Forked:
    """Start a worker, and return once the disk is full and it has said so."""
    process = site.start("work", point=point, ballast=str(ballast(site)), poll_seconds=0.2)
    try:
        wait_until(lambda: process.poll() is not None or " held " in site.log.read_text(), seconds=30)
        assert process.poll() is None
    except AssertionError as error:
        stop(process)  # It would be taken for the next one.
        raise AssertionError(f"{error}: {site.text()}") from error
    return process


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_goes_on_by_itself_once_there_is_room_again(point, site):
    process = start_until_full(site, point)
    try:
        site.assert_each_file_is_in_one_place()
        ballast(site).unlink()
        wait_until(lambda: process.poll() is not None or site.is_at_rest(), seconds=30)
    except AssertionError as error:
        raise AssertionError(f"{error}: {site.text()}") from error
    finally:
        code = stop(process)
    assert code == 0, site.text()
    site.assert_all_is_accounted_for()


def says_something(site: CrashSite, process: Forked, already: int) -> bool:
    return process.poll() is not None or site.log.stat().st_size > already


@pytest.mark.parametrize("point", ["intake-entering", "consigning", "deliver-receipt"])
def test_a_start_on_a_full_disk_takes_nothing_for_lost(point, site):
    stop(start_until_full(site, point), seconds=0.01)
    for _ in range(2):
        process = site.start("work", poll_seconds=0.2)
        wait_until(partial(says_something, site, process, site.log.stat().st_size), seconds=30)
        assert stop(process) in {0, 75, -15}, site.text()
    site.assert_each_file_is_in_one_place()
    assert not list(site.spool.root.glob(f"{FILE_NAME}.corrupt-*"))
    ballast(site).unlink()
    site.work()
    site.assert_all_is_accounted_for()
    assert "ledger-rebuilt" not in site.log.read_text()
