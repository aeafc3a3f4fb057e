"""kind = "iso" with `sets = true`: what exceeds the medium appears as a folder of discs, all or nothing."""

import json
from pathlib import Path

import pydicom
import pytest
from discs import STUDY, an_object, assert_records_agree, taken_apart
from small_studies import pinned

from pipeline import waypoints
from pipeline.destinations import from_table
from pipeline.errors import Permanent
from pipeline.media import loading
from pipeline.media.errors import TooLarge
from pipeline.media.inspection import inspect
from pipeline.media.model import DVD
from pipeline.model import Consignment, ConsignmentAbout, InstanceKey, Item, Receipt, ReceiptState

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
    monkeypatch.setattr("pipeline.media.making.DVD", small["dvd"])


def item(path: Path) -> Item:
    data_set = pydicom.dcmread(path, stop_before_pixels=True)
    key = InstanceKey(data_set.StudyInstanceUID, data_set.SeriesInstanceUID, data_set.SOPInstanceUID)
    return pinned(path, key)


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


def test_instances_that_come_after_a_set_are_refused_with_what_to_do(tmp_path, folder, items):
    delivered(folder, *items)
    with pytest.raises(Permanent, match=r"are a set .* retrieve the study from the archive"):
        delivered(folder, item(an_object(tmp_path / "in", "late")), number=2)
    assert visible(folder) == WHOLE


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


class Killed(BaseException):
    pass


@pytest.mark.parametrize("point", ["disc-made", "disc-remembered", "disc-offered"])
def test_a_crash_at_any_point_ends_in_one_whole_set(point, folder, items, monkeypatch):
    def killed(name: str) -> None:
        if name == point:
            raise Killed

    monkeypatch.setattr(waypoints, "observer", killed)
    with pytest.raises(Killed):
        delivered(folder, *items)
    assert visible(folder) in ([], WHOLE)
    monkeypatch.setattr(waypoints, "observer", lambda _: None)
    assert {one.state for one in delivered(folder, *items, number=2)} == {ReceiptState.STORED}
    assert visible(folder) == WHOLE
    assert {one.suffix for one in (folder / ".storestow").iterdir()} == {".json", ".lock"}


def test_an_order_is_one_file_and_says_what_to_ask_for_instead(folder, items):
    where = from_table({"name": "disc", "kind": "iso", "folder": str(folder), "sets": True})
    about = ConsignmentAbout(1, ("A1",), len(items), len(items))
    with pytest.raises(TooLarge, match=r"a DVD holds 1,400,000; an order is one file: container=zip has no limit"):
        list(where.deliver(Consignment(1, STUDY, tuple(items), about=about)))
    assert list((folder / ".orders").iterdir()) == []
