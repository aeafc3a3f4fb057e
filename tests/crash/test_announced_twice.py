"""Folders announced many times, at once, too early and too late, beside the sweep: each is taken in once."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.crash.crash_scene import Scene, make_scene
from support.crash.crash_site import CrashSite, crash_site
from support.machine.dicom_programs import ENVIRONMENT, stop, wait_until
from support.sites.line_site import folder_of

from pipeline.ledger.tables import arrival
from pipeline.spool.spool import hook_file

AT_ONCE = 5


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def site(tmp_path: Path):
    with crash_site(tmp_path) as one:
        one.how = {"poll_seconds": 0.05}
        yield one


def receive(site: CrashSite, scene: Scene) -> list[Path]:
    """Leave what storescp would have written, a folder a study or association, and nobody has announced."""
    groups = [scene.first[:2], (scene.first[2], scene.first[0]), scene.second]
    site.sent += [file for group in groups for file in group]
    return [folder_of(site.spool, *group) for group in groups]


def announce(*folders: Path) -> None:
    """Call the hook for every folder, `AT_ONCE` times at once; it must always end well."""
    calls = [
        subprocess.Popen(
            [sys.executable, "-I", "-S", hook_file(), folder.parent, folder],
            env=ENVIRONMENT,
            stderr=subprocess.PIPE,
        )
        for folder in folders * AT_ONCE
    ]
    for call in calls:
        _, said = call.communicate(timeout=60)
        assert call.returncode == 0, said


def assert_each_was_taken_in_once(site: CrashSite, folders: list[Path]) -> None:
    site.assert_all_is_accounted_for()
    assert len(site.rows(arrival)) == len(folders)
    assert not any(folder.exists() for folder in folders)


def test_before_the_worker_runs(site, scene):
    folders = receive(site, scene)
    announce(*folders)
    announce(*folders)
    site.work()
    assert_each_was_taken_in_once(site, folders)


def test_while_the_worker_sweeps_and_takes_them_in_and_once_more_afterwards(site, scene):
    process = site.start("work")
    try:
        wait_until(lambda: "worker-started" in site.log.read_text(), seconds=30)
        folders = receive(site, scene)
        announce(*folders)
        announce(*folders)
        wait_until(site.is_at_rest, seconds=60, what=site.text())
        announce(*folders)
        wait_until(site.is_at_rest, seconds=60)
    finally:
        stop(process)
    assert_each_was_taken_in_once(site, folders)


@pytest.mark.parametrize(
    "point", ["sweep-admitting", "sweep-admitted", "admit-synced", "admitted", "intake-entering"]
)
def test_while_the_worker_dies_over_them(point, site, scene):
    folders = receive(site, scene)
    if not point.startswith("sweep"):
        announce(*folders)
    assert site.killed("work", point=point)
    announce(*folders)
    site.work()
    assert_each_was_taken_in_once(site, folders)


def test_a_late_announcement_takes_what_came_meanwhile_under_the_same_name_and_loses_nothing(site, scene):
    """storescp names the folder of a study after it, so late instances stand where the first ones stood."""
    folders = receive(site, scene)
    announce(*folders)
    late = folder_of(site.spool, scene.first[1], name=folders[0].name)
    site.sent.append(scene.first[1])
    announce(*folders)
    site.work()
    assert_each_was_taken_in_once(site, [*folders, late])
