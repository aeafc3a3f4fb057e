"""A disc says of what was received and set aside that it is not on it: the reader must not take it for all."""

import json
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid
from support.sites.line_site import RECEIVER, all_settled, arrive, instance, rounds, settings_for, states, working
from support.studies.discs import taken_apart

from pipeline.line import quarantine
from pipeline.sending.send import send

pytestmark = [pytest.mark.programs, pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "discs"
    folder.mkdir()
    return folder


@pytest.fixture
def study():
    return {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid(), "AccessionNumber": "A1"}


def settings(folder):
    disc = {"name": "burner", "kind": "iso", "folder": str(folder)}
    receiver = {**RECEIVER, "to": ["burner"], "coerce": False}
    return settings_for(folder.parent, destinations=[disc], receivers=[receiver])


def left_out(folder: Path, name: str) -> list[str]:
    return [one["reason"] for one in json.loads((folder / name).read_text())["left_out"]]


def readme(folder: Path, name: str, tmp_path: Path) -> str:
    return (taken_apart(folder / name, tmp_path / f"x-{name}") / "README.TXT").read_text("utf-8-sig")


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-10])
    return path


def test_what_was_set_aside_is_listed_until_a_person_discards_it(folder, study, tmp_path):
    good = [instance(tmp_path, f"i{n}", **study) for n in range(3)]
    nameless = instance(tmp_path, "nameless", **study | {"SeriesInstanceUID": ""})
    with working(settings(folder)) as (site, worker):
        name = arrive(site.spool, *good[:2], nameless, cut(instance(tmp_path, "cut", **study)))
        arrive(site.spool, cut(instance(tmp_path, "of another study")), instance(tmp_path, "another"))
        rounds(worker, until=all_settled(site))
        said = left_out(folder, "A1.json")
        assert len(said) == 2
        assert "the Series Instance UID (0020,000E) is missing" in said[0]
        assert "truncated" in said[1]
        assert "NOT HERE: 2 " in readme(folder, "A1.iso", tmp_path)
        for file in ("CT.X.00002", "CT.X.00003"):
            quarantine.discard(f"{name}/{file}", site.spool, site.ledger)
        arrive(site.spool, good[2])
        rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 3} and all_settled(site)())
    assert left_out(folder, "A1-2.json") == []


def test_another_object_of_the_same_uids_is_listed_and_the_first_stays_known_as_there(folder, study, tmp_path):
    first, late = (instance(tmp_path, name, **study) for name in ("first", "late"))
    uid = pydicom.dcmread(first).SOPInstanceUID
    other = instance(tmp_path, "other", **study, SOPInstanceUID=uid, PatientComments="other")
    said = ["something else was received before under the same UIDs"]
    with working(settings(folder)) as (site, worker):
        arrive(site.spool, first)
        arrive(site.spool, other)
        rounds(worker, until=all_settled(site))
        assert left_out(folder, "A1.json") == said
        arrive(site.spool, late)
        rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 2} and all_settled(site)())
    assert left_out(folder, "A1-2.json") == said
    assert len(json.loads((folder / "A1-2.json").read_text())["instances"]) == 2


def test_the_disc_of_given_files_lists_those_that_cannot_be_read(folder, study, tmp_path):
    given = tmp_path / "given"
    given.mkdir()
    instance(given, "good", **study)
    cut(instance(given, "cut", **study))
    with working(settings(folder)) as (site, worker):
        number = send(site.ledger, site.settings, [given], "burner").order_id
        image = folder / ".orders" / f"{number}.iso"
        rounds(worker, until=image.exists)
    text = (taken_apart(image, tmp_path / "x") / "README.TXT").read_text("utf-8-sig")
    assert "NOT HERE: 1 " in text
    assert "truncated" in text
