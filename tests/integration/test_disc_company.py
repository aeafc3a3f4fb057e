"""What is on a disc beside its objects: viewer, notes, names, pictures; and the same tree as a ZIP file."""

from pathlib import Path

import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid
from support.studies.disc_outcomes import digest, refused
from support.studies.discs import STUDY, a_disc, an_object, assert_sound, files_below, said, taken_apart

from pipeline.disc.errors import UnfitViewer
from pipeline.disc.formats.contents import IsoContents
from pipeline.disc.model import ReplacedDisc
from pipeline.disc.pages.thumbnails import ThumbnailTask, thumbnail

pytestmark = [pytest.mark.programs, pytest.mark.filterwarnings("ignore::UserWarning")]


def viewer(folder: Path, **files: str) -> Path:
    for name, text in {"start.exe": "MZ", "lib/ein sehr langer Name.dll": "x", **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize("at", ["VIEWER", "root"])
def test_the_site_s_viewer_is_on_the_disc_without_its_autorun(at, tmp_path):
    folder = viewer(tmp_path / "viewer", **{"autorun.inf": "[autorun]"})
    disc = a_disc(tmp_path, an_object(tmp_path / "in"), viewer=folder, viewer_at=at)
    prefix = "VIEWER/" if at == "VIEWER" else ""
    contents = IsoContents(disc.path, by_long_names=True)
    assert {f"{prefix}start.exe", f"{prefix}lib/ein sehr langer Name.dll"} < contents.files.keys()
    assert not any(name.lower().endswith("autorun.inf") for name in contents.files)
    contents.close()
    root = assert_sound(disc, tmp_path / "x")
    assert (root / f"{prefix}lib/ein sehr langer Name.dll").read_text() == "x"
    assert "viewer" in (root / "README.TXT").read_text("utf-8-sig")


def test_the_viewer_s_autorun_goes_along_where_it_is_wanted_and_the_page_says_so(tmp_path):
    folder = viewer(tmp_path / "viewer", **{"autorun.inf": "[autorun]"})
    path = an_object(tmp_path / "in")
    disc = a_disc(tmp_path, path, viewer=folder, viewer_at="root", viewer_autorun=True)
    root = taken_apart(disc.path, tmp_path / "x")
    assert (root / "autorun.inf").read_text() == "[autorun]"
    assert "It may start by itself." in (root / "README.TXT").read_text("utf-8-sig")


@pytest.mark.parametrize("name", ["dicomdir", "DICOM/x", "IHE_PDI/x", "readme.txt", "Index.htm"])
def test_a_viewer_in_the_root_may_not_take_the_disc_s_own_names(name, tmp_path):
    folder = viewer(tmp_path / "in" / "viewer", **{name: "x"})
    assert "needs for itself" in refused(
        tmp_path, UnfitViewer, an_object(tmp_path / "in" / "o"), viewer=folder, viewer_at="root"
    )


def test_a_viewer_that_is_not_there_is_a_matter_of_configuration(tmp_path):
    refused(tmp_path, UnfitViewer, an_object(tmp_path / "in"), viewer=tmp_path / "nowhere")


def test_without_a_viewer_the_readme_says_what_opens_the_disc(tmp_path):
    root = taken_apart(a_disc(tmp_path, an_object(tmp_path / "in")).path, tmp_path / "x")
    assert "Any DICOM viewer or medical workstation opens it" in (root / "README.TXT").read_text("utf-8-sig")


def test_a_disc_of_a_partial_order_says_so_in_numbers(tmp_path):
    disc = a_disc(tmp_path, an_object(tmp_path / "in"), partial=(37, 42))
    root = taken_apart(disc.path, tmp_path / "x")
    assert "INCOMPLETE: 37 of 42 objects" in (root / "README.TXT").read_text("utf-8-sig")
    assert "Incomplete: 37 of 42 objects." in (root / "INDEX.HTM").read_text("utf-8")


def test_a_disc_says_which_one_it_replaces(tmp_path):
    disc = a_disc(
        tmp_path, an_object(tmp_path / "in"), replaces=ReplacedDisc("A1.iso", "OLD_1", "2026-11-03 10:00")
    )
    root = taken_apart(disc.path, tmp_path / "x")
    assert "replaces the earlier A1.iso (volume OLD_1)" in (root / "README.TXT").read_text("utf-8-sig")
    assert "A1.iso" in (root / "INDEX.HTM").read_text("utf-8")


def test_objects_lie_on_the_disc_in_the_order_of_its_index(tmp_path):
    paths = [an_object(tmp_path / "in", str(n), InstanceNumber=20 - n) for n in range(20)]
    disc = a_disc(tmp_path, *paths)
    contents = IsoContents(disc.path)
    lying = [path for path in contents.files if path.startswith("DICOM/")]
    contents.close()
    assert lying == [one.path for one in disc.instances]


def test_no_word_of_the_patient_is_in_the_volume_descriptor_or_in_a_file_name(tmp_path):
    disc = a_disc(tmp_path, an_object(tmp_path / "in", PatientName="Geheim^Name", PatientID="SECRET7"))
    descriptor = disc.path.read_bytes()[16 * 2048 : 20 * 2048]
    for word in (b"GEHEIM", b"SECRET7", b"\0G\0E\0H", b"/in"):
        assert word not in descriptor.upper()
    assert "SECRET7" not in disc.volume_id


def test_the_same_tree_becomes_a_zip_file(tmp_path):
    paths = [an_object(tmp_path / "in", str(n), InstanceNumber=n) for n in range(3)]
    disc = a_disc(tmp_path, *paths, name="disc.zip")
    assert_sound(disc, tmp_path / "x")
    assert disc.medium.capacity_bytes is None


def test_a_zip_file_encrypted_with_aes_256_opens_with_its_pass_phrase_only(tmp_path):
    disc = a_disc(tmp_path, an_object(tmp_path / "in"), name="disc.zip", pass_phrase="correct horse battery")
    taken_apart(disc.path, tmp_path / "x", password="correct horse battery")
    assert "AES-256" in said("7z", "l", "-slt", disc.path)
    said("7z", "t", "-pwrong", disc.path, fails=True)
    assert b"Doe" not in disc.path.read_bytes()
    assert "correct horse" not in repr(disc)


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "examples_rgb_color.dcm", "examples_palette.dcm", "examples_jpeg2k.dcm"]
)
def test_a_series_is_shown_by_a_small_picture(name, tmp_path):
    from PIL import Image

    picture = tmp_path / "p.jpg"
    picture.write_bytes(thumbnail(ThumbnailTask(Path(get_testdata_file(name)))))
    with Image.open(picture) as shown:
        assert max(shown.size) <= 160
        low, high = shown.convert("L").getextrema()
        assert high - low > 100


def test_an_object_that_cannot_be_shown_costs_its_picture_and_nothing_else(tmp_path):
    odd = an_object(tmp_path / "in", SeriesInstanceUID=generate_uid(), Rows=60000, StudyInstanceUID=STUDY)
    disc = a_disc(tmp_path, odd, an_object(tmp_path / "in", "b"))
    root = taken_apart(disc.path, tmp_path / "x")
    assert len(files_below(root / "IHE_PDI")) == 1
    assert "no picture" in (root / "INDEX.HTM").read_text("utf-8")


@pytest.mark.parametrize("name", ["a=b", "back\\slash", "new\nline", " blank ", "üñí 山", "-o", "'quote\""])
def test_a_file_may_be_called_anything_where_it_lies(name, tmp_path):
    path = an_object(tmp_path / "in")
    odd = tmp_path / "in" / name / name
    odd.parent.mkdir()
    path.rename(odd)
    disc = a_disc(tmp_path, odd)
    assert disc.instances[0].sha256 == digest(odd)
