"""What an archive gives back under our UID: the same instance, or another one."""

from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from pipeline.dicom.archived_copy import compared
from pipeline.dicom.same_content import Incomparable
from pipeline.model import ContentComparison

IMAGE, REPORT = "CT_small.dcm", "reportsi.dcm"


def pair(folder: Path, name: str = IMAGE) -> tuple[Path, Dataset]:
    ours = folder / "ours.dcm"
    ours.write_bytes(Path(get_testdata_file(name)).read_bytes())
    return ours, pydicom.dcmread(ours)


def saved(folder: Path, theirs: Dataset) -> Path:
    path = folder / "theirs.dcm"
    theirs.save_as(path)
    return path


@pytest.mark.parametrize(
    "name",
    [
        IMAGE,
        REPORT,
        "examples_palette.dcm",
        "waveform_ecg.dcm",
        "SC_rgb_small_odd.dcm",
        "rtplan.dcm",
        "JPEG2000.dcm",
    ],
)
def test_the_same_bytes_are_the_same(tmp_path, name):
    ours, theirs = pair(tmp_path, name)
    assert compared((ours, saved(tmp_path, theirs))) == ContentComparison(is_same=True)


def test_what_archives_correct_is_noted_by_keyword_and_no_value_is_told(tmp_path):
    ours, theirs = pair(tmp_path)
    theirs.PatientName, theirs.StudyDescription, theirs.InstitutionName = "Corrected^Name", "A", "B"
    del theirs.StationName
    theirs.add_new(0x00990010, "LO", "ARCHIVE")
    found = compared((ours, saved(tmp_path, theirs)))
    assert found.is_same
    assert set(found.differing) == {
        *("PatientName", "StudyDescription", "InstitutionName", "StationName", "00990010")
    }


@pytest.mark.parametrize(
    "syntax",
    [RLELossless, JPEG2000Lossless, ImplicitVRLittleEndian, ExplicitVRBigEndian],
    ids=lambda uid: uid.name,
)
def test_another_transfer_syntax_is_no_difference(tmp_path, syntax):
    ours, theirs = pair(tmp_path)
    if syntax.is_encapsulated:
        theirs.compress(syntax, generate_instance_uid=False)
        path = saved(tmp_path, theirs)
    else:
        theirs.file_meta.TransferSyntaxUID = syntax
        if not syntax.is_little_endian:
            theirs.PixelData = theirs.pixel_array.byteswap().tobytes()
        path = tmp_path / "theirs.dcm"
        pydicom.dcmwrite(
            path,
            theirs,
            implicit_vr=syntax.is_implicit_VR,
            little_endian=syntax.is_little_endian,
            force_encoding=True,
        )
    assert compared((ours, path)).is_same


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("SOPInstanceUID", "1.2.3"),
        ("SeriesInstanceUID", "1.2.3"),
        ("StudyInstanceUID", "1.2.3"),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.4"),
        ("Rows", 64),
        ("BitsStored", 12),
        ("PixelRepresentation", 0),
        ("RescaleIntercept", "0"),
    ],
)
def test_another_identity_or_meaning_of_the_pixels_is_another_instance(tmp_path, keyword, value):
    ours, theirs = pair(tmp_path)
    setattr(theirs, keyword, value)
    found = compared((ours, saved(tmp_path, theirs)))
    assert not found.is_same
    assert found.differing == (keyword,)


def test_one_other_pixel_is_another_instance(tmp_path):
    ours, theirs = pair(tmp_path)
    theirs.PixelData = b"\1\0" + theirs.PixelData[2:]
    assert compared((ours, saved(tmp_path, theirs))) == ContentComparison(is_same=False, differing=("PixelData",))


def test_an_archive_that_compressed_with_a_loss_holds_another_instance(tmp_path):
    ours, theirs = pair(tmp_path)
    theirs.PixelData = (theirs.pixel_array // 8 * 8).tobytes()
    assert not compared((ours, saved(tmp_path, theirs))).is_same


def test_without_its_pixels_it_is_another_instance(tmp_path):
    ours, theirs = pair(tmp_path)
    del theirs.PixelData
    assert not compared((ours, saved(tmp_path, theirs))).is_same


@pytest.mark.parametrize("keyword", ["PatientName", "AccessionNumber", "RequestedProcedureID", "AdmissionID"])
def test_a_report_for_a_corrected_patient_or_request_is_the_same(tmp_path, keyword):
    ours, theirs = pair(tmp_path, REPORT)
    setattr(theirs, keyword, "CORRECTED")
    assert compared((ours, saved(tmp_path, theirs))) == ContentComparison(is_same=True, differing=(keyword,))


def test_another_word_in_a_report_is_another_report(tmp_path):
    ours, theirs = pair(tmp_path, REPORT)
    [text] = [item for item in theirs.ContentSequence if item.ValueType == "TEXT"][:1] or [
        theirs.ContentSequence[0]
    ]
    if "TextValue" in text:
        text.TextValue = f"no {text.TextValue}"
    else:
        text.ConceptNameCodeSequence[0].CodeMeaning = "Another"
    found = compared((ours, saved(tmp_path, theirs)))
    assert (found.is_same, found.differing) == (False, ("ContentSequence",))


@pytest.mark.parametrize("content", [b"", b"no DICOM at all" * 20])
def test_what_cannot_be_read_cannot_be_compared(tmp_path, content):
    ours, _ = pair(tmp_path)
    theirs = tmp_path / "theirs.dcm"
    theirs.write_bytes(content)
    with pytest.raises((Incomparable, ValueError)):
        compared((ours, theirs))


def test_pixels_nobody_here_decodes_are_the_same_where_they_are_written_alike_and_else_not_comparable(tmp_path):
    ours, theirs = pair(tmp_path, "JPEG2000.dcm")
    theirs.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"  # MPEG-4
    theirs.PixelData = encapsulate([b"video" * 20])
    theirs.save_as(ours)
    assert compared((ours, saved(tmp_path, theirs))).is_same
    theirs.PixelData = encapsulate([b"other" * 20])
    with pytest.raises(Incomparable):
        compared((ours, saved(tmp_path, theirs)))
