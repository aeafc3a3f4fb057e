"""The spool cannot be written, at a start or suddenly: that is said, nothing is lost, it goes on afterwards."""

from pathlib import Path

import pytest
from crash_scene import Scene, make_scene
from crash_site import CrashSite, crash_site
from dicom_programs import stop, wait_until
from small_disk import make_read_only, make_writable, may_mount, small_disk

pytestmark = pytest.mark.skipif(not may_mount(), reason="only root on Linux may mount a disk")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def site(scene: Scene, tmp_path: Path):
    with small_disk(tmp_path / "spool", "64m"), crash_site(tmp_path) as one:
        scene.arrive(one)
        yield one


@pytest.mark.parametrize("point", ["reconciled", "consigned", "settle-renamed"])
def test_a_start_says_which_folder_and_changes_nothing(point: str, site: CrashSite):
    assert site.killed("work", point=point)
    make_read_only(site.spool.root)
    try:
        process = site.start("work")
        try:
            wait_until(lambda: process.poll() is not None, seconds=30, what=site.text())
        finally:
            code = stop(process)
    finally:
        make_writable(site.spool.root)
    assert code == 78, site.text()
    assert "cannot be written to: Read-only file system" in site.log.read_text()
    site.assert_each_file_is_in_one_place()
    site.work()
    site.assert_all_is_accounted_for()
    assert "ledger-rebuilt" not in site.log.read_text()


@pytest.mark.parametrize("point", ["admit-synced", "intake-read", "gathered", "claimed", "settle-account"])
def test_a_worker_goes_on_by_itself_once_it_may_write_again(point: str, site: CrashSite):
    process = site.start("work", point=point, read_only=str(site.spool.root), poll_seconds=0.2)
    try:
        wait_until(
            lambda: process.poll() is not None or " held " in site.log.read_text(), seconds=30, what=site.text()
        )
        assert process.poll() is None, site.text()
        make_writable(site.spool.root)
        site.assert_each_file_is_in_one_place()
        wait_until(lambda: process.poll() is not None or site.is_at_rest(), seconds=30, what=site.text())
    finally:
        code = stop(process)
    assert code == 0, site.text()
    site.assert_all_is_accounted_for()
