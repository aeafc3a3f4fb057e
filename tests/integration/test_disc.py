"""Discs of real objects, made and then held against every validator there is (docs/disc.md)."""

import hashlib
import logging
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import generate_uid
from support.machine.dicom_programs import ENVIRONMENT, program
from support.studies.discs import (
    STUDY,
    a_disc,
    an_object,
    assert_sound,
    dciodvfy_errors,
    files_below,
    said,
    taken_apart,
)
from support.studies.storage_classes import CLASSES, build

from pipeline.disc.errors import NameInUse, NoPatientID, NothingForDisc, SeveralPatients, TooLarge, UnfitViewer
from pipeline.disc.formats.contents import IsoContents
from pipeline.disc.model import EXPLICIT, MEDIA, Disc, LeftOut, ReplacedDisc
from pipeline.disc.pages.thumbnails import ThumbnailTask, thumbnail
from pipeline.disc.verify.inspection import inspect
from pipeline.model import LeftOutCode

pytestmark = [pytest.mark.programs, pytest.mark.filterwarnings("ignore::UserWarning")]

STUDIES = (
    "ct_ge_hispeed",
    "mr_philips_cs_enhanced_and_classic",
    "mr_philips_dti_vanderbilt",
    "mr_siemens_trio_orientation",
    "mr_siemens_xa_compressed_fragments",
)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def reasons(disc: Disc) -> list[tuple[str, str]]:
    return [(one.source.name, one.reason) for one in disc.left_out]


# --- whole studies -----------------------------------------------------------------------------------------


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


# --- kinds of objects --------------------------------------------------------------------------------------

KINDS = {
    "SR DOCUMENT": "SR/pydicom__reportsi.dcm",
    "KEY OBJECT DOC": "KO/derived_highdicom_ko.dcm",
    "PRESENTATION": "PR",
    "RT STRUCTURE SET": "RTSTRUCT",
    "RT DOSE": "RTDOSE/pydicom__rtdose.dcm",
    "RT PLAN": "RTPLAN",
    "ENCAP DOC": "PDF",
    "WAVEFORM": "ECG",
    "IMAGE": "SEG/highdicom__seg_image_ct_binary.dcm",
}


@pytest.mark.parametrize("kind", KINDS)
def test_reports_plans_documents_and_curves_get_records_of_their_kind(kind, corpus, tmp_path):
    source = corpus / KINDS[kind]
    if source.is_dir():
        source = files_below(source)[0]
    if not source.exists():  # without the corpus
        source = Path(
            get_testdata_file({"RT DOSE": "rtdose.dcm", "RT PLAN": "rtplan.dcm"}.get(kind, "reportsi.dcm"))
        )
        kind = {"RT DOSE": "RT DOSE", "RT PLAN": "RT PLAN"}.get(kind, "SR DOCUMENT")
    disc = a_disc(tmp_path, an_object(tmp_path / "in", source=source), an_object(tmp_path / "in", "b"))
    root = assert_sound(disc, tmp_path / "x")
    records = pydicom.dcmread(root / "DICOMDIR").DirectoryRecordSequence
    assert kind in {record.DirectoryRecordType for record in records}


@pytest.mark.parametrize("name", CLASSES)
def test_each_of_the_fourteen_classes_becomes_a_sound_disc(name, tmp_path):
    assert_sound(a_disc(tmp_path, build(name, tmp_path / "in")), tmp_path / "x")


def test_the_fourteen_classes_fit_on_one_disc_together(tmp_path):
    paths = [
        an_object(tmp_path / "in", name, source=build(name, tmp_path / "made"), SeriesNumber=number)
        for number, name in enumerate(CLASSES, 1)
    ]
    disc = a_disc(tmp_path, *paths)
    root = assert_sound(disc, tmp_path / "x")
    assert len(disc.instances) == 14
    assert len(files_below(root / "IHE_PDI")) == 11


