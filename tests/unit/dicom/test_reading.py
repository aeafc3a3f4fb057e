import io
import time
import zlib

import pydicom.filereader
import pytest
from pydicom.data import get_testdata_file
from support.hostile.hostile_files import DEFLATED, EXPLICIT, deflated, element, hostile, image, part10
from support.sites.receiving import ROOT

from pipeline.dicom import reading
from pipeline.dicom.part10 import Malformed
from pipeline.dicom.pydicom_reading import dcmread, read_partial
from pipeline.dicom.reading import values_of
from pipeline.line.identify import read

SOP, STUDY = f"{ROOT}.66.1", f"{ROOT}.1"
STUDY_INSTANCE_UID, PATIENT_ID = 0x0020000D, 0x00100020


def deflated_file(data_set, behind=b""):
    return part10(zlib.compress(data_set, wbits=-15), SOP, syntax=DEFLATED) + behind


@pytest.mark.parametrize("behind", [b"", b"\0", b"what else there is " * 100_000])
@pytest.mark.parametrize("mebibytes", [1, 3, 4, 5, 8, 9])
def test_what_follows_the_end_of_a_deflated_data_set_does_not_keep_it_from_ending(mebibytes, behind):
    whole = image(SOP) + element(0xFFFCFFFC, b"OB", bytes(mebibytes << 20))
    target = io.BytesIO()
    reading.inflate(deflated_file(whole, behind), target)
    assert target.getvalue().endswith(whole)


@pytest.mark.parametrize("extra", range(-3, 4))
def test_a_deflated_data_set_about_as_long_as_a_piece_is_inflated_whole(extra):
    content = bytes(reading.PIECE + extra)
    assert pydicom.filereader.zlib.decompress(zlib.compress(content, wbits=-15), -15) == content


def test_a_deflated_instance_with_a_byte_of_padding_is_taken_in(tmp_path):
    path = tmp_path / "padded"
    path.write_bytes(deflated_file(image(SOP, pixels=element(0x7FE00010, b"OB", bytes(6 << 20))), b"\0"))
    assert read(path, tmp_path).problem is None


def test_a_long_file_meta_information_does_not_hide_that_the_rest_is_deflated(tmp_path):
    path = tmp_path / "long"
    private = element(0x00020100, b"UI", ROOT.encode()) + element(0x00020102, b"OB", bytes(10_000))
    whole = deflated_file(image(SOP))
    end = whole.index(zlib.compress(image(SOP), wbits=-15))
    path.write_bytes(whole[:end] + private + whole[end:])
    assert read(path, tmp_path).problem is None


def test_pydicom_inflates_within_our_bounds(monkeypatch, tmp_path):
    path = tmp_path / "bomb"
    path.write_bytes(part10(deflated(image(SOP), 8 << 20), SOP, syntax=DEFLATED))
    assert len(dcmread(path)[0xFFFCFFFC].value) == 8 << 20
    monkeypatch.setattr(reading, "MAX_INFLATED", 4 << 20)
    with pytest.raises(Malformed, match="inflates to more than 4 MiB"):
        dcmread(path)
    with path.open("rb") as file, pytest.raises(Malformed, match="inflates to more than 4 MiB"):
        read_partial(file)


def test_a_glance_at_whatever_is_hostile_tells_the_study_and_takes_no_time(tmp_path):
    files = hostile(tmp_path)
    began = time.process_time()
    seen = {name: values_of(file, [STUDY_INSTANCE_UID, 0x00080018]) for name, file in files.items()}
    assert time.process_time() - began < 5
    assert {values[STUDY_INSTANCE_UID].decode().strip("\0") for values in seen.values()} == {STUDY}


def test_a_glance_takes_what_is_there_of_a_file_that_is_still_being_written(tmp_path):
    path = tmp_path / "growing"
    whole = part10(image(SOP), SOP, syntax=EXPLICIT)
    for written in range(0, len(whole), 7):
        path.write_bytes(whole[:written])
        seen = values_of(path, [STUDY_INSTANCE_UID])
        assert seen in ({}, {STUDY_INSTANCE_UID: STUDY.encode() + b"\0" * (len(STUDY) % 2)})
    assert seen


@pytest.mark.parametrize(
    "name", ["MR_small_implicit.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm", "JPEG2000.dcm"]
)
def test_a_glance_reads_every_encoding(name):
    path = get_testdata_file(name)
    seen = values_of(reading.Path(path), [STUDY_INSTANCE_UID, PATIENT_ID])
    whole = pydicom.dcmread(path)
    assert seen[STUDY_INSTANCE_UID].decode().strip(" \0") == whole.StudyInstanceUID
    assert seen.get(PATIENT_ID, b"").decode().strip(" \0") == whole.get("PatientID", "")


def test_an_endless_value_is_not_taken_whole(tmp_path):
    path = tmp_path / "long"
    path.write_bytes(part10(element(PATIENT_ID, b"UT", b"7" * (1 << 20)) + image(SOP), SOP))
    assert len(values_of(path, [PATIENT_ID])[PATIENT_ID]) == 1 << 16
