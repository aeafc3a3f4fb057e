"""Values that no VR allows: what a directory record has instead, and that it is still known for its object."""

from io import BytesIO

import pydicom
import pytest
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from pipeline.disc.dicomdir.cross_check import mismatches
from pipeline.disc.dicomdir.dicomdir import dicomdir
from pipeline.disc.dicomdir.values import right
from pipeline.disc.formats.directory import read_directory
from pipeline.disc.formats.independent_reader import ObjectIdentity
from pipeline.disc.objects import records
from pipeline.disc.objects.arrangement import arranged
from pipeline.disc.objects.entry import Entry
from pipeline.model import InstanceKey

ANY = 0x00081030
BASE = {records.PATIENT_ID: b"P1", records.PATIENT_NAME: b"Doe^Jane"}


def entry(tmp_path, kind: str = "IMAGE", sop_class: str = "1.2.840.10008.5.1.4.1.1.2", **values: bytes) -> Entry:
    """An object of these values, by the numbers of their tags in hexadecimal, `x` before them."""
    told = {int(tag[1:], 16): value for tag, value in values.items()}
    return Entry(
        source=tmp_path,
        path=tmp_path,
        size=1,
        source_sha256="0",
        sha256="0",
        key=InstanceKey("1.2.3", "1.2.3.1", "1.2.3.1.1"),
        sop_class_uid=sop_class,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        is_part_10=True,
        data_set=0,
        pixel_bytes=0,
        values={**BASE, records.STUDY_UID: b"1.2.3", records.SERIES_UID: b"1.2.3.1"} | told,
        kind=kind,
    )


def index_of(one: Entry) -> bytes:
    return dicomdir(arranged([one], one_patient=True), "DISC_1")


def records_of(one: Entry) -> list[Dataset]:
    return list(pydicom.dcmread(BytesIO(index_of(one))).DirectoryRecordSequence)


@pytest.mark.parametrize(
    ("vr", "text", "stands_there"),
    [
        ("IS", "1.0", "1"),
        ("IS", "12.", "12"),
        ("IS", "3,00", "3"),
        ("IS", "1\\2", "1"),
        ("IS", " 7", "7"),
        ("IS", "-1", "-1"),
        ("IS", "2147483647", "2147483647"),
        ("IS", "2147483648", ""),
        ("IS", "99999999999999", ""),
        ("IS", "1.5", ""),
        ("IS", "A12", ""),
        ("DA", "20240105", "20240105"),
        ("DA", "1970-01-01", "19700101"),
        ("DA", "1970.01.01", "19700101"),
        ("DA", "2024/1/5", "20240105"),
        ("DA", "20240105120000", "20240105"),
        ("DA", "2024-01-05T10:15", "20240105"),
        ("DA", "05.01.2024", ""),  # nobody can tell day from month
        ("DA", "20241301", ""),
        ("DA", "20230229", ""),
        ("DA", "00000000", ""),
        ("DA", "20240105-20240106", ""),
        ("DA", "202401", ""),
        ("TM", "10:15", "1015"),
        ("TM", "10:15:30.5", "101530.5"),
        ("TM", "101530,5", "101530.5"),
        ("TM", "101530.1234567", "101530.123456"),
        ("TM", "101530Z", "101530"),
        ("TM", "101560", "101559"),
        ("TM", "101", ""),
        ("TM", "256000", ""),
        ("TM", "10:15 AM", ""),
        ("DT", "20240105101500.000000+0100", "20240105101500.000000+0100"),
        ("DT", "2024-01-05T10:15", "202401051015"),
        ("DT", "20241350", ""),
        ("DT", "yesterday", ""),
        ("CS", "ct", "CT"),
        ("CS", "CT\\MR", "CT"),
        ("CS", "A-B", ""),
        ("CS", "TOO_LONG_FOR_A_CODE_STRING", ""),
        ("SH", "STUDY-ID-OF-MORE-THAN-16-CHARACTERS", "STUDY-ID-OF-MORE"),
        ("SH", "A\\B\tC", "A/B C"),
        ("LO", "X" * 70, "X" * 64),
        ("ST", "A\\B\nC" + "x" * 2000, ("A\\B\nC" + "x" * 2000)[:1024]),
        ("PN", "DOE^JOHN^^^", "DOE^JOHN^^^"),
        ("PN", "A^B^C^D^E^F", "A^B^C^D^E F"),
        ("PN", "A=B=C=D", "A=B=C"),
        ("PN", "=^", ""),
        ("PN", "A\\B", "A/B"),
        ("PN", "X" * 70 + "=Y", "X" * 64 + "=Y"),
    ],
)
def test_a_value_is_made_right_or_counts_as_absent(vr, text, stands_there):
    assert right(ANY, vr, text) == stands_there


