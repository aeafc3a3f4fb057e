import io
import mmap
import os
import struct
import sys
import time
import zlib

import pydicom.filereader
import pytest
from pydicom.data import get_testdata_file
from support.hostile.hostile_files import DEFLATED, EXPLICIT, deflated, element, hostile, image, part10
from support.sites.receiving import ROOT

from pipeline.dicom import inflated_extent, reading
from pipeline.dicom import walk as walk_module
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


class Counting(io.RawIOBase):
    """Count what is written and keep nothing."""

    written = 0

    def write(self, data):
        self.written += len(data)
        return len(data)


def of_zeros(head, mebibytes):
    deflator = zlib.compressobj(wbits=-15)
    stream = b"".join([deflator.compress(head), *(deflator.compress(bytes(1 << 20)) for _ in range(mebibytes))])
    return part10(stream + deflator.flush(), SOP, syntax=DEFLATED)


ITEMS = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
    "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
)


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (image(SOP) + struct.pack("<HH2sHL", 0xFFFC, 0xFFFC, b"OB", 0, 1 << 31), "inflates to more than 1024 MiB"),
        (image(SOP) + ITEMS + struct.pack("<HH2sHL", 9, 0x1001, b"OB", 0, 1 << 31), "inflates to more than"),
        (image(SOP) + struct.pack("<HH2sHL", 0xFFFC, 0xFFFC, b"UT", 0, 600 << 20), "its header is larger than"),
        (image(SOP) + element(0xFFFCFFFC, b"OB", b"") + b"\1", "cannot be read"),
    ],
)
def test_a_small_file_that_would_fill_the_disk_is_refused_before_it_has(monkeypatch, head, why):
    monkeypatch.setattr(inflated_extent, "MOST_UNFOLLOWED", 16 << 20)
    target = Counting()
    with pytest.raises(Malformed, match=why):
        reading.inflate(of_zeros(head, 64), target)
    assert target.written <= 20 << 20


def test_zeros_without_end_behind_a_deflated_data_set_are_not_written_and_what_is_behind_them_is_seen():
    target = Counting()
    reading.inflate(of_zeros(image(SOP), 64), target)
    assert target.written < 10 << 20
    behind = zlib.compressobj(wbits=-15)
    whole = part10(
        b"".join(behind.compress(x) for x in (image(SOP), bytes(20 << 20), b"x" * 99)) + behind.flush(),
        SOP,
        syntax=DEFLATED,
    )
    with pytest.raises(Malformed, match="bytes that are no element"):
        reading.inflate(whole, Counting())


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


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "reportsi.dcm"]
)
def test_a_glance_after_a_file_alike_says_what_it_says_without_that_one(tmp_path, monkeypatch, name):
    known, path = reading.Path(get_testdata_file(name)), tmp_path / "file"
    whole, tags = known.read_bytes(), [STUDY_INSTANCE_UID, PATIENT_ID]

    def glance_after(*earlier):
        monkeypatch.setattr(walk_module, "_glanced_at", walk_module._KnownLayouts())
        return [values_of(file, tags) for file in (*earlier, path)][-1]

    end = whole.index(values_of(known, tags)[STUDY_INSTANCE_UID]) + 100
    changed = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(130, end, 3)]
    for data in [*changed, *(whole[:at] for at in range(130, end, 5))]:
        path.write_bytes(data)
        assert glance_after(known) == glance_after(), len(data)


def test_of_slices_that_differ_in_values_only_one_is_walked_for_a_glance(tmp_path, monkeypatch):
    walked = []
    monkeypatch.setattr(walk_module, "_glanced_at", walk_module._KnownLayouts())
    real = walk_module._first_elements
    monkeypatch.setattr(walk_module, "_first_elements", lambda *given: walked.append(1) or real(*given))
    data = reading.Path(get_testdata_file("CT_small.dcm")).read_bytes()
    for number in (1, 2, 3):
        (tmp_path / f"{number}").write_bytes(data.replace(b"1CT1", f"{number}CT{number}".encode()))
    seen = [values_of(tmp_path / f"{number}", [PATIENT_ID, STUDY_INSTANCE_UID]) for number in (1, 2, 3)]
    assert [values[PATIENT_ID] for values in seen] == [b"1CT1", b"2CT2", b"3CT3"]
    assert len(walked) == 1


def test_an_endless_value_is_not_taken_whole(tmp_path):
    path = tmp_path / "long"
    path.write_bytes(part10(element(PATIENT_ID, b"UT", b"7" * (1 << 20)) + image(SOP), SOP))
    assert len(values_of(path, [PATIENT_ID])[PATIENT_ID]) == 1 << 16


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell before they end the process")
def test_a_mapped_file_that_cannot_be_read_is_an_error_and_does_not_end_this_process(tmp_path, monkeypatch):
    path, mapped = tmp_path / "file", mmap.mmap
    path.write_bytes(bytes(1 << 16))

    def lost(*args, **keys):
        """Map the file, and lose its pages, as a disk does that fails."""
        data = mapped(*args, **keys)
        os.truncate(path, 0)
        return data

    monkeypatch.setattr(reading.mmap, "mmap", lost)
    with pytest.raises(OSError, match="Input/output error"):
        values_of(path, [STUDY_INSTANCE_UID])
