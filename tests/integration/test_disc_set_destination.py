"""kind = "iso" with `sets = true`: what exceeds the medium appears as a folder of discs, all or nothing."""

import errno
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from discs import STUDY, an_object, assert_records_agree, item, killed_at, taken_apart

from pipeline.destinations import from_table
from pipeline.disc.errors import TooLarge
from pipeline.disc.late.keeping import KEEP_IMAGES
from pipeline.disc.make import loading
from pipeline.disc.model import DVD
from pipeline.disc.verify.inspection import inspect
from pipeline.errors import PeerUnavailable, Permanent
from pipeline.model import Consignment, ConsignmentAbout, Item, Receipt, ReceiptState

pytestmark = [pytest.mark.programs, pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "discs"
    folder.mkdir()
    return folder


@pytest.fixture
def items(tmp_path) -> list[Item]:
    """Four series of eight, of which no two fit on one of the small media below."""
    return [
        item(
            an_object(
                tmp_path / "in", f"{n}-{i}", SeriesInstanceUID=f"{STUDY}.{n}", SeriesNumber=n, InstanceNumber=i
            )
        )
        for n in (1, 2, 3, 4)
        for i in range(1, 9)
    ]


@pytest.fixture(autouse=True)
def small_media(monkeypatch):
    small = {
        name: medium.__class__(name, 1_400_000, medium.allows)
        for name, medium in (("cd", loading.CD), ("dvd", DVD))
    }
    monkeypatch.setattr(loading, "CD", small["cd"])
    monkeypatch.setattr(loading, "DVD", small["dvd"])
    monkeypatch.setattr("pipeline.disc.make.making.DVD", small["dvd"])


def delivered(folder: Path, *items: Item, number: int = 1, **more: object) -> list[Receipt]:
    where = from_table({"name": "disc", "kind": "iso", "folder": str(folder), "sets": True, **more})
    return list(where.deliver(Consignment(number, STUDY, tuple(items))))


def visible(folder: Path) -> list[str]:
    return sorted(
        str(one.relative_to(folder))
        for one in folder.rglob("*")
        if not str(one.relative_to(folder)).startswith(".")
    )


WHOLE = ["A1", *(f"A1/A1-{n}of4.{suffix}" for n in (1, 2, 3, 4) for suffix in ("iso", "json"))]


def test_a_study_that_exceeds_the_medium_becomes_a_folder_of_discs_with_their_results(tmp_path, folder, items):
    receipts = delivered(folder, *items)
    assert [(one.key, one.state, one.verified) for one in receipts] == [
        (one.key, ReceiptState.STORED, True) for one in items
    ]
    assert visible(folder) == WHOLE
    found: list[str] = []
    for number in (1, 2, 3, 4):
        image = folder / "A1" / f"A1-{number}of4.iso"
        result = json.loads(image.with_suffix(".json").read_text())
        assert result["disc"] == image.name
        assert (result["set"]["disc"], result["set"]["of"]) == (number, 4)
        assert result["size"] == image.stat().st_size
        assert "Doe" not in json.dumps(result)
        assert (inspect(image).is_good, inspect(image).place) == (True, (number, 4))
        assert_records_agree(taken_apart(image, tmp_path / f"x{number}"), 8)
        found += [one["sop_instance_uid"] for one in result["instances"]]
    assert sorted(found) == sorted(one.key.sop_instance_uid for one in items)


def test_by_default_it_is_refused_with_both_sizes(folder, items):
    with pytest.raises(TooLarge, match=r"[\d,]+ bytes; a DVD holds 1,400,000"):
        delivered(folder, *items, sets=False)
    assert visible(folder) == []


def test_what_fits_on_one_disc_is_made_as_ever(folder, items):
    delivered(folder, *items[:3])
    assert visible(folder) == ["A1.iso", "A1.json"]


def test_the_same_set_is_not_made_twice(folder, items):
    first = delivered(folder, *items)
    before = (folder / "A1" / "A1-1of4.iso").stat().st_mtime_ns
    assert delivered(folder, *items, number=2) == first
    assert visible(folder) == WHOLE
    assert (folder / "A1" / "A1-1of4.iso").stat().st_mtime_ns == before


def late_one(tmp_path: Path) -> Item:
    return item(an_object(tmp_path / "in", "late", SeriesInstanceUID=f"{STUDY}.5", SeriesNumber=5))


def of_set(folder: Path, name: str, of: int) -> list[dict[str, Any]]:
    return [json.loads((folder / name / f"A1-{number}of{of}.json").read_text()) for number in range(1, of + 1)]


@pytest.mark.parametrize("was_taken_away", [False, True])
def test_late_instances_make_a_new_set_of_the_whole_study_that_says_what_it_replaces(
    tmp_path, folder, items, was_taken_away
):
    delivered(folder, *items)
    for one in items:
        one.path.unlink()  # the line lets go of what was delivered
    if was_taken_away:
        shutil.rmtree(folder / "A1")
    late = late_one(tmp_path)
    assert [one.state for one in delivered(folder, late, number=2)] == [ReceiptState.STORED]
    name = "A1" if was_taken_away else "A1-2"  # which is free again
    results = of_set(folder, name, 5)
    sources = {one["sop_instance_uid"]: one["source_sha256"] for table in results for one in table["instances"]}
    assert sources == {one.key.sop_instance_uid: one.sha256 for one in (*items, late)}
    assert {table["replaces"]["disc"] for table in results} == {"A1"}
    for number in range(1, 6):
        root = taken_apart(folder / name / f"A1-{number}of5.iso", tmp_path / "x")
        assert_records_agree(root, 1 if number == 5 else 8)
        assert "replaces the earlier A1" in (root / "README.TXT").read_text("utf-8-sig")
    assert len(list((folder / ".storestow").glob("*.images/*"))) == 5


def test_a_third_delivery_takes_the_earlier_instances_from_the_second_set(tmp_path, folder, items):
    delivered(folder, *items[:24])
    delivered(folder, *items[24:], number=2)
    for one in items:
        one.path.unlink()
    shutil.rmtree(folder / "A1-2")
    delivered(folder, late_one(tmp_path), number=3)
    assert sum(len(table["instances"]) for table in of_set(folder, "A1-2", 5)) == 33


def test_late_instances_of_a_set_that_is_no_longer_kept_are_refused_with_what_to_do(tmp_path, folder, items):
    delivered(folder, *items)
    shutil.rmtree(folder / "A1")
    (kept,) = (folder / ".storestow").glob("*.images")
    long_ago = time.time() - KEEP_IMAGES.total_seconds() - 60
    os.utime(kept, (long_ago, long_ago))
    with pytest.raises(Permanent, match=r"the earlier set of discs .* no longer kept: retrieve the study"):
        delivered(folder, late_one(tmp_path), number=2)
    assert visible(folder) == []
    assert not list((folder / ".storestow").glob("*.images"))


def test_where_there_are_no_hard_links_the_set_serves_as_long_as_it_is_there(tmp_path, folder, items, monkeypatch):
    def refused(*_args: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "hardlink_to", refused)
    delivered(folder, *items)
    assert not list((folder / ".storestow").glob("*images"))
    delivered(folder, late_one(tmp_path), number=2)
    assert len(of_set(folder, "A1-2", 5)) == 5
    shutil.rmtree(folder / "A1-2")
    with pytest.raises(Permanent, match="no longer kept"):
        delivered(folder, item(an_object(tmp_path / "in", "later")), number=3)


def test_a_kept_image_that_has_changed_is_not_taken_for_what_it_was(tmp_path, folder, items):
    delivered(folder, *items)
    image = folder / "A1" / "A1-3of4.iso"
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 1
    image.write_bytes(data)  # the hard link beside it changes with it
    with pytest.raises(Permanent, match="no longer kept"):
        delivered(folder, late_one(tmp_path), number=2)


def test_late_instances_may_turn_one_disc_into_a_set_of_the_whole_study_that_says_what_it_replaces(folder, items):
    delivered(folder, *items[:8])
    for one in items[:8]:
        one.path.unlink()
    delivered(folder, *items[8:], number=2)
    assert visible(folder) == sorted([*WHOLE, "A1.iso", "A1.json"])
    results = [json.loads((folder / "A1" / f"A1-{n}of4.json").read_text()) for n in (1, 2, 3, 4)]
    assert [one["replaces"]["disc"] for one in results] == ["A1.iso"] * 4
    assert sum(len(one["instances"]) for one in results) == 32


def test_a_folder_in_use_is_left_alone(folder, items):
    (folder / "A1").mkdir()
    (folder / "A1" / "theirs").write_text("x")
    delivered(folder, *items)
    assert sorted(one.name for one in (folder / "A1-2").glob("*.iso")) == [f"A1-{n}of4.iso" for n in (1, 2, 3, 4)]
    assert [one.name for one in (folder / "A1").iterdir()] == ["theirs"]


@pytest.mark.parametrize("point", ["disc-made", "disc-remembered", "disc-offered"])
@pytest.mark.parametrize("is_late", [False, True])
def test_a_crash_at_any_point_ends_in_one_whole_set(is_late, point, tmp_path, folder, items):
    there = []
    if is_late:
        delivered(folder, *items)
        shutil.rmtree(folder / "A1")
        for one in items:
            one.path.unlink()
        items = [late_one(tmp_path)]
        there = [f"A1/A1-{n}of5.{suffix}" for n in range(1, 6) for suffix in ("iso", "json")]
    whole = ["A1", *there] if is_late else WHOLE
    with killed_at(point):
        delivered(folder, *items, number=2)
    assert visible(folder) in ([], whole)
    assert {one.state for one in delivered(folder, *items, number=3)} == {ReceiptState.STORED}
    assert visible(folder) == whole
    assert {one.suffix for one in (folder / ".storestow").iterdir()} == {".json", ".lock", ".images"}
    assert sum(len(table["instances"]) for table in of_set(folder, "A1", 5 if is_late else 4)) == 32 + is_late


def assert_the_later_set_replaces_the_earlier(folder: Path, items: list[Item], late: Item) -> None:
    later = of_set(folder, "A1-2", 5)
    (earlier,) = {json.loads(one.read_text())["set"]["id"] for one in (folder / "A1").glob("*.json")}
    assert {(one["replaces"]["disc"], one["replaces"]["volume_id"]) for one in later} == {("A1", earlier)}
    found = sorted(one["sop_instance_uid"] for table in later for one in table["instances"])
    assert found == sorted(one.key.sop_instance_uid for one in (*items, late))
    assert sorted(one.name for one in folder.iterdir() if one.name[0] != ".") == ["A1", "A1-2"]
    assert {one.suffix for one in (folder / ".storestow").iterdir()} == {".json", ".lock", ".images"}


@pytest.mark.parametrize("point", ["disc-remembered", "disc-offered"])
@pytest.mark.parametrize("together", [False, True])
def test_late_instances_that_come_first_after_a_crash_find_the_earlier_set_offered_and_replace_it(
    together, point, tmp_path, folder, items
):
    late = late_one(tmp_path)
    with killed_at(point):
        delivered(folder, *items)
    following = (*items, late) if together else (late,)
    assert {one.state for one in delivered(folder, *following, number=2)} == {ReceiptState.STORED}
    assert set(WHOLE) < set(visible(folder))
    assert {one.state for one in delivered(folder, *items)} == {ReceiptState.STORED}  # its own delivery, again
    assert_the_later_set_replaces_the_earlier(folder, items, late)


def test_a_set_that_was_made_but_not_remembered_is_made_again_after_the_late_instances(tmp_path, folder, items):
    with killed_at("disc-made"):
        delivered(folder, *items)
    delivered(folder, late_one(tmp_path), number=2)
    assert visible(folder) == ["A1.iso", "A1.json"]
    delivered(folder, *items)
    assert {table["replaces"]["disc"] for table in of_set(folder, "A1", 5)} == {"A1.iso"}
    assert sum(len(table["instances"]) for table in of_set(folder, "A1", 5)) == 33


def failing_once(monkeypatch, folder: Path, *items: Item) -> None:
    """Deliver while the share answers the rename that makes the set visible with an error."""
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if Path(target).parent == folder:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", failing)
        with pytest.raises(PeerUnavailable, match="cannot be written to now"):
            delivered(folder, *items)
    assert visible(folder) == []


def test_a_share_that_fails_as_the_set_appears_keeps_nothing_from_appearing_later(
    tmp_path, folder, items, monkeypatch
):
    failing_once(monkeypatch, folder, *items)
    late = late_one(tmp_path)
    delivered(folder, late, number=2)
    delivered(folder, *items)
    assert_the_later_set_replaces_the_earlier(folder, items, late)


@pytest.mark.parametrize("crashed_again", [False, True])
def test_a_set_of_which_a_disc_went_before_it_was_offered_is_never_offered_and_made_again(
    crashed_again, folder, items, monkeypatch
):
    failing_once(monkeypatch, folder, *items)
    (folder / ".storestow" / STUDY / "A1-3of4.iso").unlink()
    if crashed_again:
        with killed_at("disc-made"):
            delivered(folder, *items)
        assert visible(folder) == []
    assert {one.state for one in delivered(folder, *items)} == {ReceiptState.STORED}
    assert visible(folder) == WHOLE
    assert {table["replaces"] and table["replaces"]["disc"] for table in of_set(folder, "A1", 4)} == {None}


@pytest.mark.parametrize("is_damaged", [False, True])
def test_one_image_not_yet_offered_that_becomes_a_set_leaves_nothing_behind(is_damaged, folder, items):
    with killed_at("disc-remembered"):
        delivered(folder, *items[:8])
    if is_damaged:
        (image,) = (folder / ".storestow").glob("*.new")
        os.truncate(image, 4096)
    delivered(folder, *items, number=2)
    replaced = None if is_damaged else "A1.iso"
    assert {one["replaces"] and one["replaces"]["disc"] for one in of_set(folder, "A1", 4)} == {replaced}
    assert visible(folder) == sorted([*WHOLE, *([] if is_damaged else ["A1.iso", "A1.json"])])
    assert {one.suffix for one in (folder / ".storestow").iterdir()} == {".json", ".lock", ".images"}


def test_whoever_has_no_business_in_the_folder_does_not_read_a_set(folder, items):
    before = os.umask(0)
    try:
        delivered(folder, *items)
    finally:
        os.umask(before)
    assert (folder / "A1").stat().st_mode & 0o777 == 0o750
    assert {one.stat().st_mode & 0o777 for one in (folder / "A1").iterdir()} == {0o640}


def test_an_order_is_one_file_and_says_what_to_ask_for_instead(folder, items):
    where = from_table({"name": "disc", "kind": "iso", "folder": str(folder), "sets": True})
    about = ConsignmentAbout(1, ("A1",), len(items), len(items))
    with pytest.raises(TooLarge, match=r"a DVD holds 1,400,000; an order is one file: container=zip has no limit"):
        list(where.deliver(Consignment(1, STUDY, tuple(items), about=about)))
    assert list((folder / ".orders").iterdir()) == []
