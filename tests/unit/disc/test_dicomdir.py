"""The index: what our writer writes, read by pydicom; what our reader says of indexes that are wrong."""

import struct
import warnings
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid
from support.studies.discs import an_object

from pipeline.disc.dicomdir.cross_check import mismatches
from pipeline.disc.dicomdir.dicomdir import dicomdir
from pipeline.disc.formats.directory import NoDirectory, read_directory
from pipeline.disc.formats.independent_reader import NoIdentity, ObjectIdentity, claims_in
from pipeline.disc.objects.arrangement import arranged, placed
from pipeline.disc.objects.entry import read
from pipeline.disc.objects.records import KEYS, NoRecord, kind_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def tree_of(*paths: Path, several: bool = False):
    entries = [read(path, str(number), path.parent) for number, path in enumerate(paths)]
    return arranged(entries, one_patient=not several)


def parsed(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(BytesIO(data))


@pytest.fixture
def objects(tmp_path):
    """Two studies, three series, four objects, numbered against the order of their files."""
    other = {"StudyInstanceUID": "1.2.2", "StudyDate": "20250101", "AccessionNumber": "B2"}
    series = {"SeriesInstanceUID": "1.2.1.2", "SeriesNumber": 1, "InstanceNumber": 1}
    return [
        an_object(tmp_path, "a", InstanceNumber=2, SeriesNumber=7),
        an_object(tmp_path, "b", InstanceNumber=1, SeriesNumber=7),
        an_object(tmp_path, "c", **series),
        an_object(tmp_path, "d", **other, SeriesInstanceUID="1.2.2.1"),
    ]


def test_every_object_gets_a_file_of_its_own_in_the_order_of_dates_and_numbers(objects):
    found = [(one.path, one.entry.path.name) for one in placed(tree_of(*objects))]
    assert found == [
        ("DICOM/ST000001/SE000001/IM000001", "c"),
        ("DICOM/ST000001/SE000002/IM000002", "b"),
        ("DICOM/ST000001/SE000002/IM000003", "a"),
        ("DICOM/ST000002/SE000003/IM000004", "d"),
    ]


def test_two_patients_never_share_a_file_name(tmp_path):
    paths = [
        an_object(tmp_path, str(n), PatientID=f"P{n}", StudyInstanceUID=f"1.2.{n}", SeriesInstanceUID=f"1.2.{n}.1")
        for n in range(14)
    ]
    found = [one.path for one in placed(tree_of(*paths, several=True))]
    assert len(set(found)) == 14


def test_pydicom_reads_the_index_by_its_offsets(objects):
    directory = read_directory(dicomdir(tree_of(*objects), "DISC_1"))
    assert directory.problems == []
    assert directory.file_set_id == "DISC_1"
    assert [one.path for one in directory.listed] == [one.path for one in placed(tree_of(*objects))]
    assert {one.above.patient_id for one in directory.listed} == {b"P1"}


def test_the_same_objects_give_the_same_index_byte_for_byte(objects):
    assert dicomdir(tree_of(*objects), "DISC_1") == dicomdir(tree_of(*reversed(objects)), "DISC_1")


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 100", "Peña^José Ünï"),
        ("ISO_IR 192", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("ISO_IR 144", "Петров^Иван"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ],
)
def test_names_in_any_character_set_stand_in_the_index_byte_for_byte(tmp_path, character_set, name):
    path = an_object(tmp_path, SpecificCharacterSet=character_set, PatientName=name)
    raw = pydicom.dcmread(path).get_item("PatientName").value
    patient = parsed(dicomdir(tree_of(path), "D")).DirectoryRecordSequence[0]
    assert patient.get_item("PatientName").value == raw
    assert str(patient.PatientName) == name


def test_what_the_object_does_not_say_is_taken_from_what_it_does_say_or_left_empty(tmp_path):
    path = an_object(
        tmp_path,
        remove=["StudyID", "StudyTime", "SeriesNumber", "InstanceNumber", "Modality"],
        StudyDate="",
        SeriesDate="20240305",
        AcquisitionDate="20240306",
    )
    _, study, series, image = parsed(dicomdir(tree_of(path), "D")).DirectoryRecordSequence
    assert study.StudyDate == "20240305"
    assert study.StudyID == "A1"
    assert (series.Modality, series.SeriesNumber, image.InstanceNumber) == ("OT", 1, 1)


def test_dates_from_before_dicom_3_are_written_as_readers_sort_them(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = an_object(tmp_path, StudyDate="1999.05.24", StudyTime="11:42:21")
    study = parsed(dicomdir(tree_of(path), "D")).DirectoryRecordSequence[1]
    assert (study.StudyDate, study.StudyTime) == ("19990524", "114221")


def test_of_a_report_s_content_only_what_modifies_its_title_is_in_the_index(tmp_path):
    path = an_object(tmp_path, source="reportsi.dcm")
    modifier = pydicom.Dataset()
    modifier.RelationshipType, modifier.ValueType = "HAS CONCEPT MOD", "CODE"
    data_set = pydicom.dcmread(path)
    before = len(data_set.ContentSequence)
    data_set.ContentSequence.append(modifier)
    data_set.save_as(path)
    assert before > 0
    record = parsed(dicomdir(tree_of(path), "D")).DirectoryRecordSequence[3]
    assert record.DirectoryRecordType == "SR DOCUMENT"
    assert [item.RelationshipType for item in record.ContentSequence] == ["HAS CONCEPT MOD"]


def test_every_kind_of_record_has_its_keys_in_ascending_order():
    for kind, keys in KEYS.items():
        assert [key.tag for key in keys] == sorted(key.tag for key in keys), kind


@pytest.mark.parametrize(
    ("sop_class", "reason"),
    [
        ("1.3.12.2.1107.5.9.1", "private"),
        ("1.2.840.10008.5.1.4.1.1.8", "retired"),
        ("1.2.840.10008.5.1.4.38.1", "no place"),
        ("1.2.840.10008.5.1.4.1.1.9999", "unknown"),
    ],
)
def test_a_class_without_place_on_a_disc_is_refused_with_its_reason(sop_class, reason):
    with pytest.raises(NoRecord, match=reason):
        kind_of(sop_class, has_rows_and_columns=False)


def test_a_class_of_the_future_is_an_image_if_it_has_rows_and_columns():
    assert kind_of("1.2.840.10008.5.1.4.1.1.9999", has_rows_and_columns=True) == "IMAGE"


# --- the reader ------------------------------------------------------------------------------------------


def changed(data: bytes, tag: int, value: int, *, which: int = 0) -> bytes:
    """Return a DICOMDIR in which the offset element `tag` of the record `which` has another value."""
    needle = struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, b"UL", 4)
    at = -1
    for _ in range(which + 1):
        at = data.index(needle, at + 1)
    return data[: at + 8] + struct.pack("<L", value) + data[at + 12 :]


def test_an_offset_that_leads_nowhere_or_back_is_reported(objects):
    data = dicomdir(tree_of(*objects), "D")
    first = struct.unpack_from("<L", data, data.index(b"\x04\x00\x00\x12UL\x04\x00") + 8)[0]
    nowhere = read_directory(changed(data, 0x00041420, first + 2))
    assert "an offset in the DICOMDIR leads nowhere" in nowhere.problems
    assert any("cannot be reached" in problem for problem in nowhere.problems)
    ring = read_directory(changed(data, 0x00041400, first))
    assert "an offset in the DICOMDIR leads back to where it was" in ring.problems


def test_what_is_no_dicomdir_is_said_to_be_none(tmp_path):
    with pytest.raises(NoDirectory):
        read_directory(b"")
    with pytest.raises(NoDirectory):
        read_directory(b"\0" * 2000)
    assert read_directory(an_object(tmp_path).read_bytes()).listed == []


# --- claims ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small_implicit.dcm",
        "MR_small_bigendian.dcm",
        "JPEG2000.dcm",
        "reportsi.dcm",
        "rtplan.dcm",
        "ExplVR_LitEndNoMeta.dcm",
        "image_dfl.dcm",
    ],
)
def test_the_short_reader_and_pydicom_say_the_same_of_real_objects(name):
    path = Path(pydicom.data.get_testdata_file(name))
    data_set = pydicom.dcmread(path, force=True)
    try:
        claims = claims_in([path.read_bytes()[: 1 << 20]])
    except NoIdentity:
        assert name == "ExplVR_LitEndNoMeta.dcm"
        return
    assert claims.sop_instance_uid == str(data_set.SOPInstanceUID).encode()
    assert claims.study_instance_uid == str(data_set.StudyInstanceUID).encode()
    assert claims.series_instance_uid == str(data_set.SeriesInstanceUID).encode()
    assert claims.patient_id == str(data_set.PatientID).encode()
    assert claims.transfer_syntax_uid == str(data_set.file_meta.TransferSyntaxUID).encode()


