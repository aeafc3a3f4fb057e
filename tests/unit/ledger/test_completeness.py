"""Which instances count as a study's, how many must come, and whether all have."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ledger.completeness import FinalResponse, PacsAnswer, judged, of_wish

A, B, C, D = ("1", "1.1"), ("1", "1.2"), ("2", "2.1"), ("2", "2.2")
ALL = [A, B, C]
SENT = FinalResponse("0x0000", completed=3)


def told(counted=None, listed=None, final=None) -> PacsAnswer:
    return PacsAnswer(counted, listed, final)


def came(*keys, frames: int = 1) -> dict[tuple[str, str], int]:
    return dict.fromkeys(keys, frames)


@pytest.mark.parametrize(
    ("what", "must"),
    [
        (told(), None),
        (told(42), 42),
        (told(42, ALL), 42),  # the list ended at a limit
        (told(2, ALL), 3),  # the count is old
        (told(None, ALL), 3),
        (told(None, ALL, FinalResponse("0x0000", completed=6)), 3),  # counted twice
        (told(None, ALL, FinalResponse("0xB000", completed=3, failed=1)), 4),  # what failed is missing, too
        (told(None, ALL, FinalResponse("0xC000", completed=1, remaining=4)), 5),
        (told(42, None, FinalResponse("0x0000", completed=3)), 42),  # nothing has come that could speak for the 3
        (told(None, None, FinalResponse("0x0000", completed=7)), 7),
        (told(None, None, FinalResponse("0x0000")), None),  # sub-operations are not counted
    ],
)
def test_the_expected_number_before_anything_has_come(what, must):
    assert judged(what, {}).expected == must


@pytest.mark.parametrize(
    ("what", "here", "complete"),
    [
        (told(3, ALL, SENT), came(*ALL), True),
        (told(3, ALL, SENT), came(A, B), False),
        (told(3, ALL, SENT), came(A, B, D), False),  # as many, but others
        (told(8, ALL, SENT), came(*ALL), False),  # a list that ended at a limit
        (told(8, ALL, FinalResponse("0x0000")), came(*ALL), False),
        (told(60, ALL, SENT), came(*ALL, frames=20), True),  # it counts frames
        (told(60, ALL, SENT), came(*ALL, frames=19), False),
        (told(60, None, SENT), came(A, B, frames=20), False),
        (told(3, ALL, FinalResponse("0x0000", completed=6)), came(*ALL), True),
        (told(3, ALL, FinalResponse("0x0000", completed=3, remaining=3)), came(*ALL), True),
        (told(3, ALL, FinalResponse("0xB000", completed=3, warned=3)), came(*ALL), True),
        (told(3, ALL, FinalResponse("0xB000", completed=3, failed=1)), came(*ALL), False),
        (told(60, None, SENT), came(*ALL), True),
        (told(60, None, FinalResponse("0x0000", completed=3, warned=3)), came(*ALL), True),
        (told(60, None, FinalResponse("0x0000", warned=3)), came(*ALL), True),
        (told(60, None, FinalResponse("0xB000", completed=3, failed=57)), came(*ALL), False),
        (told(60, None, FinalResponse("0x0000", completed=4)), came(*ALL), False),
        (told(60, None, FinalResponse("0x0000")), came(*ALL), False),
        (told(3, None, FinalResponse("0x0000")), came(*ALL), True),
        (told(None, None, FinalResponse("0x0000")), came(A), True),
        (told(None, None, FinalResponse("0xB000")), came(A), False),  # it has not said that this was all
        (told(None, None, None), came(A), False),
        (told(0, [], SENT), {}, False),  # nothing is never complete
    ],
)
def test_what_is_complete(what, here, complete):
    assert judged(what, here).is_complete is complete


def test_a_count_that_the_final_response_overrules_is_told_and_one_of_frames_is_not():
    assert judged(told(60, None, SENT), came(*ALL)).overruled == 60
    assert judged(told(60, None, SENT), came(*ALL, frames=20)).overruled is None
    assert judged(told(3, None, SENT), came(*ALL)).overruled is None
    assert judged(told(60, ALL, SENT), came(*ALL)).overruled is None, "a list is not overruled"


def test_more_than_is_listed_counts_as_far_as_the_pacs_says_that_it_sent_more():
    listed = told(None, [A, B], FinalResponse("0x0000", completed=3))
    assert judged(listed, came(A, B, C)).instances == {A, B, C}
    assert judged(listed, came(A, B, C, D)).instances == {A, B}, "nobody can tell which of the two it has sent"
    assert judged(told(None, [A, B], FinalResponse("0x0000", completed=2)), came(A, B, C)).instances == {A, B}
    assert judged(told(None, [A, B]), came(A, B, C)).instances == {A, B}
    assert judged(told(None, [A, B], FinalResponse("0x0000", completed=2)), came(A, C)).instances == {A}, (
        "not in B's place"
    )
    assert judged(told(None, None, SENT), came(A, B, C, D)).instances == {A, B, C, D}


def test_what_the_pacs_means_to_have_sent_is_owed():
    assert judged(told(3, ALL, FinalResponse("0x0000", completed=1)), {}).is_owed
    assert judged(told(3, ALL, SENT), came(A, B)).is_owed
    assert judged(told(None, None, FinalResponse("0x0000")), {}).is_owed
    assert not judged(told(3, ALL, FinalResponse("0xB000", completed=2, failed=1)), came(A, B)).is_owed
    assert not judged(told(8, ALL, SENT), came(*ALL)).is_owed, "of what it lists everything is here"
    assert not judged(told(3, ALL, None), came(A)).is_owed
    assert not judged(told(3, ALL, SENT), came(*ALL)).is_owed


def test_without_a_list_or_a_count_that_is_reached_there_may_be_more():
    assert judged(told(None, None, FinalResponse("0x0000")), came(A)).may_grow
    assert judged(told(60, None, SENT), came(*ALL)).may_grow
    assert not judged(told(3, None, SENT), came(*ALL)).may_grow
    assert not judged(told(None, ALL, SENT), came(*ALL)).may_grow


@given(
    st.sets(st.tuples(st.text("12", max_size=2), st.text("12", max_size=3))),
    st.one_of(st.none(), st.integers(0, 9)),
    st.builds(
        FinalResponse, st.sampled_from(["0x0000", "0xB000"]), st.integers(0, 9), st.just(0), st.integers(0, 9)
    ),
    st.data(),
)
def test_what_lacks_a_listed_instance_is_never_complete_whatever_is_counted(listed, counted, final, data):
    here = data.draw(st.sets(st.sampled_from(sorted(listed)))) if listed else set()
    found = judged(told(counted, listed, final), came(*here))
    assert not found.is_complete or here == listed
    assert not (found.is_complete and found.is_owed)


def move(modalities: tuple[str, ...] = (), **keys: object) -> SimpleNamespace:
    values = {"status": "0x0000", "announced": 3, "completed": 3, "failed": 0, "warned": 0, "remaining": 0}
    return SimpleNamespace(**{**values, "modalities": modalities, **keys})


def link(**keys: object) -> SimpleNamespace:
    series = (("1", "CT", 2), ("2", "MR", 1))
    return SimpleNamespace(**{"counted": None, "listed": None, "series": series, **keys})


def test_an_order_is_served_by_its_own_series_of_a_larger_retrieval():
    only_mr = link(series=(("2", "MR", 1),), listed=(("2", "2.1"),), counted=1)
    found = of_wish(only_mr, ["MR"], move(), came(*ALL))
    assert (found.instances, found.is_complete) == ({C}, True)
    assert of_wish(link(), [], move(), came(*ALL)).is_complete
    assert not of_wish(link(), [], move(completed=4), came(*ALL)).is_complete


def test_the_final_response_to_a_move_of_a_part_says_nothing_of_the_whole():
    part = move(announced=None, completed=1)
    assert not of_wish(link(counted=3), [], part, came(A)).is_complete
    assert of_wish(link(counted=3), [], part, came(*ALL)).is_complete
    assert not of_wish(link(), [], move(status=None), came(A)).is_complete
    assert not of_wish(link(), [], None, {}).is_complete
