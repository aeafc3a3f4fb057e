"""Discs on which one person's images might be shown as another's, or one object hide the others."""

from pathlib import Path

import pydicom
import pytest
from pydicom.fileset import FileSet
from pydicom.tag import Tag
from pydicom.uid import generate_uid
from support.studies.discs import STUDY, a_disc, an_object, said, taken_apart

from pipeline.dicom.walk import walk
from pipeline.disc.dicomdir.values import element
from pipeline.disc.errors import SeveralPatients
from pipeline.disc.model import Disc
from pipeline.disc.verify.inspection import inspect
from pipeline.model import LeftOutCode

pytestmark = [pytest.mark.programs, pytest.mark.filterwarnings("ignore::UserWarning")]

OTHER = "1.2.826.0.1.3680043.9.9999.8"


def directory_of(disc: Disc, folder: Path) -> pydicom.Dataset:
    return pydicom.dcmread(taken_apart(disc.path, folder) / "DICOMDIR")


def records(directory: pydicom.Dataset, kind: str) -> list[pydicom.Dataset]:
    return [one for one in directory.DirectoryRecordSequence if one.DirectoryRecordType == kind]


# --- several patients, where a person allows it --------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        {"PatientBirthDate": "19800202"},
        {"PatientName": "Smith^Mary"},
        {"IssuerOfPatientID": "ELSEWHERE"},
        {"PatientID": "P2"},
        {"PatientID": "", "PatientName": "", "PatientBirthDate": "19800202"},
    ],
)
def test_two_persons_have_a_record_each_with_what_is_theirs(tmp_path, other):
    one = an_object(tmp_path / "in", "one")
    two = an_object(tmp_path / "in", "two", StudyInstanceUID=OTHER, **other)
    disc = a_disc(tmp_path, one, two, allow_several_patients=True, allow_no_patient_id=True)
    found = records(directory_of(disc, tmp_path / "x"), "PATIENT")
    assert len(found) == 2
    wanted = {"P1", other.get("PatientID", "P1") or "UNKNOWN"}
    assert {str(one.PatientID) for one in found} == wanted
    dates = {str(one.get("PatientBirthDate", "")) for one in found}
    assert dates == {"19700101", other.get("PatientBirthDate", "19700101")}
    names = {str(one.PatientName) for one in found}
    assert names == {"Doe^Jane", other.get("PatientName", "Doe^Jane")}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"PatientBirthDate": "19800202"}, "not the same Patient's Birth Date"),
        ({"PatientName": "Smith^Mary"}, "not the same Patient's Name,"),
        ({"PatientName": "DOE^JANE", "PatientBirthDate": ""}, None),
        ({"PatientName": "Smith^Mary", "IssuerOfPatientID": "ELSEWHERE"}, None),
    ],
)
def test_anybodys_disc_on_which_one_patient_id_stands_for_two_is_not_good(tmp_path, other, words):
    one = an_object(tmp_path / "in", "one", IssuerOfPatientID="HERE")
    two = an_object(tmp_path / "in", "two", StudyInstanceUID=OTHER, **{"IssuerOfPatientID": "HERE"} | other)
    disc = a_disc(tmp_path, one, two, allow_several_patients=True)
    found = inspect(disc.path)
    assert found.is_good is (words is None)
    assert words is None or words in " ".join(one.text for one in found.findings)
    assert "Smith" not in str(found.findings)


def test_one_sop_instance_uid_in_two_series_is_spoken_of(tmp_path):
    uid = generate_uid()
    paths = [
        an_object(tmp_path / "in", str(n), SOPInstanceUID=uid, SeriesInstanceUID=generate_uid()) for n in (1, 2)
    ]
    found = inspect(a_disc(tmp_path, *paths).path)
    assert found.is_good
    (note,) = found.findings
    assert note.text.startswith("2 objects share their SOP Instance UID with another")


def test_two_without_patient_id_in_two_studies_are_two_persons_though_all_else_is_empty(tmp_path):
    nobody = {"PatientID": "", "PatientName": "", "PatientBirthDate": ""}
    one = an_object(tmp_path / "in", "one", **nobody)
    two = an_object(tmp_path / "in", "two", StudyInstanceUID=OTHER, **nobody)
    disc = a_disc(tmp_path, one, two, allow_several_patients=True, allow_no_patient_id=True)
    assert len(records(directory_of(disc, tmp_path / "x"), "PATIENT")) == 2