def test_our_index_says_of_every_object_what_dcmtk_s_says(tmp_path):
    """dcmmkdir takes these objects, so its records are the measure of ours, key by key."""
    paths = [
        an_object(tmp_path / "in", name, source=build(name, tmp_path / "made"), SeriesNumber=number)
        for number, name in enumerate(CLASSES, 1)
    ]
    root = taken_apart(a_disc(tmp_path, *paths).path, tmp_path / "x")
    argv = [
        "dcmmkdir",
        "-q",
        "-Pgp",
        "+I",
        "-a",
        "-nb",
        "+Nrs",
        "+r",
        "+id",
        ".",
        "+D",
        "THEIRS",
        "+F",
        "D",
        "DICOM",
    ]
    subprocess.run([program(argv[0]), *argv[1:]], cwd=root, env=ENVIRONMENT, check=True)
    ours = pydicom.dcmread(root / "DICOMDIR").DirectoryRecordSequence
    theirs = pydicom.dcmread(root / "THEIRS").DirectoryRecordSequence
    assert len(ours) == len(theirs)
    by_file = {tuple(record.ReferencedFileID): record for record in ours if "ReferencedFileID" in record}
    for record in theirs:
        if "ReferencedFileID" not in record:
            continue
        mine = by_file[tuple(record.ReferencedFileID)]
        for element in record:
            if element.tag.group > 4:
                assert mine.get(element.tag) == element, (record.DirectoryRecordType, element)


# --- transfer syntaxes -------------------------------------------------------------------------------------

