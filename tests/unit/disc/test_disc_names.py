"""What discs and their files are called, whatever a peer has sent."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.disc.model import DiscPatient, StudyOnDisc
from pipeline.disc.pages.disc_names import (
    download_name_of_several,
    file_stem,
    patient_part,
    unknown_fields,
    volume_id,
)

MADE_AT = datetime(2026, 11, 4, tzinfo=UTC)


def patient(name: str) -> DiscPatient:
    return DiscPatient(name, "P1", "", "", "")


def study(accession: str, uid: str = "1.2.3") -> StudyOnDisc:
    return StudyOnDisc(uid, accession, "20260102", "", "", ())


@given(st.text(max_size=20), st.lists(st.text(max_size=70)))
def test_a_volume_id_is_always_a_valid_file_set_id(date, hashes):
    assert re.fullmatch(r"[A-Z0-9_]{1,16}", volume_id(date, hashes))


def test_a_volume_id_tells_the_study_date_and_one_content_from_another():
    assert volume_id("20260102", ["a", "b"]) == volume_id("20260102", ["b", "a"])
    assert volume_id("20260102", ["a"]) != volume_id("20260102", ["b"])
    assert volume_id("20260102", ["a"]).startswith("20260102_")
    assert volume_id("", ["a"]).startswith("DICOM_")


@given(st.text(), st.lists(st.text()))
def test_a_download_name_is_never_empty_never_long_and_of_ascii_letters_and_digits_only(name, accessions):
    several = download_name_of_several(name, accessions)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,119}\.iso", several)
    assert not several.startswith("-")


def test_download_names_are_what_people_expect():
    assert download_name_of_several("Peña^José", ["A1", "B2"]) == "PenaJose-A1-B2.iso"
    assert download_name_of_several("Große^Łukasz", ["1"], "zip") == "GrosseLukasz-1.zip"


def test_a_name_in_other_letters_gives_its_romanised_group_or_patient():
    assert patient_part("山田^太郎=Yamada^Tarou") == "YamadaTarou"
    assert patient_part("Петров^Иван") == "PATIENT"
    assert patient_part("山田^太郎") == "PATIENT"
    assert patient_part("") == "PATIENT"


@pytest.mark.parametrize(
    ("pattern", "stem"),
    [
        ("{accession}", "A1-B2"),
        ("{patient_name}_{date}", "DoeJane_20261104"),
        ("{study_instance_uid}", "1.2.3"),
        ("CD {accession} ü", "CD_A1-B2"),
    ],
)
def test_a_file_name_pattern_is_filled_in(pattern, stem):
    assert file_stem(pattern, patient("Doe^Jane"), [study("A1"), study("B2", "1.2.4")], MADE_AT) == stem


@given(st.text(), st.text(), st.text())
def test_a_file_name_is_one_safe_component_whatever_it_is_made_of(pattern, name, accession):
    stem = file_stem(pattern, patient(name), [study(accession)], MADE_AT)
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,120}", stem)
    assert not stem.startswith(".")


def test_a_study_without_accession_number_gets_a_name_of_its_own():
    one = file_stem("{accession}", patient(""), [study("", "1.2.3")], MADE_AT)
    other = file_stem("{accession}", patient(""), [study("", "1.2.4")], MADE_AT)
    assert one.startswith("DISC-")
    assert one != other


def test_an_unknown_field_of_a_pattern_is_found():
    assert unknown_fields("{accession}-{date}") == []
    assert unknown_fields("{acession}") == ["{acession}"]
    assert unknown_fields("{accession") == ["{accession"]
    assert unknown_fields("a}") == ["}"]
