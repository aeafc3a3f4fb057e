"""The spool cannot be written, at a start or suddenly: that is said, nothing is lost, it goes on afterwards."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.crash.crash_scene import Scene, make_scene
from support.crash.crash_site import CrashSite, crash_site
from support.machine.dicom_programs import stop, wait_until
from support.machine.small_disk import make_read_only, make_writable, may_mount, small_disk

from pipeline.errors import Transient
from pipeline.ledger import Ledger
from pipeline.ledger.tables import note

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


@pytest.mark.parametrize("point", ["admit-synced", "admitted", "taken-in", "claimed", "settle-account"])
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


def test_a_ledger_opened_while_nothing_could_be_written_is_opened_anew_once_nobody_reads_it(tmp_path: Path):
    """SQLite's connections of one process share what the first was allowed: all must be closed at once."""
    with small_disk(tmp_path / "spool", "16m") as spool, ThreadPoolExecutor(2) as threads:
        keeper, ledger = Ledger(spool / "ledger.sqlite3"), Ledger(spool / "ledger.sqlite3")
        keeper.create()  # and keeps the write-ahead log where the other finds it
        make_read_only(spool)
        try:
            with ledger.reading():
                with pytest.raises(Transient, match="readonly"):
                    threads.submit(write, ledger).result(10)
                keeper.close()
                make_writable(spool)
                writing = threads.submit(write, ledger)
                with pytest.raises(TimeoutError):
                    writing.result(timeout=0.3)
            writing.result(10)
        finally:
            ledger.close()


def write(ledger: Ledger) -> None:
    with ledger.transaction() as change:
        change.execute(note.insert().values(key="written", value="yes"))