@pytest.mark.parametrize(
    ("text", "sex"), [("male", "M"), ("Female", "F"), ("O", "O"), ("m", "M"), ("U", "U"), ("m/f", "")]
)
def test_a_sex_in_words_is_the_code_for_it(text, sex):
    assert right(records.SEX, "CS", text) == sex


def test_names_of_presentations_keep_what_a_code_can_have():
    assert right(0x00700080, "CS", "my label (new) of the day") == "MY LABEL _NEW_ O"


def test_what_counts_as_absent_is_replaced_as_if_it_were_absent(tmp_path):
    told = {
        "x00080020": b"05.01.2024",
        "x00080021": b"2024-01-05",
        "x00080030": b"noon",
        "x00200010": b"\x07",
        "x00080050": b"A1",
        "x00080060": b"C-T",
        "x00200011": b"first",
        "x00200013": b"A12",
        "x00100030": b"unknown",
        "x00100040": b"m/f",
    }
    patient, study, series, image = records_of(entry(tmp_path, **told))
    assert "PatientBirthDate" not in patient
    assert "PatientSex" not in patient
    assert (study.StudyDate, study.StudyTime, study.StudyID) == ("20240105", "000000", "A1")
    assert (series.Modality, series.SeriesNumber, image.InstanceNumber) == ("OT", 1, 1)


def test_a_report_without_title_and_flags_gets_the_general_ones(tmp_path):
    *_, report = records_of(entry(tmp_path, "SR DOCUMENT", "1.2.840.10008.5.1.4.1.1.88.11", x0040A030=b"20240105"))
    assert (report.CompletionFlag, report.VerificationFlag) == ("PARTIAL", "UNVERIFIED")
    assert report.ConceptNameCodeSequence[0].CodeMeaning == "Diagnostic Imaging Report"
    assert "VerificationDateTime" not in report  # nobody has verified it
    *_, note = records_of(entry(tmp_path, "KEY OBJECT DOC", "1.2.840.10008.5.1.4.1.1.88.59", x0040A043=b""))
    assert note.ConceptNameCodeSequence[0].CodeValue == "113000"


def test_a_document_s_class_says_what_it_holds(tmp_path):
    *_, pdf = records_of(entry(tmp_path, "ENCAP DOC", "1.2.840.10008.5.1.4.1.1.104.1", x0040E001=b"1^2"))
    assert pdf.MIMETypeOfEncapsulatedDocument == "application/pdf"
    assert "HL7InstanceIdentifier" not in pdf
    *_, cda = records_of(entry(tmp_path, "ENCAP DOC", "1.2.840.10008.5.1.4.1.1.104.2", x0040E001=b"1^2"))
    assert (cda.MIMETypeOfEncapsulatedDocument, cda.HL7InstanceIdentifier) == ("text/XML", "1^2")


def sequence(*items: Dataset) -> bytes:
    """The value of a sequence, as it lies in an object."""
    found = b""
    for item in items:
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        write_dataset(buffer, item)
        found += b"\xfe\xff\x00\xe0" + len(buffer.getvalue()).to_bytes(4, "little") + buffer.getvalue()
    return found


def code(value: str, meaning: str, **more: object) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "99TEST", meaning
    for keyword, one in more.items():
        setattr(item, keyword, one)
    return item


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_title_of_values_that_are_too_long_is_shortened_and_one_without_code_is_replaced(tmp_path):
    long = sequence(code("T1", "M" * 70))
    *_, report = records_of(entry(tmp_path, "SR DOCUMENT", "1.2.840.10008.5.1.4.1.1.88.11", x0040A043=long))
    assert report.ConceptNameCodeSequence[0].CodeMeaning == "M" * 64
    empty = sequence(code("", ""))
    *_, report = records_of(entry(tmp_path, "SR DOCUMENT", "1.2.840.10008.5.1.4.1.1.88.11", x0040A043=empty))
    assert report.ConceptNameCodeSequence[0].CodeValue == "18748-4"


