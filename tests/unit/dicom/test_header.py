"""A header is read, and file meta information written, as pydicom does it, only faster."""

import hashlib
import io
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_data_element, write_dataset
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from pipeline.dicom import header
from pipeline.dicom.attributes.elements import element_of, elements_of, encoded, put
from pipeline.dicom.attributes.unread_elements import UnreadElements
from pipeline.dicom.copied_instance import CopiedInstance
from pipeline.dicom.pixels.transcription import transcribed
from pipeline.dicom.reading import data_set_of
from pipeline.dicom.walk import walk_meta


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small_bigendian.dcm",
        "examples_overlay.dcm",
        "reportsi.dcm",  # with sequences of undefined length
        "rtplan.dcm",  # in implicit VR
    ],
)
def test_a_header_is_read_as_pydicom_reads_it(name):
    with data_set_of(Path(get_testdata_file(name))) as (data, layout):
        ours = header.read_header(data, layout)
        stream = io.BytesIO(data[layout.data_set : layout.header_end])
        theirs = read_dataset(stream, not layout.explicit, layout.little_endian)
    assert {tag: ours.get_item(tag) for tag in ours.keys()} == {  # noqa: SIM118  # iterating would decode them
        tag: theirs.get_item(tag)
        for tag in theirs.keys()  # noqa: SIM118
    }
    assert ours.original_encoding == theirs.original_encoding
    assert ours.original_character_set == theirs.original_character_set


NAMES = ["CT_small.dcm", "MR_small_bigendian.dcm", "reportsi.dcm", "rtplan.dcm"]


@pytest.mark.parametrize("name", NAMES)
def test_an_element_is_written_as_pydicom_writes_it(name):
    with data_set_of(Path(get_testdata_file(name))) as (data, layout):
        read = header.read_header(data, layout)
    implicit, little = not layout.explicit, layout.little_endian
    for tag in read.keys():  # noqa: SIM118  # iterating would decode them
        buffer = DicomBytesIO()
        buffer.is_implicit_VR, buffer.is_little_endian = implicit, little
        element = element_of(read, tag)
        if isinstance(element, RawDataElement) and element.value is None:  # pydicom reads it and cannot write it
            element = element._replace(value=b"")
        write_data_element(buffer, element)
        assert encoded(element, implicit, little) == buffer.getvalue(), tag


@pytest.mark.parametrize("name", [*NAMES, "examples_overlay.dcm"])
def test_a_data_set_is_written_as_pydicom_writes_it(name, tmp_path):
    with data_set_of(Path(get_testdata_file(name))) as (data, layout):
        whole = header.with_rest(header.read_header(data, layout), header.rest_of(data, layout))
        ours, theirs = transcribed(whole), transcribed(whole)
    for written in (ours, theirs):
        written.file_meta = whole.file_meta
        written.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        written.add_new(0x00081030, "LO", "Sch\xe4del")  # not raw
        written.add_new(0x00080000, "UL", 4)  # a group length is not written
    sha256 = header.write_data_set(tmp_path / "made", ours)
    made = (tmp_path / "made").read_bytes()
    for tag, element in elements_of(theirs):
        if isinstance(element, RawDataElement) and element.value is None:  # pydicom reads it and cannot write it
            put(theirs, element._replace(value=b""))
            assert element_of(ours, tag).value is None
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, theirs)
    assert made[walk_meta(made, 132)[1] :] == buffer.getvalue()
    assert sha256 == hashlib.sha256(made).hexdigest()


def test_reserved_bytes_that_are_not_zero_are_zero_in_what_is_written(tmp_path):
    whole = Path(get_testdata_file("CT_small.dcm")).read_bytes()
    at = whole.index(b"\x10\0\x02\x10SQ\0\0")
    (tmp_path / "a").write_bytes(whole[: at + 6] + b"\1\2" + whole[at + 8 :])
    for path in (tmp_path / "a", Path(get_testdata_file("CT_small.dcm"))):
        with data_set_of(path) as (data, layout):
            received = header.read_header(data, layout)
            written = transcribed(received)
            written.file_meta = received.file_meta
            header.write_data_set(tmp_path / f"{path.name}.made", written)
    assert (tmp_path / "a.made").read_bytes() == (tmp_path / "CT_small.dcm.made").read_bytes()


