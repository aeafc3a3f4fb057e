"""`storestow disc verify` says in words what is damaged, also where the disc has no list of checksums."""

import random
import shutil
import subprocess
import zipfile
import zlib

import pydicom
import pytest
from pydicom import Dataset
from support.machine.dicom_programs import program
from support.studies.discs import a_disc, an_object, said, taken_apart

from pipeline.disc.formats.contents import FolderContents
from pipeline.disc.verify import check_objects
from pipeline.disc.verify.findings import Inspection
from pipeline.disc.verify.inspection import inspect

pytestmark = [pytest.mark.programs, pytest.mark.filterwarnings("ignore::UserWarning")]

PHRASE = "correct horse battery"


def errors(found: Inspection) -> list[str]:
    return [one.text for one in found.findings if one.level == "error"]


def notes(found: Inspection) -> list[str]:
    return [one.text for one in found.findings if one.level == "note"]


@pytest.fixture
def vendors(tmp_path):
    """A file-set of four objects by DCMTK, which writes no checksums."""
    root = tmp_path / "set"
    for number in range(4):
        an_object(root / "DICOM", f"IM{number}", InstanceNumber=number)
    argv = [program("dcmmkdir"), "-Pgp", "+I", "-nb", "+r", "+id", ".", "+D", "DICOMDIR", "+F", "OTHER", "DICOM"]
    subprocess.run(argv, cwd=root, check=True, capture_output=True)
    assert inspect(root).is_good
    return root


@pytest.fixture(params=["in memory", "in a temporary file"])
def held(request, monkeypatch):
    if request.param != "in memory":
        monkeypatch.setattr(check_objects, "_IN_MEMORY", 100)


def zeros_behind_the_header(whole: bytes) -> bytes:
    at = whole.index(b"\x28\x00\x04\x00CS")
    return whole[:at] + bytes(len(whole) - at + (100 << 10))


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda whole: bytes(len(whole)), "1 record names a file that is no DICOM object: DICOM/IM2 (zeros are"),
        (lambda _: b"", "1 record names a file that is no DICOM object: DICOM/IM2 (it is empty)"),
        (lambda _: b"<html>error 404</html>" * 20, "no DICOM object: DICOM/IM2 (it is another kind of file)"),
        (lambda whole: whole[:5000], "1 file is damaged: DICOM/IM2 (truncated: the element"),
        (lambda whole: whole[:-1], "1 file is damaged: DICOM/IM2 (truncated: the element (FFFC,FFFC)"),
        (lambda whole: whole[:140], "DICOM/IM2"),
        (zeros_behind_the_header, "bytes are zeros)"),
    ],
)
@pytest.mark.parametrize("container", ["folder", "iso", "zip"])
@pytest.mark.usefixtures("held")
def test_an_object_that_is_no_longer_whole_is_an_error_in_words(container, spoil, complaint, vendors, tmp_path):
    path = vendors / "DICOM" / "IM2"
    path.write_bytes(spoil(path.read_bytes()))
    disc = vendors
    if container == "iso":
        disc = tmp_path / "set.iso"
        said("genisoimage", "-quiet", "-V", "OTHER", "-o", disc, vendors)
    elif container == "zip":
        disc = tmp_path / "set.zip"
        shutil.make_archive(str(tmp_path / "set"), "zip", vendors)
    found = inspect(disc)
    assert [one for one in errors(found) if complaint in one], errors(found)
    assert not found.is_good


@pytest.mark.parametrize(
    "source", ["MR_small_implicit.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm", "JPEG2000.dcm", "reportsi.dcm"]
)
def test_a_whole_object_of_any_encoding_is_not_called_damaged_and_a_cut_one_is(source, vendors):
    path = an_object(vendors / "DICOM", "OTHER", source=source)
    assert not [one for one in errors(inspect(vendors)) if "damaged" in one]
    path.write_bytes(path.read_bytes()[:-40])
    assert [one for one in errors(inspect(vendors)) if "1 file is damaged: DICOM/OTHER (" in one]


def test_a_deflated_object_that_was_cut_before_it_was_deflated_is_damaged(vendors):
    path = an_object(vendors / "DICOM", "OTHER", source="image_dfl.dcm")
    whole = path.read_bytes()
    inflator = zlib.decompressobj(-zlib.MAX_WBITS)
    begins = 144 + int.from_bytes(whole[140:144], "little")
    data_set = inflator.decompress(whole[begins:])
    deflator = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    path.write_bytes(whole[:begins] + deflator.compress(data_set[:-300]) + deflator.flush())
    assert [one for one in errors(inspect(vendors)) if "1 file is damaged: DICOM/OTHER (truncated" in one]


