"""Accession numbers: what may be asked of a PACS, and what would ask for everything."""

import pytest

from pipeline.dicom.accession import AccessionNumber, InvalidAccession, parse_list


@pytest.mark.parametrize("text", ["A1", " A1 ", "1234567890123456", "2026/11-0042", "A B", "-1"])
def test_an_accession_number_is_a_short_string_that_matches_itself(text):
    assert AccessionNumber.parse(text) == text.strip()


@pytest.mark.parametrize(
    "text", ["", "   ", "*", "A*", "A?", "A\\B", "A\nB", "A\x00", "12345678901234567", "Ñ1", "\x1b$B"]
)
def test_what_would_match_more_than_itself_is_refused(text):
    with pytest.raises(InvalidAccession):
        AccessionNumber.parse(text)


def test_a_list_keeps_its_order_and_each_number_once():
    assert parse_list(" B2 ,A1,B2", at_most=2) == ("B2", "A1")


@pytest.mark.parametrize("text", ["", ",", "A1,", "A1,,A2", "A1,A2,A3"])
def test_an_empty_entry_or_too_many_are_refused(text):
    with pytest.raises(InvalidAccession):
        parse_list(text, at_most=2)
