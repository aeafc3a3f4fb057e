"""Discs of every kind of object and every transfer syntax, films among them (docs/disc.md)."""

import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from support.machine.dicom_programs import ENVIRONMENT, program
from support.studies.disc_outcomes import digest, reasons
from support.studies.discs import (
    a_disc,
    an_object,
    assert_sound,
    dciodvfy_errors,
    files_below,
    taken_apart,
)
from support.studies.storage_classes import CLASSES, build

from pipeline.disc.model import EXPLICIT
from pipeline.disc.verify.inspection import inspect

pytestmark = [pytest.mark.programs, pytest.mark.filterwarnings("ignore::UserWarning")]


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