def test_an_object_without_its_pixels_is_a_note_for_it_may_never_have_had_any(vendors):
    path = vendors / "DICOM" / "IM2"
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b"\xe0\x7f\x10\x00OW")])
    found = inspect(vendors)
    assert not [one for one in errors(found) if "damaged" in one]
    assert "1 object has rows and columns, and no pixels: DICOM/IM2" in notes(found)


def test_raw_data_that_tells_rows_and_columns_is_whole_without_pixels(vendors):
    an_object(vendors / "DICOM", "RAW", SOPClassUID="1.2.840.10008.5.1.4.1.1.66", remove=["PixelData"])
    assert not [one for one in errors(inspect(vendors)) if "damaged" in one]


def test_an_object_without_preamble_is_found_though_no_index_has_it(vendors):
    path = an_object(vendors / "DICOM", "OTHER")
    path.write_bytes(path.read_bytes()[132:])
    (vendors / "DICOM" / "NONE").write_bytes(b"\x08\0 begins another kind of file as well")
    assert errors(inspect(vendors)) == [
        "1 DICOM object has no preamble, without which nothing opens an object: DICOM/OTHER"
    ]


def test_a_file_that_may_not_be_read_is_one_error_and_the_others_are_looked_at(vendors, monkeypatch):
    original = FolderContents.pieces

    def scratched(contents, path):
        if path.endswith("IM2"):
            raise OSError(5, "Input/output error")
        yield from original(contents, path)

    monkeypatch.setattr(FolderContents, "pieces", scratched)
    found = inspect(vendors)
    assert found.objects == 3
    assert [one for one in errors(found) if "1 file cannot be read: DICOM/IM2 ([Errno 5]" in one]


# --- ZIP files ---------------------------------------------------------------------------------------------


@pytest.fixture
def objects(tmp_path):
    return [an_object(tmp_path / "in", str(n), InstanceNumber=n) for n in range(3)]


@pytest.fixture(params=["plain", "encrypted"])
def zipped(request, tmp_path, objects):
    """A ZIP of three objects, and the pass phrase if it is encrypted."""
    phrase = PHRASE if request.param == "encrypted" else None
    disc = a_disc(tmp_path, *objects, name="disc.zip", pass_phrase=phrase)
    assert inspect(disc.path, phrase).is_good
    return disc.path, phrase


def test_one_damaged_file_of_a_zip_is_named_and_the_others_are_looked_at(zipped):
    path, phrase = zipped
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo("DICOM/ST000001/SE000001/IM000002").header_offset + 2000
    data = bytearray(path.read_bytes())
    data[at : at + 3] = b"\xff\x00\xff"
    path.write_bytes(data)
    found = inspect(path, phrase)
    assert (found.objects, found.listed, found.patients) == (2, 3, 1)
    assert [one for one in errors(found) if "1 file cannot be read: DICOM/ST000001/SE000001/IM000002 (" in one]


def test_a_zip_damaged_anywhere_is_described_never_a_traceback(zipped):
    path, phrase = zipped
    whole = path.read_bytes()
    chance = random.Random(7)
    index = whole.index(b"PK\x01\x02")
    for _ in range(40):
        at = chance.choice([chance.randrange(len(whole)), chance.randrange(index, len(whole))])
        path.write_bytes(whole[:at] + chance.randbytes(3) + whole[at + 3 :])
        inspect(path, phrase)
    for length in (0, 1, 100, len(whole) // 2, index + 50, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert not inspect(path, phrase).is_good


def test_a_wrong_pass_phrase_is_said(zipped):
    path, phrase = zipped
    if phrase:
        assert "cannot be read" in errors(inspect(path, "another horse"))[0]
        assert "cannot be read" in errors(inspect(path))[0]


# --- whose it is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "attribute"),
    [
        (b"19700101", b"19500101", "Patient's Birth Date"),
        (b"LO\x08\x00HOSPITAL", b"LO\x08\x00SPITALXX", "Issuer of Patient ID"),
    ],
)
def test_a_patient_record_of_another_birth_date_or_issuer_is_found(old, new, attribute, tmp_path):
    path = an_object(tmp_path / "in", IssuerOfPatientID="HOSPITAL")
    root = taken_apart(a_disc(tmp_path, path).path, tmp_path / "x")
    assert inspect(root).is_good
    index = (root / "DICOMDIR").read_bytes()
    assert old in index
    (root / "DICOMDIR").write_bytes(index.replace(old, new))
    assert [one for one in errors(inspect(root)) if "wrong name" in one and f"({attribute})" in one]


