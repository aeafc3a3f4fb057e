"""What senders do to a receiver, through the whole line: nothing acknowledged is lost, nothing is sent twice."""

import contextlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom.pixels import pixel_array
from pydicom.uid import generate_uid
from support.machine.dicom_programs import wait_until
from support.peers.fake_dcm4chee import FakeDcm4chee
from support.peers.raw_sender import SUCCESS, Association, HungUp, Object, object_of, send
from support.sites.receiving import write_instance
from support.sites.running_site import RunningSite, running_site
from support.studies.accounting import Fingerprint, data_set_of, fingerprint, pixel_bytes, read, received

pytestmark = [pytest.mark.programs, pytest.mark.filterwarnings("ignore:Invalid value for VR UI")]

QUIET_SECONDS = 3  # longer than a slow machine takes between two images


@dataclass
class Scene:
    """A site with a receiver of each mode, its archive, and the one this test sends to."""

    site: RunningSite
    archive: FakeDcm4chee
    mode: str
    folder: Path
    numbers: Iterator[int]

    @property
    def port(self) -> int:
        return self.site.ports[self.mode]

    def objects(self, study: str, count: int = 1, **more: Any) -> list[Object]:
        """Return new instances of a study, no two with the same pixels; `more` is for `write_instance`."""
        files = [write_instance(self.folder, next(self.numbers), study=study, **more) for _ in range(count)]
        return [object_of(file) for file in files]

    def send(self, objects: Sequence[Object], calling: str = "SENDER") -> list[Object]:
        """Send objects over one association and return what was acknowledged."""
        answers = send(self.port, objects, calling=calling)
        return [one for one, answer in zip(objects, answers, strict=True) if not answer]

    def wait(self, acknowledged: Sequence[Object]) -> list[dict[str, Any]]:
        """Return the rows of these objects once all have their account."""
        wanted = Counter(map(fingerprint, acknowledged))
        wait_until(lambda: self.site.is_settled() and not wanted - self._kept(), seconds=90, what=self.tail())
        places = {place for place, one in received(self.site).items() if fingerprint(one) in wanted}
        return [row for row in self.site.instances() if (row["arrival"], row["file"]) in places]

    def _kept(self) -> Counter[Fingerprint]:
        try:
            return Counter(map(fingerprint, received(self.site).values()))
        except FileNotFoundError:  # a folder changed rooms while we looked
            return Counter()

    def tail(self) -> str:
        return f"everything settled\n{self.site.end_of_text()}"

    def deliveries(self, study: str) -> list[str]:
        """Return what the site has said of each finished delivery of a study."""
        return re.findall(rf" delivered study={re.escape(study)} (.*)", self.site.text())


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[tuple[RunningSite, FakeDcm4chee]]:
    folder = tmp_path_factory.mktemp("situations")
    receivers = [{"name": mode, "mode": mode, "quiet_seconds": QUIET_SECONDS} for mode in ("study", "association")]
    with FakeDcm4chee() as archive:
        destination = {"name": "archive", "kind": "stow", "url": archive.url, "encode": "j2k"}
        with running_site(folder, receivers=receivers, destinations=[destination]) as site:
            yield site, archive


@pytest.fixture(params=["study", "association"])
def scene(request, running, tmp_path) -> Scene:
    site, archive = running
    return Scene(site, archive, request.param, tmp_path / "sent", itertools.count(1))


def assert_accounted(scene: Scene, acknowledged: Sequence[Object], rows: Sequence[dict[str, Any]]) -> Counter[str]:
    """Assert that what was acknowledged is what was delivered and what is kept aside; return counts by state."""
    kept = received(scene.site)
    delivered, aside = Counter[Fingerprint](), Counter[Fingerprint]()
    for row in rows:
        one = fingerprint(kept[row["arrival"], row["file"]])
        if row["state"] in {"encoded", "passed"}:
            assert row["deliveries"][0]["verified"]
            arrived = read(scene.archive.stored[row["sop_instance_uid"]])
            assert pixel_array(arrived, raw=True).tobytes() == pixel_bytes(
                data_set_of(kept[row["arrival"], row["file"]])
            )
            delivered[one] += 1
        else:
            assert row["reason"]
            aside[one] += 1
    assert delivered + aside == Counter(map(fingerprint, acknowledged))
    return Counter(row["state"] for row in rows)