@pytest.mark.parametrize(
    ("declared", "name", "written"),
    [
        (b"", b"M\xdcLLER^J", "ISO_IR 192"),  # Latin-1 that nobody declared
        (b"", "MÜLLER^J".encode(), "ISO_IR 192"),
        (b"UTF-8", "MÜLLER^J".encode(), "ISO_IR 192"),
        (b"ISO-IR 100", b"M\xdcLLER^J", "ISO_IR 100"),
        (b"ISO_IR 100", b"M\xdcLLER^J", "ISO_IR 100"),
        (b"nonsense", b"DOE^J", None),
    ],
)
def test_a_record_says_the_character_set_its_text_is_in(declared, name, written, tmp_path):
    patient, *_ = records_of(entry(tmp_path, x00080005=declared, x00100010=name))
    assert patient.get("SpecificCharacterSet") == written
    assert str(patient.PatientName) == ("DOE^J" if name == b"DOE^J" else "MÜLLER^J")


def test_a_title_in_a_character_set_of_its_own_is_in_the_record_s(tmp_path):
    title = sequence(code("T1", "Überblick", SpecificCharacterSet="ISO_IR 100"))
    *_, report = records_of(
        entry(tmp_path, "SR DOCUMENT", "1.2.840.10008.5.1.4.1.1.88.11", x0040A043=title, x00080005=b"ISO_IR 192")
    )
    assert (report.SpecificCharacterSet, report.ConceptNameCodeSequence[0].CodeMeaning) == (
        "ISO_IR 192",
        "Überblick",
    )


@pytest.mark.parametrize(
    "told",
    [
        {"patient_id": b"X" * 70},
        {"patient_id": b"A\\B"},
        {"patient_id": b"A\tB", "issuer": b"I\nI"},
        {"patient_name": b"N" * 70 + b"^J"},
        {"patient_name": b"A^B^C^D^E^F"},
        {"birth_date": b"1970-01-01"},
        {"birth_date": b"1970/1/1"},
        {"birth_date": b"unknown"},
        {"patient_name": b"M\xdcLLER^J"},
    ],
)
def test_a_record_is_still_known_for_its_object_and_no_other(told, tmp_path):
    tags = {
        "patient_id": "x00100020",
        "issuer": "x00100021",
        "patient_name": "x00100010",
        "birth_date": "x00100030",
    }
    one = entry(tmp_path, **{tags[name]: value for name, value in told.items()})
    (listed,) = read_directory(index_of(one)).listed
    claimed = {
        "patient_id": b"P1",
        "patient_name": b"Doe^Jane",
        "sop_class_uid": one.sop_class_uid.encode(),
        "sop_instance_uid": b"1.2.3.1.1",
        "media_class": one.sop_class_uid.encode(),
        "media_instance": b"1.2.3.1.1",
        "transfer_syntax_uid": b"1.2.840.10008.1.2.1",
        "study_instance_uid": b"1.2.3",
        "series_instance_uid": b"1.2.3.1",
    }
    claims = claims_of(claimed | told)
    assert list(mismatches(listed, claims)) == []
    assert list(mismatches(listed, claims_of(claimed | told | {"patient_id": b"P2"}))) != []


def claims_of(told: dict[str, bytes]) -> ObjectIdentity:
    return ObjectIdentity(**{field: told.get(field, b"") for field in ObjectIdentity.__dataclass_fields__})


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_of_an_image_type_every_value_is_made_right_and_one_value_is_none(tmp_path):
    *_, image = records_of(entry(tmp_path, x00080008=b"original\\primary\\M/FFE"))
    assert list(image.ImageType) == ["ORIGINAL", "PRIMARY", "M_FFE"]
    *_, image = records_of(entry(tmp_path, x00080008=b"ORIGINAL"))
    assert "ImageType" not in image
