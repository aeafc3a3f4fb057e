"""How many instances must come: a list before a number, and what the PACS set out to send besides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ledger.completeness import expected, is_complete

A, B, C = ("1", "1.1"), ("1", "1.2"), ("2", "2.1")


@pytest.mark.parametrize(
    ("counted", "listed", "announced", "must"),
    [
        (None, None, None, None),
        (42, None, None, 42),
        (42, 40, None, 40),  # a number may be old, a list names what there is
        (40, 42, None, 42),
        (None, 40, 42, 42),  # what it set out to send and did not is missing too
        (42, None, 3, 42),  # a C-MOVE that broke off lowers nothing
        (None, None, 7, 7),
    ],
)
def test_the_expected_number(counted, listed, announced, must):
    assert expected(counted, listed, announced) == must


def test_complete_is_every_listed_instance_and_as_many_as_expected():
    assert is_complete({A, B}, 2, {A, B})
    assert is_complete({A, B, C}, 2, {A, B})
    assert not is_complete({A, C}, 2, {A, B}), "as many, but others"
    assert not is_complete({A, B}, 3, None)


def test_the_same_instance_twice_is_one():
    assert not is_complete([A, A], 2, None)


def test_nothing_is_never_complete():
    assert not is_complete((), 0, ())
    assert not is_complete((), None, None)


@given(st.sets(st.tuples(st.text("12", max_size=2), st.text("12", max_size=3))), st.data())
def test_what_lacks_a_listed_instance_is_never_complete(listed, data):
    held = data.draw(st.sets(st.sampled_from(sorted(listed)))) if listed else set()
    assert is_complete(held, len(listed), listed) == (bool(listed) and held == listed)