def times_sent(scene: Scene, objects: Sequence[Object]) -> set[int]:
    """Return how often the archive was sent each of these, answered or not."""
    seen = Counter(uid for uid, _ in scene.archive.received)
    return {seen[one.sop_instance] for one in objects}


def test_interleaved_studies_of_two_senders_are_one_delivery_each(scene):
    studies = {"ALPHA": generate_uid(), "BETA": generate_uid()}
    acknowledged = []
    for _ in range(4):
        for calling, study in studies.items():
            acknowledged += scene.send(scene.objects(study, sop=generate_uid()), calling)
    assert len(acknowledged) == 8
    rows = scene.wait(acknowledged)
    assert assert_accounted(scene, acknowledged, rows) == {"encoded": 8}
    assert len({row["arrival"] for row in rows}) > len(studies)
    for calling, study in studies.items():
        assert len(scene.deliveries(study)) == 1, "a delivery an image"
        assert {row["calling_ae_title"] for row in rows if row["study_instance_uid"] == study} == {calling}


def test_a_study_sent_again_is_counted_and_not_sent_again(scene):
    study = generate_uid()
    objects = [one for _ in range(3) for one in scene.objects(study, sop=generate_uid())]
    first = scene.send(objects)
    assert assert_accounted(scene, first, scene.wait(first)) == {"encoded": 3}
    again = scene.send(objects, "ANOTHER")
    rows = scene.wait(first + again)
    assert assert_accounted(scene, first + again, rows) == {"encoded": 3, "duplicate": 3}
    assert times_sent(scene, objects) == {1}
    assert len(scene.deliveries(study)) == 1


def test_late_images_go_in_a_second_delivery_without_the_early_ones(scene):
    study = generate_uid()
    early = [one for _ in range(3) for one in scene.objects(study, sop=generate_uid())]
    late = [one for _ in range(2) for one in scene.objects(study, sop=generate_uid())]
    scene.wait(scene.send(early))
    assert len(scene.deliveries(study)) == 1
    scene.send(late)
    rows = scene.wait(early + late)
    assert assert_accounted(scene, early + late, rows) == {"encoded": 5}
    assert times_sent(scene, early + late) == {1}
    assert [said.split()[-1] for said in scene.deliveries(study)] == ["stored=3", "stored=2"]


def test_a_connection_cut_in_mid_object_loses_nothing_that_was_acknowledged(scene):
    study = generate_uid()
    objects = [one for _ in range(4) for one in scene.objects(study, sop=generate_uid(), size=60_000)]
    association = Association(scene.port, objects)
    assert [association.store(one) for one in objects[:3]] == [SUCCESS] * 3
    association.begin(objects[3], 30_000)
    association.close()
    rows = scene.wait(objects[:3])
    assert assert_accounted(scene, objects[:3], rows) == {"encoded": 3}
    rest = [row for row in scene.site.instances() if row["file"] not in {one["file"] for one in rows}]
    halves = [row for row in rest if row["arrival"] in {one["arrival"] for one in rows}]
    assert all(row["state"] == "quarantined" and "truncated" in row["reason"] for row in halves)
    assert objects[3].sop_instance not in scene.archive.stored


def test_an_aborted_association_keeps_what_was_acknowledged(scene):
    study = generate_uid()
    objects = [one for _ in range(3) for one in scene.objects(study, sop=generate_uid())]
    association = Association(scene.port, objects)
    assert [association.store(one) for one in objects] == [SUCCESS] * 3
    association.abort()
    assert assert_accounted(scene, objects, scene.wait(objects)) == {"encoded": 3}


def test_storescp_killed_in_mid_study_loses_nothing_that_was_acknowledged(scene):
    study = generate_uid()
    objects = [one for _ in range(6) for one in scene.objects(study, sop=generate_uid(), size=30_000)]
    acknowledged = until_storescp_is_killed(scene, objects)
    assert 3 <= len(acknowledged) < 6
    wait_until(lambda: is_open(scene), seconds=60, what="another storescp")
    acknowledged += scene.send(objects[len(acknowledged) :])
    assert len(acknowledged) == 6
    rows = scene.wait(acknowledged)
    assert assert_accounted(scene, acknowledged, rows)["encoded"] == 6
    assert times_sent(scene, objects) == {1}


def until_storescp_is_killed(scene: Scene, objects: Sequence[Object]) -> list[Object]:
    """Send until the association ends, which it does once three are acknowledged; return the acknowledged."""
    acknowledged: list[Object] = []
    with contextlib.suppress(HungUp), contextlib.closing(Association(scene.port, objects)) as association:
        for one in objects:
            assert association.store(one) == SUCCESS
            acknowledged.append(one)
            if len(acknowledged) == 3:
                kill_storescp(scene)
    return acknowledged


