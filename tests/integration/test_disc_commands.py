"""`storestow disc` and `storestow disc verify`, as a person types them; discs of others among them."""

import contextlib
import json
import os
import pty
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from support.machine.dicom_programs import program
from support.studies.discs import a_disc, an_object, said, taken_apart

from pipeline.disc.verify.inspection import inspect

pytestmark = [pytest.mark.programs, pytest.mark.filterwarnings("ignore::UserWarning")]


def storestow(*words: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "pipeline", *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def objects(tmp_path):
    return [an_object(tmp_path / "in", str(n), InstanceNumber=n) for n in range(3)]


# --- disc --------------------------------------------------------------------------------------------------


def test_a_disc_is_made_of_folders_and_files_and_found_good(tmp_path, objects):
    made = storestow("disc", "in", objects[0], "-o", "A1.iso", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "3 objects in 1 series" in made.stdout
    assert "1 file was a repetition of" in made.stdout
    assert "read back" in made.stdout
    looked = storestow("disc", "verify", "A1.iso", cwd=tmp_path)
    assert looked.returncode == 0, looked.stdout
    assert "3 objects of 1 patient, 3 listed in the DICOMDIR" in looked.stdout
    assert "nothing wrong was found" in looked.stdout


def test_options_may_come_first_and_the_result_may_be_json(tmp_path, objects):
    made = storestow("disc", "--json", "-o", "A1.iso", "--media", "dvd", "in", cwd=tmp_path)
    result = json.loads(made.stdout)
    assert (result["disc"], result["medium"], len(result["instances"])) == ("A1.iso", "dvd", 3)
    looked = json.loads(storestow("disc", "verify", "--json", "A1.iso", cwd=tmp_path).stdout)
    assert looked["good"]
    assert (looked["objects"], looked["listed"], looked["patients"]) == (3, 3, 1)
    assert looked["volume_id"] == looked["file_set_id"] == result["volume_id"]


def test_two_patients_are_refused_with_exit_code_65(tmp_path, objects):
    an_object(tmp_path / "in", "other", PatientID="P2", AccessionNumber="B2")
    refused = storestow("disc", "in", "-o", "A1.iso", cwd=tmp_path)
    assert refused.returncode == 65
    assert "Patient ID differs between accession A1 and accession B2" in refused.stderr
    assert "P2" not in refused.stderr + refused.stdout
    example = "Patient ID is another in each of these, for example:\n"
    assert f"{example}    {tmp_path}/in/0\n    {tmp_path}/in/other\n" in refused.stdout
    assert "in/other" not in refused.stderr
    assert not (tmp_path / "A1.iso").exists()


def test_files_without_patient_id_are_named_to_the_operator_and_not_in_the_log(tmp_path, objects):
    an_object(tmp_path / "in", "SMITH_MARY", PatientID="")
    refused = storestow("disc", "in", "-o", "A1.iso", cwd=tmp_path)
    assert refused.returncode == 65
    assert "1 of 4 objects has no Patient ID" in refused.stderr
    assert refused.stdout == f"without Patient ID, for example:\n    {tmp_path}/in/SMITH_MARY\n"
    assert "SMITH" not in refused.stderr
    assert storestow("disc", "--json", "in", "-o", "A1.iso", cwd=tmp_path).stdout == ""


def test_a_link_that_leads_nowhere_is_in_the_way_before_any_work_is_done(tmp_path):
    (tmp_path / "A1.iso").symlink_to("nowhere")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("never read")
    refused = storestow("disc", "in", "-o", "A1.iso", cwd=tmp_path)
    assert refused.returncode == 65
    assert "A1.iso exists already and stays as it is" in refused.stderr


def test_another_patient_s_image_in_the_viewer_s_folder_is_refused_and_nothing_is_made(tmp_path, objects):
    (tmp_path / "viewer").mkdir()
    (tmp_path / "viewer" / "start.exe").write_text("MZ")
    sample = an_object(tmp_path / "viewer" / "demo", "SAMPLE.DCM", PatientID="P2")
    refused = storestow("disc", "in", "-o", "A1.iso", "--viewer", "viewer", cwd=tmp_path)
    assert refused.returncode == 78
    assert f"viewer file {sample} is a DICOM object: remove it" in refused.stderr
    assert sorted(one.name for one in tmp_path.iterdir()) == ["in", "viewer"]
    sample.unlink()
    assert storestow("disc", "in", "-o", "A1.iso", "--viewer", "viewer", cwd=tmp_path).returncode == 0
    assert "nothing wrong was found" in storestow("disc", "verify", "A1.iso", cwd=tmp_path).stdout


def test_what_is_left_out_is_said_on_the_terminal_and_in_the_log(tmp_path, objects):
    an_object(tmp_path / "in", "Doe_Jane_private", SOPClassUID="1.3.12.2.1107.5.9.1")
    made = storestow("disc", "in", "-o", "A1.iso", cwd=tmp_path)
    assert made.returncode == 0
    assert "LEFT OUT 1: private SOP class" in made.stdout
    assert "left-out" in made.stderr
    assert "Doe" not in made.stderr


def test_a_file_that_is_no_object_is_named_to_the_operator_and_not_in_the_log(tmp_path, objects):
    for number in range(7):
        (tmp_path / "in" / f"SMITH_MARY_{number}.pdf").write_bytes(b"%PDF-1.7")
    made = storestow("disc", "in", "-o", "A1.iso", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert f"{tmp_path}/in/SMITH_MARY_4.pdf" in made.stdout
    assert "and 2 more; --json names every file" in made.stdout
    result = json.loads(storestow("disc", "--json", "in", "-o", "B1.iso", cwd=tmp_path).stdout)
    assert [one["file"] for one in result["left_out"]] == [f"{tmp_path}/in/SMITH_MARY_{n}.pdf" for n in range(7)]
    assert "SMITH" not in made.stderr


def test_an_encrypted_zip_is_made_and_looked_at(tmp_path, objects):
    phrase = {"STORESTOW_PASS_PHRASE": "correct horse battery"}
    assert storestow("disc", "in", "-o", "A1.zip", "--encrypt", cwd=tmp_path, **phrase).returncode == 0
    assert storestow("disc", "verify", "--encrypted", "A1.zip", cwd=tmp_path, **phrase).returncode == 0
    wrong = storestow(
        "disc", "verify", "--encrypted", "A1.zip", cwd=tmp_path, STORESTOW_PASS_PHRASE="wrong phrase"
    )
    assert wrong.returncode == 65
    short = storestow("disc", "in", "-o", "B1.zip", "--encrypt", cwd=tmp_path, STORESTOW_PASS_PHRASE="short")
    assert short.returncode == 65
    assert "at least 10 characters" in short.stderr


def typed(*words: str, answers: list[str], cwd: Path) -> tuple[int, str]:
    """Run the command at a terminal, where each question for a pass phrase gets the next answer."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "pipeline", "disc", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "400"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,  # without a terminal but this one
    )
    os.close(theirs)
    shown, asked = "", 0
    with contextlib.suppress(OSError):  # EIO: nobody holds the other end any more
        while piece := os.read(ours, 4096):
            shown += piece.decode()
            if answers and shown.count("hrase: ") + shown.count("confirmation: ") > asked:
                asked += 1
                time.sleep(0.2)  # what is typed before the terminal is made silent is thrown away
                os.write(ours, answers.pop(0).encode() + b"\n")
    os.close(ours)
    return process.wait(timeout=20), shown


def test_a_new_pass_phrase_is_asked_for_until_it_was_typed_twice_alike(tmp_path, objects):
    phrase, slip = "correct horse battery", "correct horse batery"
    code, shown = typed("in", "-o", "A1.zip", "--encrypt", answers=[slip, phrase, phrase, phrase], cwd=tmp_path)
    assert code == 0, shown
    assert "do not match" in shown
    assert "horse" not in shown
    code, shown = typed("verify", "--encrypted", "A1.zip", answers=[phrase], cwd=tmp_path)
    assert code == 0, shown
    assert "nothing wrong was found" in shown


def test_an_encrypted_zip_looked_at_without_the_option_names_the_option(tmp_path, objects):
    phrase = {"STORESTOW_PASS_PHRASE": "correct horse battery"}
    storestow("disc", "in", "-o", "A1.zip", "--encrypt", cwd=tmp_path, **phrase)
    looked = storestow("disc", "verify", "A1.zip", cwd=tmp_path)
    assert looked.returncode == 65
    assert looked.stdout.startswith("error it cannot be read: it is encrypted: with --encrypted its pass phrase")


@pytest.mark.parametrize("words", [["in", "-o", "A1.zip", "--encrypt"], ["verify", "--encrypted", "in/0"]])
def test_where_nobody_can_type_a_pass_phrase_the_variable_is_named(words, tmp_path, objects):
    failed = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "pipeline", "disc", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,  # without a terminal
        check=False,
    )
    assert failed.returncode == 64
    assert "put it into STORESTOW_PASS_PHRASE" in failed.stderr
    assert not (tmp_path / "A1.zip").exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["in", "-o", "A1.img"], "must end in .iso or .zip"),
        (["nowhere", "-o", "A1.iso"], "does not exist"),
        (["in", "-o", "A1.iso", "--encrypt"], "--encrypt is for a .zip"),
        (["verify", "nowhere.iso"], "does not exist"),
    ],
)
def test_a_command_that_is_called_wrongly_says_so(words, complaint, tmp_path, objects):
    failed = storestow("disc", *words, cwd=tmp_path)
    assert failed.returncode == 64
    assert complaint in failed.stderr


def test_the_program_of_the_site_is_used(tmp_path, objects):
    (tmp_path / "site.toml").write_text(
        f'[site]\nspool = "{tmp_path}/spool"\n[programs]\nxorriso = "{tmp_path}/no-xorriso"\n'
    )
    failed = storestow("disc", "in", "-o", "A1.iso", cwd=tmp_path)
    assert failed.returncode == 78
    assert "[programs] xorriso" in failed.stderr
    assert sorted(one.name for one in tmp_path.iterdir()) == ["in", "site.toml"]


# --- verify: discs of others -------------------------------------------------------------------------------


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
