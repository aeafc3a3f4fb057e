"""Discs of real studies, left-out objects and refusals, held against every validator there is (docs/disc.md)."""

import logging
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from support.studies.disc_outcomes import digest, reasons, refused
from support.studies.discs import a_disc, an_object, assert_sound, files_below, taken_apart

from pipeline.disc.errors import NameInUse, NoPatientID, NothingForDisc, SeveralPatients, TooLarge
from pipeline.disc.model import EXPLICIT, MEDIA, LeftOut
from pipeline.model import LeftOutCode

pytestmark = [pytest.mark.programs, pytest.mark.filterwarnings("ignore::UserWarning")]

STUDIES = (
    "ct_ge_hispeed",
    "mr_philips_cs_enhanced_and_classic",
    "mr_philips_dti_vanderbilt",
    "mr_siemens_trio_orientation",
    "mr_siemens_xa_compressed_fragments",
)


@pytest.mark.parametrize("study", STUDIES)
def test_a_real_study_becomes_a_sound_disc(study, corpus, tmp_path):
    folder = corpus / "studies" / study
    files = files_below(folder) if folder.is_dir() else [an_object(tmp_path, str(n)) for n in range(3)]
    disc = a_disc(tmp_path, *files)
    root = assert_sound(disc, tmp_path / "x")
    assert disc.left_out == ()
    assert disc.duplicates == 0
    assert len(disc.instances) == len(files)
    sent = {digest(file) for file in files}
    for one in disc.instances:
        assert one.source_sha256 in sent
        assert digest(root / one.path) == one.sha256
        assert (one.sha256 == one.source_sha256) == (one.decoded_from is None)
        assert one.transfer_syntax_uid == EXPLICIT


def test_real_objects_of_several_patients_are_refused_and_each_patient_gets_a_disc(corpus, tmp_path):
    folder = corpus / "studies" / "dicomdir_fileset"
    if not folder.is_dir():
        folder = Path(get_testdata_file("DICOMDIR")).parent
    files = [file for file in files_below(folder) if not file.name.startswith("DICOMDIR")]
    with pytest.raises(SeveralPatients, match="Patient ID differs"):
        a_disc(tmp_path, *files)
    disc = a_disc(tmp_path, *files, allow_several_patients=True, allow_no_patient_id=True)
    root = assert_sound(disc, tmp_path / "x", errors=[])
    assert len(disc.instances) > 50
    records = pydicom.dcmread(root / "DICOMDIR").DirectoryRecordSequence
    assert sum(record.DirectoryRecordType == "PATIENT" for record in records) > 1


def test_every_object_that_is_left_out_is_listed_with_its_reason_everywhere(tmp_path, caplog):
    good = an_object(tmp_path / "in", "good")
    private = an_object(tmp_path / "in", "private", SOPClassUID="1.3.12.2.1107.5.9.1")
    truncated = tmp_path / "in" / "truncated"
    truncated.write_bytes(an_object(tmp_path / "in", "whole").read_bytes()[:-500])
    (tmp_path / "in" / "whole").unlink()
    note = tmp_path / "in" / "note.txt"
    note.write_text("no object")
    garbled = an_object(tmp_path / "in", "garbled", source="MR_small_jp2klossless.dcm")
    data_set = pydicom.dcmread(garbled)
    data_set.PixelData = pydicom.encaps.encapsulate([b"\xff\x4fno codestream"])
    data_set.save_as(garbled)
    other = an_object(tmp_path / "in", "other", SOPInstanceUID=pydicom.dcmread(good).SOPInstanceUID, Rows=1)
    with caplog.at_level("INFO", logger="storestow"):
        disc = a_disc(tmp_path, good, private, truncated, note, garbled, other)
    root = assert_sound(disc, tmp_path / "x")
    assert len(disc.instances) == 1
    said_reasons = dict(reasons(disc))
    assert said_reasons.keys() == {"private", "truncated", "note.txt", "garbled", "other"}
    assert "private SOP class" in said_reasons["private"]
    assert "truncated" in said_reasons["truncated"]
    assert said_reasons["note.txt"] == "not a DICOM file"
    assert "cannot be decoded" in said_reasons["garbled"]
    assert "differs" in said_reasons["other"]
    readme = (root / "README.TXT").read_text("utf-8-sig")
    page = (root / "INDEX.HTM").read_text("utf-8")
    lines = [record.getMessage() for record in caplog.records]
    for reason in said_reasons.values():
        assert reason.removesuffix(" (RuntimeError)") in readme
        assert any(line.startswith("left-out") and reason[:20] in line for line in lines)
    assert "5 files" in page
    assert not any("Error" in text for text in (readme, page))
    assert not any("note.txt" in text or "file truncated" in text for text in (readme, page))
    assert str(pydicom.dcmread(private).SOPInstanceUID) in readme
    assert not any("note.txt" in line or "Doe" in line for line in lines)


def test_a_file_of_four_gigabytes_is_left_out(tmp_path):
    huge = an_object(tmp_path / "in", "huge")
    data_set = pydicom.dcmread(huge)
    with huge.open("r+b") as file:  # sparse: zeros that pad a file to a block are no part of its data set
        file.truncate(1 << 32)
    disc = a_disc(tmp_path, huge, an_object(tmp_path / "in", "b"))
    assert reasons(disc) == [("huge", "4 GiB or larger, which a disc in ISO 9660 cannot hold as one file")]
    assert disc.left_out[0].sop_instance_uid == data_set.SOPInstanceUID