ENCODINGS = {
    "implicit": ("MR_small_implicit.dcm", None),
    "big endian": ("MR_small_bigendian.dcm", None),
    "deflated": ("image_dfl.dcm", None),
    "RLE": ("MR_small_RLE.dcm", "MR_small.dcm"),
    "JPEG 2000": ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
    "JPEG-LS": ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
    "JPEG baseline": ("SC_rgb_jpeg_dcmtk.dcm", None),
    "JPEG 2000 colour": ("examples_jpeg2k.dcm", None),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_on_a_cd_everything_is_explicit_vr_little_endian_with_the_same_pixels(encoding, tmp_path):
    name, native = ENCODINGS[encoding]
    path = an_object(tmp_path / "in", source=name)
    disc = a_disc(tmp_path, path, media="cd")
    root = assert_sound(disc, tmp_path / "x")
    (one,) = disc.instances
    before = pydicom.dcmread(path)
    after = pydicom.dcmread(root / one.path)
    assert one.decoded_from == before.file_meta.TransferSyntaxUID
    assert after.file_meta.TransferSyntaxUID == EXPLICIT
    if native:
        assert np.array_equal(after.pixel_array, pydicom.dcmread(get_testdata_file(native)).pixel_array)
    readme = (root / "README.TXT").read_text("utf-8-sig")
    assert ("1 object was stored compressed" in readme) == (encoding not in {"implicit", "big endian"})
    assert ("1 object was stored in another encoding" in readme) == (encoding in {"implicit", "big endian"})
    for keyword in ("PatientName", "StudyInstanceUID", "SOPInstanceUID"):
        assert after[keyword].value == before[keyword].value


def test_htj2k_is_decoded_too(corpus, tmp_path):
    path = corpus / "transfer_syntax" / "derived_htj2k_lossless_CT1.dcm"
    if not path.exists():
        pytest.skip("pydicom brings no HTJ2K object along that belongs to a study")
    disc = a_disc(tmp_path, an_object(tmp_path / "in", source=path), media="cd")
    root = assert_sound(disc, tmp_path / "x")
    original = corpus / "CT" / "dicomParser__CT1_UNC.explicit_little_endian.dcm"
    assert disc.left_out == ()
    if original.exists():
        expected = pydicom.dcmread(original).pixel_array
        assert np.array_equal(pydicom.dcmread(root / disc.instances[0].path).pixel_array, expected)


def test_what_was_compressed_with_losses_stays_marked_so(tmp_path):
    path = an_object(tmp_path / "in", source="JPEG2000.dcm")
    data_set = pydicom.dcmread(path)
    if "LossyImageCompression" in data_set:
        del data_set.LossyImageCompression
        data_set.save_as(path)
    disc = a_disc(tmp_path, path, media="cd")
    root = assert_sound(disc, tmp_path / "x")
    assert pydicom.dcmread(root / disc.instances[0].path).LossyImageCompression == "01"


def test_a_dvd_keeps_jpeg_2000_and_decodes_the_rest(tmp_path):
    j2k = an_object(tmp_path / "in", source="MR_small_jp2klossless.dcm", Modality="MR")
    rle = an_object(tmp_path / "in", "b", source="MR_small_RLE.dcm", Modality="MR")
    disc = a_disc(tmp_path, j2k, rle, media="dvd")
    assert_sound(disc, tmp_path / "x")
    kept = {one.decoded_from: one.transfer_syntax_uid for one in disc.instances}
    assert kept == {None: "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5": EXPLICIT}


def test_a_file_without_preamble_becomes_a_part_10_file(tmp_path):
    path = an_object(tmp_path / "in")
    data_set = pydicom.dcmread(path)
    bare = tmp_path / "in" / "bare"
    del data_set.file_meta
    data_set.preamble = None
    pydicom.dcmwrite(bare, data_set, implicit_vr=False, little_endian=True)
    disc = a_disc(tmp_path, bare)
    root = assert_sound(disc, tmp_path / "x")
    written = pydicom.dcmread(root / disc.instances[0].path)
    assert written.file_meta.MediaStorageSOPInstanceUID == data_set.SOPInstanceUID
    assert written.PixelData == data_set.PixelData


# --- omissions ---------------------------------------------------------------------------------------------


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


# --- refusals ----------------------------------------------------------------------------------------------


def refused(tmp_path: Path, kind: type[Exception], *paths: Path, **changed: object) -> str:
    with pytest.raises(kind) as refusal:
        a_disc(tmp_path, *paths, **changed)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    return str(refusal.value)


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


# --- films -------------------------------------------------------------------------------------------------

FILMS = ("100", "101", "102", "103", "104", "105", "106", "107", "108", "100.1", "102.1", "106.1")


def a_film(folder: Path, name: str = "film", syntax: str = "102") -> Path:
    """An endoscopy that is one film: nobody here looks into it."""
    path = an_object(
        folder,
        name,
        source="examples_palette.dcm",
        SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.1.1",
        Modality="ES",
        NumberOfFrames=25,
        remove=["RedPaletteColorLookupTableData"],
    )
    data_set = pydicom.dcmread(path)
    data_set.PixelData = encapsulate([b"\0\0\0\x18ftypmp42" + bytes(4000)])
    data_set["PixelData"].is_undefined_length = True
    data_set["PixelData"].VR = "OB"
    data_set.file_meta.TransferSyntaxUID = f"1.2.840.10008.1.2.4.{syntax}"
    data_set.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("syntax", FILMS)
@pytest.mark.parametrize(("media", "is_made_for"), [("auto", "dvd"), ("dvd", "dvd"), ("usb", "usb")])
def test_a_film_is_on_a_dvd_or_a_stick_as_it_came(media, is_made_for, syntax, tmp_path):
    film, still = a_film(tmp_path / "in", syntax=syntax), an_object(tmp_path / "in", "still")
    disc = a_disc(tmp_path, film, still, media=media)
    assert (disc.medium.name, disc.left_out) == (is_made_for, ())
    root = taken_apart(disc.path, tmp_path / "x")
    assert digest(film) in {digest(file) for file in root.glob("DICOM/*/*/*")}
    assert [line for line in dciodvfy_errors(root / "DICOMDIR") if "Transfer Syntax" not in line] == []
    assert "Profile" not in (root / "README.TXT").read_text("utf-8-sig")  # none of them allows it
    assert inspect(disc.path).is_good


def test_a_film_is_in_a_zip_file_as_it_came(tmp_path):
    disc = a_disc(tmp_path, a_film(tmp_path / "in"), name="disc.zip")
    assert (len(disc.instances), disc.left_out) == (1, ())


def test_a_film_that_is_to_be_on_a_cd_is_left_out_with_what_holds_it(tmp_path):
    disc = a_disc(tmp_path, a_film(tmp_path / "in"), an_object(tmp_path / "in", "still"), media="cd")
    assert reasons(disc) == [("film", "a film, which a CD cannot have; a DVD or a USB stick can")]


# --- company -----------------------------------------------------------------------------------------------


def viewer(folder: Path, **files: str) -> Path:
    for name, text in {"start.exe": "MZ", "lib/ein sehr langer Name.dll": "x", **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize("at", ["VIEWER", "root"])
def test_the_site_s_viewer_is_on_the_disc_without_its_autorun(at, tmp_path):
    folder = viewer(tmp_path / "viewer", **{"autorun.inf": "[autorun]"})
    disc = a_disc(tmp_path, an_object(tmp_path / "in"), viewer=folder, viewer_at=at)
    prefix = "VIEWER/" if at == "VIEWER" else ""
    contents = IsoContents(disc.path, by_long_names=True)
    assert {f"{prefix}start.exe", f"{prefix}lib/ein sehr langer Name.dll"} < contents.files.keys()
    assert not any(name.lower().endswith("autorun.inf") for name in contents.files)
    contents.close()
    root = assert_sound(disc, tmp_path / "x")
    assert (root / f"{prefix}lib/ein sehr langer Name.dll").read_text() == "x"
    assert "viewer" in (root / "README.TXT").read_text("utf-8-sig")


def test_the_viewer_s_autorun_goes_along_where_it_is_wanted_and_the_page_says_so(tmp_path):
    folder = viewer(tmp_path / "viewer", **{"autorun.inf": "[autorun]"})
    path = an_object(tmp_path / "in")
    disc = a_disc(tmp_path, path, viewer=folder, viewer_at="root", viewer_autorun=True)
    root = taken_apart(disc.path, tmp_path / "x")
    assert (root / "autorun.inf").read_text() == "[autorun]"
    assert "It may start by itself." in (root / "README.TXT").read_text("utf-8-sig")


@pytest.mark.parametrize("name", ["dicomdir", "DICOM/x", "IHE_PDI/x", "readme.txt", "Index.htm"])
def test_a_viewer_in_the_root_may_not_take_the_disc_s_own_names(name, tmp_path):
    folder = viewer(tmp_path / "in" / "viewer", **{name: "x"})
    assert "needs for itself" in refused(
        tmp_path, UnfitViewer, an_object(tmp_path / "in" / "o"), viewer=folder, viewer_at="root"
    )


def test_a_viewer_that_is_not_there_is_a_matter_of_configuration(tmp_path):
    refused(tmp_path, UnfitViewer, an_object(tmp_path / "in"), viewer=tmp_path / "nowhere")


def test_without_a_viewer_the_readme_says_what_opens_the_disc(tmp_path):
    root = taken_apart(a_disc(tmp_path, an_object(tmp_path / "in")).path, tmp_path / "x")
    assert "Any DICOM viewer or medical workstation opens it" in (root / "README.TXT").read_text("utf-8-sig")


def test_a_disc_of_a_partial_order_says_so_in_numbers(tmp_path):
    disc = a_disc(tmp_path, an_object(tmp_path / "in"), partial=(37, 42))
    root = taken_apart(disc.path, tmp_path / "x")
    assert "INCOMPLETE: 37 of 42 objects" in (root / "README.TXT").read_text("utf-8-sig")
    assert "Incomplete: 37 of 42 objects." in (root / "INDEX.HTM").read_text("utf-8")


def test_a_disc_says_which_one_it_replaces(tmp_path):
    disc = a_disc(
        tmp_path, an_object(tmp_path / "in"), replaces=ReplacedDisc("A1.iso", "OLD_1", "2026-11-03 10:00")
    )
    root = taken_apart(disc.path, tmp_path / "x")
    assert "replaces the earlier A1.iso (volume OLD_1)" in (root / "README.TXT").read_text("utf-8-sig")
    assert "A1.iso" in (root / "INDEX.HTM").read_text("utf-8")


# --- order and names ---------------------------------------------------------------------------------------


def test_objects_lie_on_the_disc_in_the_order_of_its_index(tmp_path):
    paths = [an_object(tmp_path / "in", str(n), InstanceNumber=20 - n) for n in range(20)]
    disc = a_disc(tmp_path, *paths)
    contents = IsoContents(disc.path)
    lying = [path for path in contents.files if path.startswith("DICOM/")]
    contents.close()
    assert lying == [one.path for one in disc.instances]


def test_no_word_of_the_patient_is_in_the_volume_descriptor_or_in_a_file_name(tmp_path):
    disc = a_disc(tmp_path, an_object(tmp_path / "in", PatientName="Geheim^Name", PatientID="SECRET7"))
    descriptor = disc.path.read_bytes()[16 * 2048 : 20 * 2048]
    for word in (b"GEHEIM", b"SECRET7", b"\0G\0E\0H", b"/in"):
        assert word not in descriptor.upper()
    assert "SECRET7" not in disc.volume_id


# --- zip ---------------------------------------------------------------------------------------------------


def test_the_same_tree_becomes_a_zip_file(tmp_path):
    paths = [an_object(tmp_path / "in", str(n), InstanceNumber=n) for n in range(3)]
    disc = a_disc(tmp_path, *paths, name="disc.zip")
    assert_sound(disc, tmp_path / "x")
    assert disc.medium.capacity_bytes is None


def test_a_zip_file_encrypted_with_aes_256_opens_with_its_pass_phrase_only(tmp_path):
    disc = a_disc(tmp_path, an_object(tmp_path / "in"), name="disc.zip", pass_phrase="correct horse battery")
    taken_apart(disc.path, tmp_path / "x", password="correct horse battery")
    assert "AES-256" in said("7z", "l", "-slt", disc.path)
    said("7z", "t", "-pwrong", disc.path, fails=True)
    assert b"Doe" not in disc.path.read_bytes()
    assert "correct horse" not in repr(disc)


# --- pictures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "examples_rgb_color.dcm", "examples_palette.dcm", "examples_jpeg2k.dcm"]
)
def test_a_series_is_shown_by_a_small_picture(name, tmp_path):
    from PIL import Image

    picture = tmp_path / "p.jpg"
    picture.write_bytes(thumbnail(ThumbnailTask(Path(get_testdata_file(name)))))
    with Image.open(picture) as shown:
        assert max(shown.size) <= 160
        low, high = shown.convert("L").getextrema()
        assert high - low > 100


def test_an_object_that_cannot_be_shown_costs_its_picture_and_nothing_else(tmp_path):
    odd = an_object(tmp_path / "in", SeriesInstanceUID=generate_uid(), Rows=60000, StudyInstanceUID=STUDY)
    disc = a_disc(tmp_path, odd, an_object(tmp_path / "in", "b"))
    root = taken_apart(disc.path, tmp_path / "x")
    assert len(files_below(root / "IHE_PDI")) == 1
    assert "no picture" in (root / "INDEX.HTM").read_text("utf-8")


@pytest.mark.parametrize("name", ["a=b", "back\\slash", "new\nline", " blank ", "üñí 山", "-o", "'quote\""])
def test_a_file_may_be_called_anything_where_it_lies(name, tmp_path):
    path = an_object(tmp_path / "in")
    odd = tmp_path / "in" / name / name
    odd.parent.mkdir()
    path.rename(odd)
    disc = a_disc(tmp_path, odd)
    assert disc.instances[0].sha256 == digest(odd)
