"""The table of speed ends in time, and one row that fails costs no other."""

import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module")
def table():
    sys.path.insert(0, str(BENCH))
    try:
        import table

        yield table
    finally:
        sys.path.remove(str(BENCH))


def row(table, contenders, **more):
    @contextmanager
    def run(_folder, _small):
        yield contenders

    return table.Row("what", run, more.pop("goals", {}), seconds=more.pop("seconds", 5), **more)


def lines(table, row, seconds=5.0, at_most_seconds=5.0):
    return table.row_lines("name", row, seconds=seconds, at_most_seconds=at_most_seconds, small=False)


def test_the_time_of_all_rows_is_less_than_twenty_minutes(table) -> None:
    rows = {name: table.row_named(name) for name in table.row_names()}
    assert len(rows) >= 14
    assert sum(row.seconds for row in rows.values()) <= table.TABLE_SECONDS < 20 * 60
    assert all(row.rounds <= 3 for row in rows.values())


def test_a_row_says_goal_and_verdict_of_each_contender(table) -> None:
    found = {"peer": lambda: 2.0, "quick": lambda: 2.2, "slow": lambda: 9.0}
    peer, quick, slow = lines(table, row(table, found, goals={"quick": 1.2, "slow": 1.2}))
    assert peer.startswith("| name | what | peer | 2 s | 1.00 |  |  | 3 |")
    assert "| quick | 2.2 s | 1.10 | <= 1.2 | met | 3 |" in quick
    assert "| slow | 9 s | 4.50 | <= 1.2 | **missed** | 3 |" in slow


def test_a_goal_in_the_unit_of_a_row_is_held_against_the_value(table) -> None:
    found = {"peer": lambda: 2.0, "ours": lambda: 4.0}
    in_unit = lines(table, row(table, found, goals={"ours": 5.0}, are_goals_ratios=False))
    assert "| 4 s | 2.00 | <= 5 s | met |" in in_unit[1]
    without_peer = lines(table, row(table, {"ours": lambda: 4.0}, goals={"ours": 3.0}, is_ratio=False))
    assert "| 4 s |  | <= 3 s | **missed** |" in without_peer[0]


def test_a_row_that_fails_says_why_and_keeps_what_was_measured(table, capsys) -> None:
    def fail() -> float:
        raise RuntimeError("no answer | from the archive")

    measured, failed = lines(table, row(table, {"peer": lambda: 2.0, "ours": fail}))
    assert "| peer | 2 s |" in measured
    assert "| failed: RuntimeError: no answer / from the archive |" in failed
    assert len(failed.split(" | ")) == len(table.HEAD[0].split(" | "))
    assert "Traceback" in capsys.readouterr().err


def test_a_failure_without_words_is_told_by_its_line(table) -> None:
    def fail() -> float:
        raise AssertionError

    assert "raise AssertionError (test_bench.py:" in lines(table, row(table, {"ours": fail}))[-1]


def test_a_row_that_hangs_is_stopped_and_what_it_has_started_is_ended(table) -> None:
    ended = []

    @contextmanager
    def hanging(_folder, _small):
        try:
            yield {"peer": lambda: 1.0, "ours": lambda: time.sleep(60)}
        finally:
            ended.append(True)

    began = time.monotonic()
    said = lines(table, table.Row("what", hanging, {}, seconds=5), at_most_seconds=0.2)
    assert time.monotonic() - began < 30
    assert "OutOfTimeError: stopped after" in said[-1]
    assert ended == [True]


def test_no_round_begins_that_would_not_end_in_time(table) -> None:
    taken = []

    def slow() -> float:
        taken.append(time.sleep(0.05))
        return 1.0

    lines(table, row(table, {"ours": slow}, rounds=3), seconds=0.06)
    assert len(taken) == 1


def test_a_row_without_its_package_says_which(table, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "rows.stow", None)
    (said,) = lines(table, table.row_named("stow"))
    assert "rows.stow" in said
    assert "failed: ModuleNotFoundError" in said


def test_a_program_that_is_not_there_costs_no_other_its_version(table, monkeypatch) -> None:
    monkeypatch.setattr(table, "PROGRAMS", ("no-such-program", "xorriso"))
    missing, xorriso = list(table.versions())[1:3]
    assert "no-such-program is not installed" in missing
    assert "1." in xorriso