def test_what_is_changed_in_a_transcribed_data_set_is_not_changed_in_the_received_one():
    with data_set_of(Path(get_testdata_file("CT_small.dcm"))) as (data, layout):
        received = header.with_rest(header.read_header(data, layout), header.rest_of(data, layout))
    written = transcribed(received)
    del written["StationName"]
    written.PatientID, written.StudyComments = "ANOTHER", "new"
    assert (received.PatientID, received.StationName) == ("1CT1", "CT01_OC0")
    assert "StudyComments" not in received


def test_a_value_too_long_for_its_vr_is_written_as_pydicom_writes_it():
    element = RawDataElement(BaseTag(0x00104000), "LT", 0x10000, b"x" * 0x10000, 0, False, True)
    with pytest.warns(UserWarning, match="UN"):
        assert encoded(element, False, True)[4:6] == b"UN"


@pytest.mark.parametrize("name", NAMES)
def test_an_element_nobody_asks_for_is_not_made(name, monkeypatch):
    made = []
    real = UnreadElements._raw
    monkeypatch.setattr(
        UnreadElements, "_raw", lambda self, element: made.append(element.tag) or real(self, element)
    )
    with data_set_of(Path(get_testdata_file(name))) as (data, layout):
        read = header.read_header(data, layout)
        made.clear()
        assert read.SOPInstanceUID
        assert made == [0x00080018]


def test_a_part_of_a_file_has_the_elements_in_it_and_no_others():
    with data_set_of(Path(get_testdata_file("CT_small.dcm"))) as (data, layout):
        element = layout.elements[0x00100020]
        alone = header._read(data, layout, element.start, element.end)
    assert list(alone.keys()) == [0x00100020]
    assert alone.PatientID == "1CT1"


@pytest.mark.parametrize("tail", ["1", "12"], ids=["of odd length", "of even length"])
def test_file_meta_information_differs_from_pydicoms_in_no_byte(tmp_path, tail):
    for number in range(3):  # the second and the third are made of what was remembered of the first
        data_set = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
        uid = f"{generate_uid()[:40]}.{number}{tail}"
        data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = uid
        data_set.file_meta.PrivateInformationCreatorUID = "1.2.3"
        data_set.file_meta.PrivateInformation = b"\1\2" * (1 if number < 2 else header._MOST_REMEMBERED)
        path = tmp_path / str(number)
        data_set.save_as(path)
        with data_set_of(path) as (data, layout):
            read = header.read_header(data, layout)
            CopiedInstance(data, layout, read, frozenset()).write(tmp_path / "made")
            made = (tmp_path / "made").read_bytes()
            assert made[: walk_meta(made, 132)[1]] == header._preamble_of(
                header.file_meta(read, layout.transfer_syntax_uid)
            )
            assert made[walk_meta(made, 132)[1] :] == data[layout.data_set : layout.end]
        assert pydicom.dcmread(path).file_meta.MediaStorageSOPInstanceUID == uid


@pytest.mark.parametrize("vr", [b"OB", b"UN", b"SQ"])
def test_an_element_of_undefined_length_in_the_file_meta_information_is_read_as_pydicom_reads_it(tmp_path, vr):
    whole = Path(get_testdata_file("CT_small.dcm")).read_bytes()
    data_set = walk_meta(whole, 132)[1]
    private = b"\x02\0\x02\x01" + vr + b"\0\0" + b"\xff" * 4
    items = b"" if vr == b"SQ" else b"\xfe\xff\0\xe0" + (0 if vr == b"UN" else 4).to_bytes(4, "little")
    items += b"\1\2\3\4" if vr == b"OB" else b""
    creator = b"\x02\0\0\x01UI\6\x001.2.3\0"
    meta = whole[132 + 12 : data_set] + creator + private + items + b"\xfe\xff\xdd\xe0\0\0\0\0"
    length = b"\2\0\0\0UL\4\0" + len(meta).to_bytes(4, "little")
    path = tmp_path / "a"
    path.write_bytes(whole[:132] + length + meta + whole[data_set:])
    expected = pydicom.dcmread(path).file_meta[0x00020102]
    with data_set_of(path) as (data, layout):
        assert layout.meta[0x00020102].undefined_length
        read = header.read_header(data, layout)
        assert read.file_meta[0x00020102].value == expected.value
        CopiedInstance(data, layout, read, frozenset()).write(tmp_path / "written")
    written = pydicom.dcmread(tmp_path / "written")
    assert written.file_meta[0x00020102].value == expected.value
    assert written.PatientID == "1CT1"
