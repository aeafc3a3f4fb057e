"""kind = "iso": a disc of the whole study in a folder others take it from, made once, never over anything."""

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

import pydicom
import pytest
from discs import PATIENT, STUDY, Killed, an_object, assert_records_agree, item, killed_at, taken_apart
from line_site import all_settled, arrive, rounds, settings_for, states, working
from pydantic import ValidationError

from pipeline.commands import check
from pipeline.destinations import from_table
from pipeline.disc.errors import SeveralPatients
from pipeline.disc.formats.contents import IsoContents
from pipeline.disc.late.keeping import KEEP_IMAGES
from pipeline.disc.late.shelf import Shelf
from pipeline.errors import Configuration, Permanent, Transient
from pipeline.model import Consignment, Item, Receipt, ReceiptState

pytestmark = [pytest.mark.programs, pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "discs"
    folder.mkdir()
    return folder


def destination(folder: Path, **more: object):
    return from_table({"name": "disc", "kind": "iso", "folder": str(folder), **more})


def delivered(where, *items: Item, number: int = 1) -> list[Receipt]:
    return list(where.deliver(Consignment(number, items[0].key.study_instance_uid, tuple(items))))


def visible(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir() if not one.name.startswith("."))


def instances_on(path: Path) -> set[str]:
    contents = IsoContents(path)
    count = {name for name in contents.files if name.startswith("DICOM/")}
    contents.close()
    return count


def test_a_study_becomes_an_image_with_its_result_beside_it(tmp_path, folder):
    items = [item(an_object(tmp_path / "in", str(n), InstanceNumber=n)) for n in range(3)]
    receipts = delivered(destination(folder), *items)
    assert [(one.key, one.state, one.verified) for one in receipts] == [
        (one.key, ReceiptState.STORED, True) for one in items
    ]
    assert visible(folder) == ["A1.iso", "A1.json"]
    result = json.loads((folder / "A1.json").read_text())
    assert result["disc"] == "A1.iso"
    assert result["size"] == (folder / "A1.iso").stat().st_size
    assert {one["sop_instance_uid"] for one in result["instances"]} == {one.key.sop_instance_uid for one in items}
    assert {one["source_sha256"] for one in result["instances"]} == {one.sha256 for one in items}
    assert result["replaces"] is None
    assert "Doe" not in (folder / "A1.json").read_text()
    assert_records_agree(taken_apart(folder / "A1.iso", tmp_path / "x"), 3)


def test_the_same_content_is_not_made_twice(tmp_path, folder):
    one = item(an_object(tmp_path / "in"))
    where = destination(folder)
    first = delivered(where, one)
    before = (folder / "A1.iso").stat()
    assert delivered(where, one, number=2) == first
    assert visible(folder) == ["A1.iso", "A1.json"]
    assert (folder / "A1.iso").stat().st_mtime_ns == before.st_mtime_ns


def test_late_instances_make_a_new_image_of_the_whole_study_that_says_what_it_replaces(tmp_path, folder):
    early = [item(an_object(tmp_path / "in", str(n), InstanceNumber=n)) for n in range(2)]
    late = item(an_object(tmp_path / "in", "late", source="MR_small_RLE.dcm", Modality="MR"))
    where = destination(folder)
    delivered(where, *early)
    for one in early:
        one.path.unlink()  # the line lets go of what was delivered
    assert delivered(where, late, number=2)[0].state is ReceiptState.STORED
    assert visible(folder) == ["A1-2.iso", "A1-2.json", "A1.iso", "A1.json"]
    result = json.loads((folder / "A1-2.json").read_text())
    assert result["replaces"] == {
        "disc": "A1.iso",
        "volume_id": json.loads((folder / "A1.json").read_text())["volume_id"],
    }
    sources = {one["sop_instance_uid"]: one["source_sha256"] for one in result["instances"]}
    assert sources == {one.key.sop_instance_uid: one.sha256 for one in (*early, late)}
    root = taken_apart(folder / "A1-2.iso", tmp_path / "x")
    assert_records_agree(root, 3)
    assert "replaces the earlier A1.iso" in (root / "README.TXT").read_text("utf-8-sig")


def test_a_third_delivery_still_holds_everything_and_what_was_decoded_stays_known(tmp_path, folder):
    where = destination(folder)
    items = [
        item(an_object(tmp_path / "in", "0", source="MR_small_RLE.dcm", Modality="MR")),
        item(an_object(tmp_path / "in", "1")),
        item(an_object(tmp_path / "in", "2", InstanceNumber=9)),
    ]
    for number, one in enumerate(items, 1):
        delivered(where, one, number=number)
        one.path.unlink()
    result = json.loads((folder / "A1-3.json").read_text())
    assert {one["source_sha256"] for one in result["instances"]} == {one.sha256 for one in items}
    assert [one["decoded_from"] for one in result["instances"]].count("1.2.840.10008.1.2.5") == 1
    assert result["replaces"]["disc"] == "A1-2.iso"


def test_an_image_the_publisher_took_away_still_serves_for_late_instances(tmp_path, folder):
    where = destination(folder)
    delivered(where, item(an_object(tmp_path / "in")))
    for name in visible(folder):
        (folder / name).unlink()
    delivered(where, item(an_object(tmp_path / "in", "late")), number=2)
    assert visible(folder) == ["A1.iso", "A1.json"]
    assert len(instances_on(folder / "A1.iso")) == 2


def test_late_instances_alone_never_make_an_image(tmp_path, folder):
    where = destination(folder)
    delivered(where, item(an_object(tmp_path / "in")))
    for name in visible(folder):
        (folder / name).unlink()
    long_ago = time.time() - KEEP_IMAGES.total_seconds() - 60
    for one in (folder / ".storestow").glob("*.image"):
        os.utime(one, (long_ago, long_ago))
    with pytest.raises(Permanent, match="no longer kept: retrieve the study"):
        delivered(where, item(an_object(tmp_path / "in", "late")), number=2)
    assert visible(folder) == []
    assert not list((folder / ".storestow").glob("*.image"))


def test_an_instance_sent_again_with_other_bytes_takes_the_place_of_the_first(tmp_path, folder):
    where = destination(folder)
    first = an_object(tmp_path / "in", "a", InstanceNumber=1)
    delivered(where, item(first), item(an_object(tmp_path / "in", "b", InstanceNumber=2)))
    again = an_object(tmp_path / "in", "again", SOPInstanceUID=item(first).key.sop_instance_uid, InstanceNumber=3)
    delivered(where, item(again), number=2)
    root = taken_apart(folder / "A1-2.iso", tmp_path / "x")
    assert_records_agree(root, 2)
    numbers = {pydicom.dcmread(file).InstanceNumber for file in root.glob("DICOM/*/*/*")}
    assert numbers == {2, 3}


def test_what_has_to_be_left_out_is_refused_with_its_reason_and_the_rest_is_on_the_disc(tmp_path, folder):
    good = item(an_object(tmp_path / "in"))
    private = item(an_object(tmp_path / "in", "private", SOPClassUID="1.3.12.2.1107.5.9.1"))
    where = destination(folder)
    states_of = {one.key: one for one in delivered(where, good, private)}
    assert states_of[good.key].state is ReceiptState.STORED
    assert states_of[private.key].state is ReceiptState.REFUSED
    assert "private SOP class" in states_of[private.key].message
    assert delivered(where, good, private, number=2) == list(states_of.values())
    assert visible(folder) == ["A1.iso", "A1.json"]
    delivered(where, item(an_object(tmp_path / "in", "late")), number=3)
    readme = (taken_apart(folder / "A1-2.iso", tmp_path / "x") / "README.TXT").read_text("utf-8-sig")
    assert private.key.sop_instance_uid in readme


def test_two_patients_under_one_study_are_refused_as_a_whole(tmp_path, folder):
    items = item(an_object(tmp_path / "in")), item(an_object(tmp_path / "in", "b", PatientID="P2"))
    with pytest.raises(SeveralPatients):
        delivered(destination(folder), *items)
    assert visible(folder) == []


def test_a_name_in_use_by_something_else_is_never_overwritten(tmp_path, folder):
    (folder / "A1.iso").write_text("somebody's")
    (folder / "A1-2.json").write_text("{}")
    delivered(destination(folder), item(an_object(tmp_path / "in")))
    assert (folder / "A1.iso").read_text() == "somebody's"
    assert visible(folder) == ["A1-2.json", "A1-3.iso", "A1-3.json", "A1.iso"]
    assert json.loads((folder / "A1-3.json").read_text())["disc"] == "A1-3.iso"


def test_two_studies_of_one_accession_get_a_disc_each(tmp_path, folder):
    where = destination(folder)
    delivered(where, item(an_object(tmp_path / "in")))
    other = an_object(tmp_path / "in", "b", StudyInstanceUID=f"{STUDY}.2", SeriesInstanceUID=f"{STUDY}.2.1")
    delivered(where, item(other), number=2)
    assert visible(folder) == ["A1-2.iso", "A1-2.json", "A1.iso", "A1.json"]
    assert json.loads((folder / "A1-2.json").read_text())["replaces"] is None


# --- crashes: the process ends at each point; the next attempt finds what is there ------------------------------


@pytest.mark.parametrize("point", ["disc-made", "disc-remembered", "disc-result", "disc-offered"])
@pytest.mark.parametrize("late", [False, True])
def test_a_crash_at_any_point_ends_in_one_image_of_everything(point, late, tmp_path, folder):
    where = destination(folder)
    items = [item(an_object(tmp_path / "in", "0"))]
    if late:
        delivered(where, *items)
        items[0].path.unlink()
        items.append(item(an_object(tmp_path / "in", "1")))

    with killed_at(point):
        delivered(where, items[-1], number=2)
    assert delivered(where, items[-1], number=2)[0].state is ReceiptState.STORED
    name = "A1-2.iso" if late else "A1.iso"
    assert visible(folder) == sorted({"A1.iso", "A1.json", name, name.replace("iso", "json")})
    assert len(instances_on(folder / name)) == len(items)
    assert json.loads((folder / name).with_suffix(".json").read_text())["disc"] == name
    left = {one.suffix for one in (folder / ".storestow").iterdir()}
    assert left == {".json", ".lock", ".image"}


def results(folder: Path) -> list[dict[str, Any]]:
    """Return the results of A1.iso, A1-2.iso and so on; every image has one, and every result an image."""
    images = sorted(folder.glob("*.iso"), key=lambda path: (len(path.name), path.name))
    assert visible(folder) == sorted([one.name for one in images] + [f"{one.stem}.json" for one in images])
    tables = [json.loads(one.with_suffix(".json").read_text()) for one in images]
    for one, table in zip(images, tables, strict=True):
        assert len(instances_on(one)) == len(table["instances"])
    return tables


@pytest.mark.parametrize("point", ["disc-made", "disc-remembered", "disc-result", "disc-offered"])
@pytest.mark.parametrize("together", [False, True])
def test_late_instances_that_come_first_after_a_crash_never_hide_the_earlier_ones(
    together, point, tmp_path, folder
):
    where = destination(folder)
    early, late = (item(an_object(tmp_path / "in", str(n), InstanceNumber=n)) for n in (1, 2))
    with killed_at(point):
        delivered(where, early)
    following = (early, late) if together else (late,)
    assert {one.state for one in delivered(where, *following, number=2)} == {ReceiptState.STORED}
    assert delivered(where, early, number=1)[0].state is ReceiptState.STORED  # its own delivery, again
    *before, last = results(folder)
    assert {one["sop_instance_uid"] for one in last["instances"]} == {
        early.key.sop_instance_uid,
        late.key.sop_instance_uid,
    }
    seen = [(one["disc"], one["volume_id"]) for one in before]
    assert [tuple(last["replaces"].values())] == seen if last["replaces"] else seen == []
    assert len(seen) == (0 if together and point == "disc-made" else 1)
    assert {one.suffix for one in (folder / ".storestow").iterdir()} == {".json", ".lock", ".image"}


def test_an_image_that_went_before_it_was_offered_is_made_again_of_all_and_never_of_the_late_alone(
    tmp_path, folder
):
    where = destination(folder)
    early, late = (item(an_object(tmp_path / "in", str(n), InstanceNumber=n)) for n in (1, 2))
    with killed_at("disc-remembered"):
        delivered(where, early)
    (image,) = (folder / ".storestow").glob("*.new")
    os.truncate(image, 4096)
    with pytest.raises(Permanent, match="no longer kept"):
        delivered(where, late, number=2)
    assert visible(folder) == []
    delivered(where, early)
    delivered(where, late, number=2)
    assert [len(one["instances"]) for one in results(folder)] == [1, 2]


def test_an_image_taken_away_between_its_appearance_and_the_note_of_it_is_not_offered_again(
    tmp_path, folder, monkeypatch
):
    where = destination(folder)
    early, late = (item(an_object(tmp_path / "in", str(n), InstanceNumber=n)) for n in (1, 2))
    with monkeypatch.context() as patch:
        write = Shelf._write
        patch.setattr(Shelf, "_write", lambda shelf, table: killed_if_offered(write, shelf, table))
        with pytest.raises(Killed):
            delivered(where, early)
    for name in visible(folder):
        (folder / name).unlink()
    assert delivered(where, early)[0].state is ReceiptState.STORED
    assert visible(folder) == []
    delivered(where, late, number=2)
    assert [(len(one["instances"]), one["replaces"]["disc"]) for one in results(folder)] == [(2, "A1.iso")]


def killed_if_offered(write: Any, shelf: Shelf, table: dict[str, Any]) -> Any:
    if table["is_offered"]:
        raise Killed
    return write(shelf, table)


# --- what is hidden beside the discs ---------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "[]", '{"stem": 1}', "instances", "name", "\x00"])
def test_a_record_that_cannot_be_read_is_named_with_the_remedy_and_makes_no_disc_of_the_late_alone(
    text, tmp_path, folder
):
    where = destination(folder)
    early, late = (item(an_object(tmp_path / "in", str(n), InstanceNumber=n)) for n in (1, 2))
    delivered(where, early)
    record = folder / ".storestow" / f"{STUDY}.json"
    table = json.loads(record.read_text())
    forms = {"instances": json.dumps(table | {"instances": [1]}), "name": json.dumps(table | {"disc": None})}
    record.write_text(forms.get(text, text))
    with pytest.raises(Permanent) as caught:
        delivered(where, late, number=2)
    assert str(record) in str(caught.value)
    assert "put the file back from a backup, or retrieve the study from the archive for a disc" in str(
        caught.value
    )
    assert visible(folder) == ["A1.iso", "A1.json"]
    record.unlink()
    delivered(where, early, late, number=3)
    assert [len(one["instances"]) for one in results(folder)] == [1, 2]


def test_a_record_that_cannot_be_read_keeps_no_other_study_from_its_disc(tmp_path, folder):
    where = destination(folder)
    delivered(where, item(an_object(tmp_path / "in")))
    (folder / ".storestow" / f"{STUDY}.json").write_bytes(b"")
    long_ago = time.time() - KEEP_IMAGES.total_seconds() - 60
    os.utime(folder / ".storestow" / f"{STUDY}.image", (long_ago, long_ago))
    other = an_object(tmp_path / "in", "b", StudyInstanceUID=f"{STUDY}.2", SeriesInstanceUID=f"{STUDY}.2.1")
    delivered(where, item(other), number=2)
    assert len(results(folder)) == 2
    assert not (folder / ".storestow" / f"{STUDY}.image").exists()
    with pytest.raises(Permanent, match="does not say what the earlier disc"):
        delivered(where, item(an_object(tmp_path / "in", "late")), number=3)


def test_what_another_study_removes_meanwhile_does_not_keep_a_disc_from_being_made(tmp_path, folder, monkeypatch):
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: iter([path / "9.9.result", *listed(path)]))
    assert delivered(destination(folder), item(an_object(tmp_path / "in")))[0].state is ReceiptState.STORED