def test_the_same_object_again_is_on_the_disc_once(tmp_path):
    one = an_object(tmp_path / "in", "one")
    again = tmp_path / "in" / "again"
    data_set = pydicom.dcmread(one)
    data_set.file_meta.SourceApplicationEntityTitle = "ELSEWHERE"
    data_set.save_as(again)
    disc = a_disc(tmp_path, one, again, one)
    assert (len(disc.instances), disc.duplicates, disc.left_out) == (1, 2, ())


def test_what_was_known_to_be_missing_is_listed_too(tmp_path):
    missing = LeftOut(Path(), None, LeftOutCode.SET_ASIDE, "could not be retrieved")
    disc = a_disc(tmp_path, an_object(tmp_path / "in"), missing=(missing,))
    assert "could not be retrieved" in (taken_apart(disc.path, tmp_path / "x") / "README.TXT").read_text(
        "utf-8-sig"
    )


def test_two_patients_give_no_disc_and_leave_nothing_behind(tmp_path):
    paths = an_object(tmp_path / "in"), an_object(tmp_path / "in", "b", PatientID="P2", AccessionNumber="B2")
    assert "accession A1 and accession B2" in refused(tmp_path, SeveralPatients, *paths)


def test_the_same_id_with_another_name_gives_no_disc(tmp_path):
    paths = an_object(tmp_path / "in"), an_object(tmp_path / "in", "b", PatientName="Roe^Richard")
    assert "Patient's Name differs" in refused(tmp_path, SeveralPatients, *paths)


def test_a_wrong_patient_among_objects_that_would_be_left_out_gives_no_disc(tmp_path):
    private = an_object(tmp_path / "in", "b", PatientID="P2", SOPClassUID="1.3.12.2.1107.5.9.1")
    refused(tmp_path, SeveralPatients, an_object(tmp_path / "in"), private)


def test_nobody_s_objects_give_no_disc_unless_a_person_allows_it(tmp_path):
    path = an_object(tmp_path / "in", PatientID="")
    refused(tmp_path, NoPatientID, path)
    disc = a_disc(tmp_path, path, allow_no_patient_id=True)
    root = taken_apart(disc.path, tmp_path / "x")
    assert pydicom.dcmread(root / "DICOMDIR").DirectoryRecordSequence[0].PatientID == "UNKNOWN"


def test_nothing_but_omissions_gives_no_disc(tmp_path):
    note = tmp_path / "in" / "note.txt"
    note.parent.mkdir()
    note.write_text("no object")
    assert "not a DICOM file" in refused(tmp_path, NothingForDisc, note)


def test_a_logo_that_cannot_be_shown_is_left_out_and_logged(tmp_path, caplog):
    logging.getLogger("storestow").propagate = True
    disc = a_disc(tmp_path, an_object(tmp_path / "objects", "a"), logo=tmp_path / "gone.png")
    files = files_below(taken_apart(disc.path, tmp_path / "disc"))
    assert not [file for file in files if file.name.startswith("LOGO")]
    assert "LOGO" not in (tmp_path / "disc" / "INDEX.HTM").read_text()
    [line] = [record.message for record in caplog.records if "what=logo" in record.message]
    assert line.startswith("left-out volume=")
    assert "gone.png cannot be read: No such file" in line


def test_the_logo_is_on_the_disc_and_on_its_page(tmp_path):
    (tmp_path / "logo.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    disc = a_disc(tmp_path, an_object(tmp_path / "objects", "a"), logo=tmp_path / "logo.svg")
    root = taken_apart(disc.path, tmp_path / "disc")
    assert (root / "IHE_PDI" / "LOGO.SVG").read_text() == (tmp_path / "logo.svg").read_text()
    assert 'src="IHE_PDI/LOGO.SVG"' in (root / "INDEX.HTM").read_text()
    assert_sound(disc, tmp_path / "again")


def test_a_name_in_use_is_left_alone(tmp_path):
    (tmp_path / "disc.iso").write_text("somebody's")
    with pytest.raises(NameInUse):
        a_disc(tmp_path, an_object(tmp_path / "in"))
    assert (tmp_path / "disc.iso").read_text() == "somebody's"


def test_what_does_not_fit_a_cd_is_refused_or_becomes_a_dvd(tmp_path, monkeypatch):
    small = MEDIA["cd"].__class__("cd", 400_000, MEDIA["cd"].allows)
    monkeypatch.setattr("pipeline.disc.make.plan.CD", small)
    monkeypatch.setitem(MEDIA, "cd", small)
    path = an_object(tmp_path / "in")
    said_sizes = refused(tmp_path, TooLarge, path, media="cd")
    assert "a CD holds 400,000" in said_sizes
    disc = a_disc(tmp_path, path)
    assert disc.medium.name == "dvd"
    assert "STD-GEN-DVD-J2K" in (assert_sound(disc, tmp_path / "x") / "README.TXT").read_text("utf-8-sig")
