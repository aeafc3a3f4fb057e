"""`storestow disc`, as a person types it."""

import contextlib
import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.sites.disc_command import storestow
from support.studies.discs import an_object

pytestmark = [pytest.mark.programs, pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.fixture
def objects(tmp_path):
    return [an_object(tmp_path / "in", str(n), InstanceNumber=n) for n in range(3)]


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