def test_what_is_kept_of_a_study_stays_as_long_as_somebody_works_at_that_study(tmp_path, folder):
    where = destination(folder)
    delivered(where, item(an_object(tmp_path / "in")))
    kept, record, lock = (folder / ".storestow" / f"{STUDY}.{suffix}" for suffix in ("image", "json", "lock"))
    long_ago = time.time() - KEEP_IMAGES.total_seconds() - 60
    os.utime(kept, (long_ago, long_ago))
    before = record.read_bytes()
    others = [
        item(an_object(tmp_path / "in", n, StudyInstanceUID=f"{STUDY}.{n}", SeriesInstanceUID=f"{STUDY}.{n}.1"))
        for n in ("2", "3")
    ]
    with lock.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        delivered(where, others[0], number=2)
        assert (kept.exists(), record.read_bytes()) == (True, before)
    delivered(where, others[1], number=3)
    assert (kept.exists(), json.loads(record.read_bytes())["is_forgotten"]) == (False, True)


def test_whoever_has_no_business_in_the_folder_reads_neither_images_nor_lists(tmp_path, folder):
    before = os.umask(0)
    try:
        delivered(destination(folder), item(an_object(tmp_path / "in")))
    finally:
        os.umask(before)
    modes = {one.name: one.stat().st_mode & 0o777 for one in folder.iterdir()}
    assert modes == {"A1.iso": 0o640, "A1.json": 0o640, ".storestow": 0o750}