def test_two_studies_of_one_person_stay_in_one_record(tmp_path):
    paths = [an_object(tmp_path / "in", uid, StudyInstanceUID=uid) for uid in (STUDY, OTHER)]
    disc = a_disc(tmp_path, *paths, allow_several_patients=True)
    directory = directory_of(disc, tmp_path / "x")
    assert (len(records(directory, "PATIENT")), len(records(directory, "STUDY"))) == (1, 2)


def test_the_same_series_uid_in_two_studies_has_two_pictures_and_every_row_says_whose_it_is(tmp_path):
    one = an_object(tmp_path / "in", "one", SeriesInstanceUID="1.2.3")
    two = an_object(
        *(tmp_path / "in", "two"),
        source="MR_small.dcm",
        SeriesInstanceUID="1.2.3",
        StudyInstanceUID=OTHER,
        PatientID="P2",
        PatientName="Smith^Mary",
    )
    root = taken_apart(a_disc(tmp_path, one, two, allow_several_patients=True).path, tmp_path / "x")
    page = (root / "INDEX.HTM").read_text()
    first, second = page.index("T0000001.JPG"), page.index("T0000002.JPG")
    assert (root / "IHE_PDI/T0000001.JPG").read_bytes() != (root / "IHE_PDI/T0000002.JPG").read_bytes()
    rows = page[page.index("<h2>") :]
    assert (
        rows.index("Doe, Jane")
        < first - page.index("<h2>")
        < rows.index("Smith, Mary")
        < second - page.index("<h2>")
    )


# --- whose it is is asked of every file ----------------------------------------------------------------------


def test_the_same_uids_under_another_patient_are_no_repetition_but_another_patient(tmp_path):
    uid = generate_uid()
    one = an_object(tmp_path / "in", "one", SOPInstanceUID=uid)
    two = an_object(tmp_path / "in", "two", SOPInstanceUID=uid, PatientID="P2", PatientName="Smith^Mary")
    with pytest.raises(SeveralPatients, match="Patient ID differs"):
        a_disc(tmp_path, one, two)
    with pytest.raises(SeveralPatients, match="one study holds more than one patient"):
        a_disc(tmp_path, one, two, allow_several_patients=True)


def test_who_tells_most_speaks_for_the_patient_and_the_study(tmp_path):
    empty = {
        "PatientName": "",
        "PatientBirthDate": "",
        "AccessionNumber": "",
        "StudyDate": "",
        "StudyDescription": "",
    }
    report = an_object(tmp_path / "in", "a", SeriesNumber=0, SeriesInstanceUID=generate_uid(), **empty)
    image = an_object(tmp_path / "in", "b", StudyDate="20260914", StudyDescription="Thorax")
    disc = a_disc(tmp_path, report, image)
    directory = directory_of(disc, tmp_path / "x")
    (patient,), (study,) = records(directory, "PATIENT"), records(directory, "STUDY")
    assert (patient.PatientName, patient.PatientBirthDate) == ("Doe^Jane", "19700101")
    assert (study.StudyDate, study.StudyDescription, study.AccessionNumber) == ("20260914", "Thorax", "A1")
    assert disc.patient.name == "Doe^Jane"
    assert "Doe, Jane" in (tmp_path / "x/INDEX.HTM").read_text()
    assert inspect(disc.path).is_good


# --- what one object holds must not hide the others ----------------------------------------------------------


def with_sequence(path: Path, tag: int, vr: str, value: bytes) -> Path:
    """Put an element of these very bytes into a file; pydicom would not write such a thing."""

    data = path.read_bytes()
    layout = walk(data)
    at = next(one.start for one in layout.elements.values() if one.tag > tag)
    path.write_bytes(data[:at] + element(tag, vr, value) + data[at:])
    return path


