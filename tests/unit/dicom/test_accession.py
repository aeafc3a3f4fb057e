"""Accession numbers: what may be asked of a PACS, and what would ask for everything."""

import pytest

from pipeline.dicom.accession import AccessionNumber, InvalidAccession, parse_list, spellings


@pytest.mark.parametrize("text", ["A1", " A1 ", "1234567890123456", "2026/11-0042", "A B", "-1", "R" * 64])
def test_an_accession_number_is_a_short_string_that_matches_itself(text):
    assert AccessionNumber.parse(text) == text.strip()


@pytest.mark.parametrize("text", ["", "   ", "*", "A*", "A?", "A\\B", "A\nB", "A\x00", "R" * 65, "Ñ1", "\x1b$B"])
def test_what_would_match_more_than_itself_is_refused(text):
    with pytest.raises(InvalidAccession):
        AccessionNumber.parse(text)


def test_a_list_keeps_its_order_and_each_number_once():
    assert parse_list(" B2 ,A1,B2", at_most=2) == ("B2", "A1")


def test_a_site_may_keep_to_the_length_of_the_standard():
    assert parse_list("R" * 16, at_most=1, longest=16) == ("R" * 16,)
    with pytest.raises(InvalidAccession, match=r"at most 16 characters here \(\[pacs\] accession_number_length\)"):
        parse_list("A1,RAD-2026-00004711-2", at_most=2, longest=16)


@pytest.mark.parametrize(
    ("asked", "answered", "known"),
    [
        ("A1", ["A1", "a1", "A1 "], ["A1"]),
        ("ct7x", ["CT7X"], ["CT7X"]),
        ("CT7X", [" ct7x"], [" ct7x"]),
        ("ct7x", ["CT7X", "Ct7x"], ["CT7X", "Ct7x"]),
        ("A1", ["A10", "", "01"], []),
        ("71", ["0071"], []),
        ("SS1", ["\u00df1"], []),
        ("K1", ["\u212a1"], []),
    ],
)
def test_a_number_is_known_by_itself_else_by_what_differs_in_case_or_padding_only(asked, answered, known):
    assert spellings(asked, answered) == known


@pytest.mark.parametrize("text", ["", ",", "A1,", "A1,,A2", "A1,A2,A3"])
def test_an_empty_entry_or_too_many_are_refused(text):
    with pytest.raises(InvalidAccession):
        parse_list(text, at_most=2)