# --- configuration -----------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_waits_for_a_person(tmp_path, folder):
    with pytest.raises(Configuration, match="does not exist"):
        delivered(destination(tmp_path / "nowhere"), item(an_object(tmp_path / "in")))


def test_a_folder_that_cannot_be_used_is_a_reason_not_a_crash(tmp_path, folder):
    (folder / ".storestow").write_text("in the way")
    with pytest.raises((Configuration, Transient)):
        delivered(destination(folder), item(an_object(tmp_path / "in")))


@pytest.mark.parametrize(
    "wrong", [{"file_name": "{acession}"}, {"viewer": "here"}, {"media": "tape"}, {"folder": "x"}]
)
def test_what_cannot_be_meant_is_refused_when_the_configuration_is_read(wrong, folder):
    with pytest.raises(ValidationError):
        from_table({"name": "disc", "kind": "iso", "folder": str(folder), **wrong})


def test_check_calls_an_unreadable_viewer_an_error(tmp_path, folder):
    table = {"name": "disc", "kind": "iso", "folder": str(folder), "viewer": str(tmp_path / "nowhere")}
    found = [one for one in check.findings(settings_for(tmp_path, destinations=(table,))) if "disc" in one.about]
    assert [(one.about, one.level) for one in found] == [("destination disc", "error")]
    assert "nowhere" in found[0].text