ITEM = b"\xfe\xff\x00\xe0"
UNSOUND = {
    "implicit content in VR UN": ("UN", ITEM + b"\x10\0\0\0" + b"\x20\0\x0e\0\x08\0\0\x001.2.3.4\0"),
    "explicit content in VR UN": ("UN", ITEM + b"\x0c\0\0\0" + b"\x20\0\x0e\0UI\x04\x001.2\0"),
    "a sequence within that is shorter than its item": (
        "SQ",
        ITEM
        + b"\x20\0\0\0"
        + b"\x08\0\x99\x11SQ\0\0\x08\0\0\0"
        + ITEM
        + b"\x0c\0\0\0"
        + b"\x20\0\x0e\0UI\x04\x001.2\0",
    ),
    "garbage": ("SQ", b"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a"),
    "an item that is longer than its sequence": ("SQ", ITEM + b"\x40\0\0\0" + b"\x20\0\x0e\0UI\x04\x001.2\0"),
    "an element that is longer than its item": ("SQ", ITEM + b"\x0c\0\0\0" + b"\x20\0\x0e\0UI\x40\x001.2\0"),
    "an item that has no end": ("SQ", ITEM + b"\xff\xff\xff\xff" + b"\x20\0\x0e\0UI\x04\x001.2\0"),
    "an unknown VR": ("SQ", ITEM + b"\x0c\0\0\0" + b"\x20\0\x0e\0ZZ\x04\x001.2\0"),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_an_unsound_sequence_stays_in_its_object_and_the_index_stays_readable(tmp_path, name):
    vr, value = UNSOUND[name]
    state = an_object(
        tmp_path / "in",
        "pr",
        ContentLabel="A",
        PresentationCreationDate="20260914",
        PresentationCreationTime="1000",
        SOPClassUID="1.2.840.10008.5.1.4.1.1.11.1",
    )
    with_sequence(state, 0x00081115, vr, value)
    disc = a_disc(tmp_path, state, *(an_object(tmp_path / "in", str(number)) for number in range(2)))
    root = taken_apart(disc.path, tmp_path / "x")
    said("dcmdump", "-q", root / "DICOMDIR")
    assert len(FileSet(root / "DICOMDIR")) == len(disc.instances) == 3
    (record,) = records(pydicom.dcmread(root / "DICOMDIR"), "PRESENTATION")
    assert Tag(0x00081115) not in record


def test_a_sound_sequence_is_in_the_record_of_any_kind_of_length(tmp_path):
    for undefined in (False, True):
        inner = pydicom.Dataset()
        inner.SeriesInstanceUID = "1.2.3"
        inner.is_undefined_length_sequence_item = undefined
        state = an_object(
            tmp_path / "in",
            f"pr{undefined}",
            ContentLabel="A",
            PresentationCreationDate="20260914",
            PresentationCreationTime="1000",
            SOPClassUID="1.2.840.10008.5.1.4.1.1.11.1",
        )
        data_set = pydicom.dcmread(state)
        data_set.ReferencedSeriesSequence = [inner]
        data_set["ReferencedSeriesSequence"].is_undefined_length = undefined
        data_set.save_as(state)
        disc = a_disc(tmp_path, state, name=f"{undefined}.iso")
        (record,) = records(directory_of(disc, tmp_path / "x"), "PRESENTATION")
        assert record.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3"


def test_a_document_with_values_that_are_none_costs_its_key_and_not_the_disc(tmp_path):
    item = b"\x40\0\x10\xa0UL\x06\0no tag"  # Relationship Type
    value = ITEM + len(item).to_bytes(4, "little") + item
    report = an_object(tmp_path / "in", "ko", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.59")
    with_sequence(report, 0x0040A730, "SQ", value)
    disc = a_disc(tmp_path, report, an_object(tmp_path / "in", "b"))
    assert len(disc.instances) == 2
    assert len(FileSet(taken_apart(disc.path, tmp_path / "x") / "DICOMDIR")) == 2


def test_one_header_that_lies_about_its_frames_is_left_out_and_the_rest_is_made(tmp_path):
    liar = an_object(tmp_path / "in", "liar", source="MR_small_RLE.dcm", Modality="MR", NumberOfFrames=99_999_999)
    disc = a_disc(tmp_path, liar, an_object(tmp_path / "in", "b"), media="cd")
    assert len(disc.instances) == 1
    (left_out,) = disc.left_out
    assert "by its header it would be" in left_out.reason
    assert "too large for one file" in left_out.reason
    assert left_out.code is LeftOutCode.LARGE
