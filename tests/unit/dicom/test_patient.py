"""What an instance or an answer says of its patient is read in its own character set."""

import pydicom
import pytest
from pydicom import Dataset
from pydicom.data import get_testdata_file

from pipeline.dicom.patient import Patient, patient_in
from pipeline.dicom.reading import data_set_of
from pipeline.dicom.same_patient import compare
from pipeline.orders.pacs_query import write_identifiers


def test_an_answer_and_a_file_name_the_same_patient_whatever_their_character_sets(tmp_path):
    answer = Dataset()
    answer.SpecificCharacterSet = "ISO_IR 192"
    answer.PatientID, answer.PatientName = " ÑANDÚ-7 ", "Ñandú^Ana^"
    (file,) = write_identifiers([answer], tmp_path)
    with data_set_of(file) as (data, layout):
        asked_for = patient_in(data, layout)
    for character_set in ("ISO_IR 100", "ISO_IR 192"):
        dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
        dataset.SpecificCharacterSet = character_set
        dataset.PatientID, dataset.PatientName, dataset.PatientBirthDate = "ñandú-7", "Ñandú^Ana", ""
        path = tmp_path / character_set
        dataset.save_as(path)
        with data_set_of(path) as (data, layout):
            found = patient_in(data, layout)
        assert found == Patient("ñandú-7", "", "", "Ñandú^Ana")
        assert asked_for == Patient("ÑANDÚ-7", "", "", "Ñandú^Ana")
        assert not compare(found, asked_for, is_same_study=True, ignores_case=True).differs


@pytest.mark.parametrize(
    ("raw", "character_set", "name"),
    [
        (b"M\xdcLLER^J\xd6RG", "ISO_IR 100", "MÜLLER^JÖRG"),
        (b"M\xdcLLER^J\xd6RG", "", "MÜLLER^JÖRG"),
        ("MÜLLER^JÖRG".encode(), "", "MÜLLER^JÖRG"),
        (b"\xc9^A^^= ", "ISO_IR 100", "É^A"),
    ],
)
def test_a_name_is_read_although_its_character_set_is_not_declared(raw, character_set, name):
    assert Patient.read(b" 7 ", b"", b"", raw, character_set) == Patient("7", "", "", name)


@pytest.mark.parametrize(
    ("raw", "date"), [(b"1970.01.01", "19700101"), (b"1970-01-01", "19700101"), (b"00000000", "")]
)
def test_a_birth_date_has_no_separators_and_zeros_are_none(raw, date):
    assert Patient.read(b"", b"", raw, b"", "").birth_date == date
