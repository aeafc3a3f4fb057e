"""`storestow disc verify`, as a person types it, of discs that others have made or changed."""

import shutil
import subprocess
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from support.machine.dicom_programs import program
from support.sites.disc_command import storestow
from support.studies.discs import a_disc, an_object, said, taken_apart

from pipeline.disc.verify.inspection import inspect

pytestmark = [pytest.mark.programs, pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.fixture
def objects(tmp_path):
    return [an_object(tmp_path / "in", str(n), InstanceNumber=n) for n in range(3)]


def errors(path: Path) -> list[str]:
    return [one.text for one in inspect(path).findings if one.level == "error"]


def notes(path: Path) -> list[str]:
    return [one.text for one in inspect(path).findings if one.level == "note"]


def test_a_disc_made_the_old_way_is_told_what_is_wrong_with_it(tmp_path, objects):
    """A folder called DICOMDIR, files named by UID, ISO level 4, whatever the PACS sent."""
    old = tmp_path / "old" / "DICOMDIR"
    old.mkdir(parents=True)
    for path in (*objects, an_object(tmp_path / "in", "j", source="MR_small_jp2klossless.dcm", Modality="MR")):
        shutil.copy(path, old / f"CT.{pydicom.dcmread(path).SOPInstanceUID}")
    image = tmp_path / "old.iso"
    said("genisoimage", "-quiet", "-iso-level", "4", "-r", "-V", "DICOM", "-o", image, tmp_path / "old")
    looked = storestow("disc", "verify", image, cwd=tmp_path)
    assert looked.returncode == 65
    for words in (
        "DICOMDIR is a folder, where the index file of that name must be",
        "4 file names are not of ISO 9660 level 1",
        "1 object is in JPEG 2000 Image Compression (Lossless Only)",
        "there is no README.TXT",
        "there is no INDEX.HTM",
        "4 objects of 1 patient, 0 listed in the DICOMDIR",
        "NOT GOOD",
    ):
        assert words in looked.stdout, words


def test_a_file_set_made_by_dcmmkdir_is_good_with_notes(tmp_path, objects):
    root = tmp_path / "set"
    (root / "DICOM").mkdir(parents=True)
    for number, path in enumerate(objects):
        shutil.copy(path, root / "DICOM" / f"IM{number}")
    argv = [program("dcmmkdir"), "-Pgp", "+I", "-a", "+r", "+id", ".", "+D", "DICOMDIR", "+F", "OTHER", "DICOM"]
    subprocess.run(argv, cwd=root, check=True, capture_output=True)
    assert errors(root) == []
    image = tmp_path / "set.iso"
    said("genisoimage", "-quiet", "-V", "MYDISC", "-o", image, root)
    assert errors(image) == []
    assert any("File-set ID" in note for note in notes(image))


def test_pydicom_s_file_set_of_three_patients_is_one_too_many(tmp_path):
    found = errors(Path(get_testdata_file("DICOMDIR")).parent)
    assert any("objects of 2 patients" in one or "patients (by Patient ID)" in one for one in found)


@pytest.fixture
def taken(tmp_path, objects):
    """A good disc's tree, to be spoilt."""
    return taken_apart(a_disc(tmp_path, *objects).path, tmp_path / "x")


def test_a_good_tree_on_a_stick_is_good(taken):
    assert inspect(taken).findings == []


def test_an_object_that_is_gone_is_missed(taken):
    (taken / "DICOM/ST000001/SE000001/IM000002").unlink()
    assert any("1 record names a file that is not there" in one for one in errors(taken))


def test_an_object_that_is_in_no_index_is_found(taken, tmp_path):
    shutil.copy(an_object(tmp_path / "in", "more"), taken / "DICOM" / "MORE")
    assert any("1 DICOM object is not in the DICOMDIR" in one for one in errors(taken))


@pytest.mark.parametrize("name", ["VIEWER/demo/DICOMDIR", "DICOM/INDEX"])
def test_another_index_on_the_disc_is_no_object_of_a_patient(name, taken):
    (taken / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(get_testdata_file("DICOMDIR"), taken / name)
    found = inspect(taken)
    assert (found.findings, found.objects, found.patients) == ([], 3, 1)


def test_a_record_that_leads_to_another_index_is_found(taken):
    shutil.copy(get_testdata_file("DICOMDIR"), taken / "DICOM/ST000001/SE000001/IM000002")
    assert any("IM000002 (it is a DICOMDIR, the index of other objects)" in one for one in errors(taken))


def test_an_image_that_says_it_is_an_index_is_an_object_all_the_same(taken, tmp_path):
    path = an_object(tmp_path / "in", "more", PatientID="P2")
    data_set = pydicom.dcmread(path)
    data_set.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    data_set.save_as(taken / "DICOM" / "MORE", enforce_file_format=False)
    assert any("objects of 2 patients" in one for one in errors(taken))


def test_an_object_of_somebody_else_under_a_record_is_found(taken, tmp_path):
    shutil.copy(an_object(tmp_path / "in", "more", PatientID="P2"), taken / "DICOM/ST000001/SE000001/IM000002")
    found = errors(taken)
    assert any("may be shown under a wrong name" in one and "Patient ID" in one for one in found)
    assert any("objects of 2 patients" in one for one in found)
    assert any("not what the disc's own list of checksums says" in one for one in found)
    assert not any("P2" in one for one in found)


def test_names_that_became_small_letters_are_explained(taken, tmp_path):
    (taken / "DICOM").rename(taken / "dicom")
    assert any("in small letters" in one for one in errors(taken))


def shown(folder: Path, named, version: str = "") -> Path:
    """Give everything in a folder the name that `named` returns for it, and files a version."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rename(path.with_name(named(path.name) + (version if path.is_file() else "")))
    return folder


@pytest.mark.parametrize(
    ("named", "version"), [(str.lower, ""), (str, ";1"), (str, ".;1"), (str, "."), (str.lower, ";1")]
)
def test_a_mounted_disc_without_long_names_is_taken_for_what_it_is(named, version, taken):
    """Linux shows the names of ISO 9660 in small letters, and with `map=off` as they are, version and all."""
    found = inspect(shown(taken, named, version))
    assert (found.objects, found.listed, found.checksums > 3) == (3, 3, True)
    assert [(one.level, "as Linux shows a disc that has no long names" in one.text) for one in found.findings] == [
        ("note", True)
    ]


def test_long_names_of_a_mounted_disc_are_left_as_they_are(taken):
    (taken / "VIEWER").mkdir()
    (taken / "VIEWER" / "A long name.Dll").write_text("x")
    shown(taken, lambda name: name if "long" in name else name.lower())
    assert errors(taken) == []


def test_an_index_alone_in_small_letters_was_renamed_by_somebody(taken):
    (taken / "DICOMDIR").rename(taken / "dicomdir")
    assert any("the index is called dicomdir; it must be DICOMDIR" in one for one in errors(taken))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            b"1.2.840.10008.1.3.10",
            b"1.2.276.0.7230010.3\0",
            "the class 1.2.276.0.7230010.3, not 1.2.840.10008.1.3.10",
        ),
        (b"1.2.840.10008.1.3.10", b"1.2.840.10008.5.1.4\0", "the class 1.2.840.10008.5.1.4, not"),
        (b"IMAGE ", b"IMAGES", "1 directory records are of no type that DICOM has (PS3.3 F.3.2.2): IMAGES"),
        (b"IMAGE ", b"\x1b[31m ", "IMAGE"),
        (b"SERIES", b"SERIE ", "SERIE; strict readers refuse the whole disc"),
    ],
)
def test_an_index_that_strict_readers_refuse_is_named(old, new, words, taken):
    index = (taken / "DICOMDIR").read_bytes()
    assert old in index
    (taken / "DICOMDIR").write_bytes(index.replace(old, new, 1))
    found = [one for one in errors(taken) if "strict readers refuse the whole disc" in one]
    assert len(found) == 1
    assert words in found[0] or new.startswith(b"\x1b")
    assert "\x1b" not in found[0]


def test_a_record_of_a_newer_or_retired_type_is_a_record_of_dicom(taken):
    index = (taken / "DICOMDIR").read_bytes()
    for kind in (b"PLAN  ", b"CURVE ", b"TRACT "):
        (taken / "DICOMDIR").write_bytes(index.replace(b"IMAGE ", kind, 1))
        assert not any("no type that DICOM has" in one for one in errors(taken))


def test_a_missing_renamed_or_broken_index_is_explained(taken):
    index = (taken / "DICOMDIR").read_bytes()
    (taken / "DICOMDIR").rename(taken / "DICOMDIR.DCM")
    assert any("it must be DICOMDIR, in the root" in one for one in errors(taken))
    (taken / "DICOMDIR.DCM").unlink()
    assert any("there is no DICOMDIR" in one for one in errors(taken))
    (taken / "DICOMDIR").write_bytes(index[:200])
    assert any("DICOMDIR" in one for one in errors(taken))


def test_a_cut_image_is_said_to_be_cut(tmp_path, objects):
    disc = a_disc(tmp_path, *objects)
    disc.path.write_bytes(disc.path.read_bytes()[: disc.size // 2])
    assert any("truncated: it says that it has" in one for one in errors(disc.path))


def test_an_autorun_is_noted(taken):
    (taken / "AUTORUN.INF").write_text("[autorun]")
    assert any("AUTORUN.INF wants to start a program" in one for one in notes(taken))
    assert errors(taken) == []


def test_what_is_no_disc_at_all_is_said_to_be_none(tmp_path):
    (tmp_path / "x.iso").write_bytes(b"no disc")
    assert "no ISO 9660 volume descriptor" in errors(tmp_path / "x.iso")[0]
