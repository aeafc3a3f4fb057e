"""A worker dies between two parts of a study, and starts again with other routes: the study goes where it went."""

from pathlib import Path

import pytest
from support.crash.crash_scene import Scene, make_scene
from support.crash.crash_site import CrashSite, crash_site

from pipeline.ledger.tables import delivery


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def site(tmp_path: Path):
    with crash_site(tmp_path) as one:
        one.how = {"in_parts": True}
        yield one


def send_to(site: CrashSite, destination: str) -> None:
    """Write the configuration with one route that everything takes."""
    site.configure()
    route = f'[[route]]\nreceiver = "modalities"\nto = ["{destination}"]\n'
    site.file.write_text(site.file.read_text() + route)


@pytest.mark.parametrize("point", ["consigned", "consigning"])
def test_killed_after_the_first_part_the_rest_goes_the_same_way_and_killed_before_it_all_goes_the_new_way(
    site, scene, point
):
    send_to(site, "archive")
    site.arrive(*scene.first)
    assert site.killed("work", point=point)
    send_to(site, "filed")
    site.work()
    went = [row["destination"] for row in site.rows(delivery)]
    assert went == (["archive"] if point == "consigned" else ["filed"])
    objects = len({(row["instance"]) for row in site.receipts_by_destination()})
    assert objects == len(set(scene.first))
    assert len(site.archive.received) == (objects if point == "consigned" else 0)  # none twice
    site.assert_nothing_temporary_is_left()