def kill_storescp(scene: Scene) -> None:
    for process in scene.site.processes(f"incoming/{scene.mode}"):
        if process.name() == "storescp":
            process.kill()


def is_open(scene: Scene) -> bool:
    try:
        with Association(scene.port, scene.objects(generate_uid(), sop=generate_uid())):
            return True
    except (HungUp, OSError):
        return False


def test_of_two_objects_under_one_uid_the_first_arrives_and_the_other_is_a_conflict(scene):
    study, sop = generate_uid(), generate_uid()
    first, other = scene.objects(study, sop=sop), scene.objects(study, sop=sop)
    acknowledged = scene.send(first + other)
    assert len(acknowledged) == 2
    rows = scene.wait(acknowledged)
    assert assert_accounted(scene, acknowledged, rows) == {"encoded": 1, "conflict": 1}
    arrived = read(scene.archive.stored[sop])
    assert pixel_array(arrived, raw=True).tobytes() == pixel_bytes(data_set_of(first[0]))
    assert times_sent(scene, first) == {1}
    assert "something else was received before" in next(r["reason"] for r in rows if r["state"] == "conflict")


def test_uids_padded_with_blanks_are_the_uids_they_are(scene):
    study, sop = odd(generate_uid()), odd(generate_uid())
    blank, null = scene.objects(study, sop=sop, pad=b" "), scene.objects(study, sop=odd(generate_uid()))
    acknowledged = scene.send(blank + null)
    assert len(acknowledged) == 2
    assert assert_accounted(scene, acknowledged, scene.wait(acknowledged)) == {"encoded": 2}
    assert sop in scene.archive.stored
    assert len(scene.deliveries(study)) == 1


def odd(uid: str) -> str:
    return uid if len(uid) % 2 else uid[:-1]


STRANGE_STUDIES = ("..", ".", "1.2.ABC", "../../escaped", "1.2;touch${IFS}pwned", "$(touch${IFS}pwned)", "`id`")
TOO_LONG = "1." * 150


def test_strange_study_instance_uids_are_kept_aside_and_hold_nobody_back(scene):
    strange = [one for uid in (*STRANGE_STUDIES, TOO_LONG) for one in scene.objects(uid, sop=generate_uid())]
    good = scene.objects(generate_uid(), sop=generate_uid())
    acknowledged = scene.send(strange + good)
    if scene.mode == "study":  # a folder of that name cannot be made: C000, and nothing is left of it
        strange.pop()
    assert acknowledged == strange + good
    counts = assert_accounted(scene, acknowledged, scene.wait(acknowledged))
    assert counts == {"encoded": 1, "quarantined": len(strange)}
    assert_nothing_was_run(scene)


def test_strange_sop_instance_uids_are_kept_aside(scene):
    uids = ("1.2;touch${IFS}pwned", "$(touch${IFS}pwned)", "../../escaped", "1.2.ABC", "..")
    study = generate_uid()
    acknowledged = scene.send([one for uid in uids for one in scene.objects(study, sop=uid)])
    assert len(acknowledged) == len(uids)
    counts = assert_accounted(scene, acknowledged, scene.wait(acknowledged))
    assert counts == {"quarantined": len(uids)}
    assert_nothing_was_run(scene)


def test_a_strange_calling_ae_title_is_a_name_and_nothing_else(scene):
    titles = ("$(touch pwned)", "`touch pwned`", '";touch pwned;"', "A'B|C&D>pwned", "#p #a #c #f #r")
    objects = {title: scene.objects(generate_uid(), sop=generate_uid()) for title in titles}
    acknowledged = [one for title in titles for one in scene.send(objects[title], title)]
    rows = scene.wait(acknowledged)
    assert assert_accounted(scene, acknowledged, rows) == {"encoded": len(titles)}
    assert sorted(row["calling_ae_title"] for row in rows) == sorted(titles)
    assert_nothing_was_run(scene)


def assert_nothing_was_run(scene: Scene) -> None:
    for folder in (scene.site.folder, Path.cwd(), Path("/")):
        found = folder.rglob("*") if folder == scene.site.folder else folder.glob("*")
        assert not [path for path in found if "pwned" in path.name or path.name.endswith("escaped")]
