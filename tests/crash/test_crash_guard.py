"""The worker dies when the guard was asked or has answered, and nothing was done: nothing leaves unchecked."""

import json
from pathlib import Path

import pydicom
import pytest
from support.crash.crash_scene import Scene, make_scene
from support.crash.crash_site import CrashSite, crash_site

from pipeline.ledger.tables import delivery

HERE, ELSEWHERE = "Example Hospital", "Elsewhere"
POINTS = ["guard-answered", "guard-passed"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def site(scene: Scene, tmp_path: Path):
    """A site that asks the archive where a study is registered; one study waits for that."""
    with crash_site(tmp_path) as one:
        one.about_archive = {"guard": {"kind": "qido"}}
        mapping = tmp_path / "mapping.json"
        mapping.write_text(json.dumps({"modalities": HERE}))
        one.configure(institution_mapping=str(mapping))
        one.arrive(*scene.second)
        yield one


def register(site: CrashSite, scene: Scene, institution: str) -> None:
    study = str(pydicom.dcmread(scene.second[0]).StudyInstanceUID)
    site.archive.add(study, "1.2.77", "1.2.77.1", institution=institution)


def to_the_archive(site: CrashSite) -> dict:
    return next(row for row in site.rows(delivery) if row["destination"] == "archive")


def assert_it_is_held_back(site: CrashSite) -> None:
    assert site.archive.stores == [], "sent without leave"
    row = to_the_archive(site)
    assert (row["state"], row["reason"]) == ("refused", f"registered at {ELSEWHERE}")
    assert len(list(site.spool.settled.glob("*/CT.*"))) == 2, "the originals stay"


@pytest.mark.parametrize("point", POINTS)
def test_a_leave_given_before_the_death_is_asked_for_again(point, site, scene):
    assert site.killed("work", point=point)
    assert site.archive.stores == []
    register(site, scene, ELSEWHERE)
    site.work()
    assert_it_is_held_back(site)


@pytest.mark.parametrize("point", ["guard-answered", "attempted", "concluded"])
def test_a_refusal_nobody_wrote_down_is_a_refusal_the_next_time(point, site, scene):
    register(site, scene, ELSEWHERE)
    assert site.killed("work", point=point)
    site.work()
    assert_it_is_held_back(site)


@pytest.mark.parametrize("point", POINTS)
def test_what_may_go_goes_once_after_the_death(point, site, scene):
    register(site, scene, HERE)
    assert site.killed("work", point=point)
    site.work()
    site.archive.stored.pop("1.2.77.1")
    site.assert_all_is_accounted_for()
    assert sorted(uid for uid, _ in site.archive.received) == sorted(site.archive.stored)


def test_a_released_refusal_goes_once_although_the_worker_dies_over_it(site, scene):
    register(site, scene, ELSEWHERE)
    site.work()
    site.run("retry", "--all", "--release-guard")
    assert site.killed("work", point="claimed")
    site.work()
    site.archive.stored.pop("1.2.77.1")
    site.assert_all_is_accounted_for()