def test_check_finds_nothing_wrong_with_a_good_one(tmp_path, folder):
    table = {"name": "disc", "kind": "iso", "folder": str(folder)}
    found = [one for one in check.findings(settings_for(tmp_path, destinations=(table,))) if "disc" in one.about]
    assert [one.level for one in found] == ["ok"]


# --- the whole line ----------------------------------------------------------------------------------------


def test_a_study_and_its_late_instances_go_through_the_line_onto_discs(tmp_path, folder):
    table = {"name": "disc", "kind": "iso", "folder": str(folder), "file_name": "{accession}-{patient_name}"}
    with working(settings_for(tmp_path, destinations=(table,), default_coercions="off")) as (site, worker):
        arrive(site.spool, *(an_object(tmp_path / "in", str(n), InstanceNumber=n) for n in range(3)))
        rounds(worker, until=all_settled(site), seconds=60)
        assert visible(folder) == ["A1-DoeJane.iso", "A1-DoeJane.json"]
        arrive(site.spool, an_object(tmp_path / "in", "late", InstanceNumber=4))
        rounds(worker, until=lambda: len(visible(folder)) == 4 and all_settled(site)(), seconds=60)
        assert states(site, "deliveries") == {"delivered": 2}
    result = json.loads((folder / "A1-DoeJane-2.json").read_text())
    assert len(result["instances"]) == 4
    assert result["studies"] == [{"study_instance_uid": STUDY, "accession_number": "A1", "instances": 4}]
    assert PATIENT["PatientID"] not in json.dumps(result)
