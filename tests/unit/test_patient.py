"""Whose images these are: one patient unless something speaks against it."""

import pydicom
import pytest
from pydicom import Dataset
from pydicom.data import get_testdata_file

from pipeline.dicom.patient import Patient, are_one, patient_in
from pipeline.dicom.reading import data_set_of
from pipeline.orders.query import write_identifiers

ANN = Patient("p1", "", "19700101", "doe^ann")


@pytest.mark.parametrize(
    "other",
    [
        ANN,
        Patient("p1", "hospital", "19700101", "doe^ann"),
        Patient("p1", "", "", ""),
        Patient("p1", "", "19700101", "doe-smith^ann"),  # names change and are misspelt
        Patient("", "", "19700101", "doe^ann"),
    ],
)
def test_nothing_speaks_against_one_patient(other):
    assert are_one([ANN, other])


@pytest.mark.parametrize(
    "other",
    [
        Patient("p2", "", "19700101", "doe^ann"),
        Patient("p1", "", "19710101", "doe^ann"),
        Patient("", "", "19700101", "doe^bob"),
        Patient(),
    ],
)
def test_something_speaks_against_one_patient(other):
    assert not are_one([ANN, other])


def test_two_issuers_are_two_patients_although_each_may_be_a_third():
    here, there = Patient("p1", "here"), Patient("p1", "there")
    assert are_one([here, Patient("p1")])
    assert not are_one([here, Patient("p1"), there])


def test_one_study_of_somebody_unknown_is_of_one_patient():
    assert are_one([Patient()])
    assert are_one([])


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
        assert found == asked_for == Patient("ñandú-7", "", "", "ñandú^ana")
