"""Keeping and letting go, and the corrections of a start, killed in the middle."""

import shutil
from pathlib import Path

import pytest
from support.crash.crash_scene import Scene, make_scene
from support.crash.crash_site import CrashSite, crash_site

from pipeline.ledger.tables import arrival


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def site(scene: Scene, tmp_path: Path):
    """A site at which everything has arrived, and nothing was done yet."""
    with crash_site(tmp_path) as one:
        scene.arrive(one)
        yield one


def gone(site: CrashSite) -> list[str]:
    return [row["name"] for row in site.rows(arrival) if row["gone_at"]]


@pytest.mark.parametrize("point", ["aged-out", "let-go"])
def test_originals_half_let_go_are_let_go_at_the_next_start(point, site):
    site.work()
    site.configure(keep_originals="1ms")
    assert site.killed("work", point=point, until=lambda: False)
    assert len(gone(site)) == 1
    site.configure()
    site.work()
    site.assert_all_is_accounted_for()
    assert len(gone(site)) == 1


def test_what_is_not_well_never_ages_out_however_often_it_starts(site):
    site.configure(keep_originals="1ms")
    for _ in range(2):
        site.work()
        site.work(until=lambda: len(gone(site)) == 1)
    site.assert_all_is_accounted_for()
    assert len(list(site.spool.settled.iterdir())) == 2


@pytest.mark.parametrize("point", ["correcting", "corrected"])
def test_a_start_killed_while_it_corrects_the_ledger_is_followed_by_one_that_ends_it(point, site):
    assert site.killed("work", point="quarantine-renamed")
    assert site.killed("work", point="settle-renamed")
    assert site.killed("work", point=point)
    site.work()
    site.assert_all_is_accounted_for()


def test_an_output_that_was_lost_is_made_again_although_the_worker_dies_meanwhile(site):
    assert site.killed("work", point="consigned")
    for folder in site.spool.outputs.iterdir():
        shutil.rmtree(folder)
    assert site.killed("work", point="instance-prepared")
    site.work()
    site.assert_all_is_accounted_for()


def test_a_half_written_output_is_never_sent(site):
    assert site.killed("work", point="consigned")
    for file in site.spool.outputs.rglob("*.dcm"):
        file.write_bytes(file.read_bytes()[:-2] + b"\0\0")
    site.work()
    site.assert_all_is_accounted_for()
