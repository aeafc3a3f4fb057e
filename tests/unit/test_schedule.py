import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import schedule
from pipeline.schedule import Clock

seconds = st.floats(min_value=0, max_value=1e7, allow_nan=False)


@given(seconds, seconds)
def test_the_back_off_is_monotone_and_between_seconds_and_an_hour(one, other):
    younger, older = sorted((one, other))
    assert (
        schedule.SHORTEST_WAIT <= schedule.back_off(younger) <= schedule.back_off(older) <= schedule.LONGEST_WAIT
    )


def test_a_retry_after_is_heeded_but_not_for_ever():
    assert schedule.next_attempt(1000, 1000, 120) == 1120
    assert schedule.next_attempt(1000, 1000, 1e9) == 1000 + schedule.LONGEST_WAIT


def test_a_study_is_due_when_its_newest_file_is_quiet():
    assert not schedule.is_due(now=109, newest_file=100, first_admitted=50, quiet=10, at_most=900)
    assert schedule.is_due(now=110, newest_file=100, first_admitted=50, quiet=10, at_most=900)


def test_a_sender_that_never_pauses_holds_a_study_back_no_longer_than_gather_at_most():
    assert schedule.is_due(now=1000, newest_file=999, first_admitted=100, quiet=10, at_most=900)


def test_a_clock_set_back_by_a_year_holds_nothing_back():
    assert schedule.is_due(now=0, newest_file=3e7, first_admitted=3e7, quiet=10, at_most=900)


def test_a_clock_that_jumps_ahead_gives_nothing_up():
    week = 7 * 86400
    assert not schedule.has_given_up(now=week + 1, first_attempt=0, attempts=2, give_up_after=week)
    assert schedule.has_given_up(now=week + 1, first_attempt=0, attempts=100, give_up_after=week)


def test_nothing_goes_by_age_before_the_clock_has_gone_evenly_for_a_while():
    week = 7 * 86400
    assert schedule.until_believed(steady=0, keep=week) == schedule.LONGEST_WAIT
    assert schedule.until_believed(steady=schedule.LONGEST_WAIT, keep=week) == 0
    assert schedule.until_believed(steady=60, keep=30) == 0


@pytest.mark.parametrize("jump", [86400.0, -86400.0])
def test_a_clock_that_was_set_is_noticed_once_and_has_to_prove_itself_again(jump):
    clock = Clock()
    assert clock.look(wall=1e9, monotonic=0) == 0
    assert clock.look(wall=1e9 + 5000.2, monotonic=5000) == 0, "a clock that is slewed"
    assert clock.steady_seconds(5000) == 5000
    assert clock.look(wall=1e9 + 5005 + jump, monotonic=5005) == pytest.approx(jump, abs=1)
    assert clock.look(wall=1e9 + 5010 + jump, monotonic=5010) == 0
    assert clock.steady_seconds(5010) == 5