@pytest.mark.parametrize("first", [0, 1])
def test_objects_of_which_some_tell_no_birth_date_or_issuer_make_a_good_disc(first, tmp_path):
    telling = {"IssuerOfPatientID": "HOSPITAL", "PatientBirthDate": "1970.01.01"}
    silent = {"IssuerOfPatientID": "", "PatientBirthDate": ""}
    paths = [
        an_object(tmp_path / "in", "a", InstanceNumber=first, **telling),
        an_object(tmp_path / "in", "b", InstanceNumber=1 - first, **silent),
    ]
    assert errors(inspect(a_disc(tmp_path, *paths).path)) == []


def test_a_patient_id_is_the_same_in_latin_1_and_in_utf_8(tmp_path):
    paths = [
        an_object(tmp_path / "in", term[-3:], SpecificCharacterSet=term, PatientID="ÜX1")
        for term in ("ISO_IR 100", "ISO_IR 192")
    ]
    found = inspect(a_disc(tmp_path, *paths).path)
    assert errors(found) == []
    assert found.patients == 1


def test_what_stands_in_for_a_patient_id_is_noted_and_no_wrong_name(tmp_path):
    path = an_object(tmp_path / "in", PatientID="")
    found = inspect(a_disc(tmp_path, path, allow_no_patient_id=True).path)
    assert [one for one in notes(found) if '1 record has "UNKNOWN" where the object has no Patient ID' in one]
    assert not [one for one in errors(found) if "wrong name" in one]


def test_without_a_patient_id_one_study_is_one_patient_s_and_several_need_the_same_name_and_birth_date(tmp_path):
    def of(number: int, **values: str):
        study = f"1.2.3.{number}"
        about = {
            "PatientID": "",
            "PatientName": "DOE^ANN",
            "StudyInstanceUID": study,
            "SeriesInstanceUID": f"{study}.1",
        }
        return an_object(tmp_path / f"in-{number}", **{**about, **values})

    def said(*paths):
        folder = tmp_path / f"disc-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return inspect(a_disc(folder, *paths, allow_no_patient_id=True, allow_several_patients=True).path)

    one = said(of(1))
    assert [note for note in notes(one) if "no Patient ID; name and birth date are of one patient" in note]
    assert errors(one) == []
    same = said(of(2, PatientBirthDate="19700101"), of(3, PatientBirthDate="19700101"))
    assert errors(same) == []
    undated = said(of(4, PatientBirthDate=""), of(5, PatientBirthDate=""))
    assert [error for error in errors(undated) if "nobody can say of whom" in error]


# --- large headers -----------------------------------------------------------------------------------------


def with_a_large_private_value(data_set: Dataset) -> None:
    data_set.add_new(0x00091010, "LO", "PRIVATE")
    data_set.add_new(0x00091011, "OB", bytes(2 << 20))


def with_many_source_images(data_set: Dataset) -> None:
    data_set.SourceImageSequence = [Dataset() for _ in range(12_000)]
    for number, item in enumerate(data_set.SourceImageSequence):
        item.ReferencedSOPClassUID = data_set.SOPClassUID
        item.ReferencedSOPInstanceUID = f"1.2.826.0.1.3680043.9.9999.11.{number}"
        item.is_undefined_length_sequence_item = True
    data_set["SourceImageSequence"].is_undefined_length = True


@pytest.mark.parametrize("enlarge", [with_a_large_private_value, with_many_source_images])
def test_an_object_with_megabytes_before_its_series_uid_goes_onto_a_disc(enlarge, tmp_path):
    path = an_object(tmp_path / "in")
    data_set = pydicom.dcmread(path)
    enlarge(data_set)
    data_set.save_as(path)
    assert path.read_bytes().index(b"\x20\x00\x0e\x00UI") > 1 << 20
    disc = a_disc(tmp_path, path, an_object(tmp_path / "in", "b"))
    assert len(disc.instances) == 2
    assert errors(inspect(disc.path)) == []
