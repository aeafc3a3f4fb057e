"""kind = "iso": a disc of the whole study in a folder others take it from, made once, never over anything."""

import json
import os
from pathlib import Path

import pytest
from pydantic import ValidationError
from support.sites.line_site import all_settled, arrive, rounds, settings_for, states, working
from support.studies.discs import PATIENT, STUDY, an_object, assert_records_agree, item, taken_apart

from pipeline.commands import check
from pipeline.destinations import from_table
from pipeline.disc.errors import SeveralPatients, TooLarge
from pipeline.disc.model import EXPLICIT, MEDIA, Medium
from pipeline.errors import Configuration, Transient
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


def test_what_has_to_be_left_out_is_refused_with_its_reason_and_the_rest_is_on_the_disc(tmp_path, folder):
    good = item(an_object(tmp_path / "in"))
    private = item(an_object(tmp_path / "in", "private", SOPClassUID="1.3.12.2.1107.5.9.1"))
    states_of = {one.key: one for one in delivered(destination(folder), good, private)}
    assert states_of[good.key].state is ReceiptState.STORED
    assert states_of[private.key].state is ReceiptState.REFUSED
    assert "private SOP class" in states_of[private.key].message
    assert visible(folder) == ["A1.iso", "A1.json"]
    readme = (taken_apart(folder / "A1.iso", tmp_path / "x") / "README.TXT").read_text("utf-8-sig")
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


# --- what is hidden beside the discs ---------------------------------------------------------------------------


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


def test_the_key_of_sets_is_refused_with_what_there_is_instead(folder):
    with pytest.raises(ValidationError, match=r"sets is gone.*use media.*container=zip"):
        destination(folder, sets=False)


def test_what_exceeds_the_medium_is_refused_with_both_sizes_and_what_holds_more(tmp_path, folder, monkeypatch):
    one = item(an_object(tmp_path / "in"))
    for name, more in (("cd", '"dvd" holds 400,001, "usb" has no limit'), ("dvd", '"usb" has no limit')):
        with monkeypatch.context() as patch:
            small = Medium(name, 400_000, frozenset({EXPLICIT}))
            patch.setitem(MEDIA, name, small)
            patch.setattr("pipeline.disc.make.writing.DVD", Medium("dvd", 400_001, frozenset()))
            with pytest.raises(TooLarge, match=rf"bytes; a {name.upper()} holds 400,000: .*{more}.*ZIP file"):
                delivered(destination(folder, media=name), one)
    assert visible(folder) == []
    delivered(destination(folder, media="usb"), one)
    assert json.loads((folder / "A1.json").read_text())["medium"] == "usb"


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
