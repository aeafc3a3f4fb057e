"""What a person asks for is killed in the middle, or the worker that does it: it is done, or asked for again."""

from pathlib import Path

import pydicom
import pytest
from support.crash.crash_scene import Scene, make_scene
from support.crash.crash_site import CrashSite, crash_site
from support.sites.line_site import instance as instance_file
from support.studies.fingerprints import sha256

from pipeline.ledger.tables import arrival, instance, receipt


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def at_rest(scene: Scene, tmp_path_factory: pytest.TempPathFactory):
    """A site at rest: one instance was refused, others are set aside, the worker does not run."""
    with crash_site(tmp_path_factory.mktemp("at_rest")) as one:
        scene.arrive(one)
        one.archive.failing[scene.uncertain] = 0xA900
        del one.archive.fail_times[scene.uncertain]
        one.work()
        assert refused(one) == 1
        yield one


@pytest.fixture
def site(at_rest: CrashSite, tmp_path: Path):
    with crash_site(tmp_path / "site", like=at_rest) as one:
        yield one


def refused(site: CrashSite) -> int:
    return sum(row["state"] == "refused" for row in site.rows(receipt))


def place(site: CrashSite, state: str, room: str) -> tuple[str, str]:
    """Return arrival and file of an instance in `state` that stands in `room`."""
    arrivals = {row["name"] for row in site.rows(arrival) if row["state"] == room}
    found = [row for row in site.rows(instance) if row["state"] == state and row["arrival"] in arrivals]
    return found[0]["arrival"], found[0]["file"]


def mend(site: CrashSite, name: tuple[str, str], broken: Path, whole: Path) -> None:
    """Do what a person does before a release: put a whole file in the place of a broken one."""
    file = site.files()[name]
    assert sha256(file.read_bytes()) == sha256(broken.read_bytes())
    file.write_bytes(whole.read_bytes())
    site.sent.remove(broken)
    site.sent.append(whole)


# --- retry -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["retrying", "retried"])
def test_retry_killed_in_the_middle_can_be_asked_for_again(point, scene, site):
    site.archive.failing.clear()
    assert site.killed("retry", "--all", point=point)
    if point == "retrying":
        assert refused(site) == 1
        site.run("retry", "--all")
    site.work()
    site.assert_all_is_accounted_for()


@pytest.mark.parametrize(
    "point", ["claimed", "deliver-attempt", "deliver-receipt", "attempted", "concluded", "account-renewed"]
)
def test_a_retried_delivery_survives_the_death_of_the_worker_and_its_account_tells(point, scene, site):
    site.archive.failing.clear()
    site.run("retry", "--all")
    assert site.killed("work", point=point)
    site.work()
    site.assert_all_is_accounted_for()


# --- release ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["release-forgotten", "release-renamed"])
def test_the_release_of_an_arrival_is_done_or_can_be_asked_for_again(point, scene, site, tmp_path):
    site.archive.failing.clear()
    site.run("retry", "--all")
    (name, file) = place(site, "quarantined", "quarantined")
    whole = make_scene(tmp_path).first[0]
    mend(site, (name, file), scene.garbage, whole)
    assert site.killed("quarantine", "release", name, point=point)
    site.work()
    if (site.spool.quarantine / name).is_dir():
        site.run("quarantine", "release", name)
        site.work()
    site.assert_all_is_accounted_for()
    assert (site.spool.settled / name).is_dir()


@pytest.mark.parametrize("point", ["release-reopened", "released"])
def test_the_release_of_an_instance_is_done_or_can_be_asked_for_again(point, scene, site, tmp_path):
    site.archive.failing.clear()
    site.run("retry", "--all")
    (name, file) = place(site, "quarantined", "settled")
    mend(site, (name, file), scene.cut, make_scene(tmp_path).first[0])
    assert site.killed("quarantine", "release", f"{name}/{file}", point=point)
    site.work()
    if point == "release-reopened":
        assert place(site, "quarantined", "settled") == (name, file)
        site.run("quarantine", "release", f"{name}/{file}")
        site.work()
    site.assert_all_is_accounted_for()


def test_a_released_instance_of_an_old_arrival_is_sent_before_it_can_age_out(scene, site, tmp_path):
    (name, file) = place(site, "quarantined", "settled")
    mend(site, (name, file), scene.cut, make_scene(tmp_path).first[0])
    site.archive.failing.clear()
    site.run("retry", "--all")
    site.configure(keep_originals="1ms")
    assert site.killed("quarantine", "release", f"{name}/{file}", point="released")
    site.work()
    site.assert_all_is_accounted_for()


@pytest.mark.parametrize("point", ["other-patient-accepted", "other-patient-reopened", "other-patient-released"])
def test_the_release_of_another_patients_images_is_done_or_can_be_asked_for_again(point, scene, site, tmp_path):
    site.archive.failing.clear()
    site.run("retry", "--all")
    study = str(pydicom.dcmread(scene.first[0]).StudyInstanceUID)
    site.arrive(instance_file(tmp_path, "other-patient", StudyInstanceUID=study, PatientID="B-999"))
    site.work()
    assert codes(site) == {"other-patient"}
    words = ("quarantine", "release", "--study", study, "--reason", "a person knows")
    assert site.killed(*words, point=point)
    site.work()
    if codes(site):
        assert point != "other-patient-released"
        site.run(*words)
        site.work()
    assert codes(site) == set()
    site.assert_all_is_accounted_for()


def codes(site: CrashSite) -> set[str]:
    return {row["code"] for row in site.rows(instance) if row["code"]}


# --- discard ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["discard-noted", "discarding"])
@pytest.mark.parametrize("whole", [True, False], ids=["an arrival", "a file"])
def test_what_was_being_discarded_is_gone_after_the_next_start(point, whole, scene, site):
    site.archive.failing.clear()
    site.run("retry", "--all")
    (name, file) = place(site, "quarantined", "quarantined" if whole else "settled")
    words = name if whole else f"{name}/{file}"
    assert site.killed("quarantine", "discard", "--yes", words, point=point)
    site.work()
    site.assert_all_is_accounted_for()
    assert (name, file) not in site.files()
    assert [
        row["discarded_at"] is None
        for row in site.rows(instance)
        if row["file"] == file and row["arrival"] == name
    ] == [False]