def test_the_short_reader_passes_sequences_of_undefined_length(tmp_path):
    path = an_object(tmp_path)
    data_set = pydicom.dcmread(path)
    inner = pydicom.Dataset()
    inner.ReferencedSOPInstanceUID = generate_uid()
    inner.PurposeOfReferenceCodeSequence = [pydicom.Dataset()]
    inner["PurposeOfReferenceCodeSequence"].is_undefined_length = True
    inner.is_undefined_length_sequence_item = True
    data_set.ReferencedImageSequence = [inner, inner]
    data_set["ReferencedImageSequence"].is_undefined_length = True
    data_set.save_as(path)
    assert claims_in([path.read_bytes()]).patient_id == b"P1"


@pytest.mark.parametrize(
    ("attribute", "change"),
    [
        ("SOP Class UID", {"sop_class_uid": b"1.2"}),
        ("SOP Instance UID", {"sop_instance_uid": b"1.2"}),
        ("SOP Instance UID of the file meta information", {"media_instance": b"1.2"}),
        ("Transfer Syntax UID", {"transfer_syntax_uid": b"1.2"}),
        ("Study Instance UID", {"study_instance_uid": b"1.2"}),
        ("Series Instance UID", {"series_instance_uid": b"1.2"}),
        ("Patient ID", {"patient_id": b"P2"}),
        ("Patient's Name", {"patient_name": b"Roe"}),
    ],
)
def test_a_record_that_leads_to_another_object_is_found_out(tmp_path, attribute, change):
    path = an_object(tmp_path)
    (listed,) = read_directory(dicomdir(tree_of(path), "D")).listed
    claims = claims_in([path.read_bytes()])
    assert list(mismatches(listed, claims)) == []
    values = {name: getattr(claims, name) for name in ObjectIdentity.__slots__}
    assert list(mismatches(listed, ObjectIdentity(**{**values, **change}))) == [attribute]
