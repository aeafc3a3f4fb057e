import os
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from support.crash.killed_at import OneRoom
from support.sites.line_site import instance

from pipeline.line.identify import contents_of, read


def test_an_instance_is_identified_by_its_data_set_not_its_name(tmp_path):
    path = instance(tmp_path, "CT.X.whatever", AccessionNumber="A1")
    found = read(path)
    dataset = pydicom.dcmread(path)
    assert found.key.sop_instance_uid == dataset.SOPInstanceUID
    assert (found.accession_number, found.modality, found.problem) == ("A1", "CT", None)


def test_file_meta_information_does_not_belong_to_the_data_set(tmp_path):
    path = instance(tmp_path)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.SourceApplicationEntityTitle = "ANOTHER"
    dataset.save_as(tmp_path / "b")
    one, other = read(path), read(tmp_path / "b")
    assert one.data_set_sha256 == other.data_set_sha256
    assert one.received_sha256 != other.received_sha256


@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [
        ("StudyInstanceUID", "", "Study Instance UID (0020,000D) is missing or empty"),
        ("SeriesInstanceUID", "1.2.ABC", "Series Instance UID (0020,000E) is not a valid UID"),
        ("StudyInstanceUID", "..", "Study Instance UID (0020,000D) is not a valid UID"),
        ("StudyInstanceUID", "1." * 150 + "1", "is not a valid UID"),
        ("SOPClassUID", "1.2;touch x", "SOP Class UID (0008,0016) is not a valid UID"),
    ],
)
def test_a_missing_or_invalid_uid_is_a_problem_of_that_instance(tmp_path, keyword, value, reason):
    path = instance(tmp_path)
    dataset = pydicom.dcmread(path)
    dataset.add_new(pydicom.datadict.tag_for_keyword(keyword), "UI", value)
    with pydicom.config.disable_value_validation():
        dataset.save_as(path, enforce_file_format=False)
    assert reason in read(path).problem


def test_a_uid_padded_with_a_blank_is_the_same_uid(tmp_path):
    path = instance(tmp_path)
    data = path.read_bytes()
    uid = pydicom.dcmread(path).StudyInstanceUID.encode()
    padded = data.replace(uid + b"\0", uid + b" ") if len(uid) % 2 else data
    path.write_bytes(padded)
    assert read(path).key.study_instance_uid == uid.decode()


def test_a_file_without_preamble_is_read_all_the_same(tmp_path):
    whole = instance(tmp_path)
    bare = tmp_path / "bare"
    bare.write_bytes(whole.read_bytes()[132:])
    assert read(bare).problem is None
    assert read(bare).key == read(whole).key


def test_a_dicomdir_is_no_instance():
    assert "DICOMDIR" in read(Path(get_testdata_file("DICOMDIR"))).problem


def test_garbage_is_a_problem_and_never_an_exception(tmp_path):
    path = tmp_path / "garbage"
    path.write_bytes(os.urandom(4096))
    assert read(path).problem


def test_hidden_and_empty_files_are_counted_and_are_no_instances(tmp_path):
    folder = tmp_path / "arrival"
    folder.mkdir()
    instance(folder, "real")
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "empty").touch()
    (folder / "link").symlink_to("/etc/passwd")
    contents = contents_of(folder, tmp_path, OneRoom())
    assert [found.file for found in contents.found] == ["real"]
    assert (contents.hidden_files, contents.empty_files) == (2, 1)


def test_files_come_in_the_order_they_were_received(tmp_path):
    for number, name in enumerate(("c", "a", "b")):
        os.utime(instance(tmp_path, name), (1000 + number, 1000 + number))
    assert [found.file for found in contents_of(tmp_path, tmp_path, OneRoom()).found] == ["c", "a", "b"]
