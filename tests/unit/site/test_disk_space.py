"""Free space is judged with a margin on the way back, and told once each way."""

import logging
from pathlib import Path

import pytest

from pipeline.config.site_table import SiteTable
from pipeline.site.disk_space import DiskLevel, SpaceWatch, free_bytes, judged

GIB = 1 << 30


def rooms(*free: float, alarm_below: int = 10 * GIB, refuse_below: int = 2 * GIB) -> list[str]:
    room, seen = DiskLevel.ENOUGH, []
    for amount in free:
        room = judged(int(amount * GIB), room, alarm_below=alarm_below, refuse_below=refuse_below)
        seen.append(room.name)
    return seen


def test_it_gets_worse_at_the_marks():
    assert rooms(10, 9.99, 2, 1.99) == ["ENOUGH", "LOW", "LOW", "NONE"]


def test_it_gets_better_only_a_tenth_above_the_marks():
    assert rooms(1, 2.1, 2.3, 10.5, 11.1) == ["NONE", "NONE", "LOW", "LOW", "ENOUGH"]


def test_free_space_that_wavers_around_a_mark_changes_nothing():
    assert set(rooms(1.9, 2.1, 1.9, 2.1)) == {"NONE"}


def test_a_mark_of_nought_is_never_reached():
    assert rooms(0, alarm_below=0, refuse_below=0) == ["ENOUGH"]


@pytest.fixture
def watch():
    amounts: list[float] = []
    site = SiteTable(spool="/s", alarm_below="10 GiB", refuse_below="2 GiB")
    return SpaceWatch(Path("/s"), site, "ct", lambda _: int(amounts.pop(0) * GIB)), amounts


def test_every_change_is_told_once(watch, caplog):
    caplog.set_level(logging.INFO, "storestow")
    watch, amounts = watch
    amounts += [20, 5, 5, 1, 1, 5, 20]
    assert [watch.look() for _ in range(7)] == [False, False, False, True, True, False, False]
    assert caplog.messages == [
        f"space-low receiver=ct free={5 * GIB} receiving=yes",
        f"space-low receiver=ct free={GIB} receiving=no",
        f"space-back receiver=ct free={5 * GIB} receiving=yes",
        f"space-back receiver=ct free={20 * GIB} receiving=yes",
    ]
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR", "INFO", "INFO"]


def test_an_association_under_way_must_end_only_when_half_of_the_reserve_is_gone(watch):
    watch, amounts = watch
    amounts += [1.5, 0.9, 20]
    seen = [(watch.look(), watch.is_desperate) for _ in range(3)]
    assert seen == [(True, False), (True, True), (False, False)]


def test_free_bytes_are_those_of_the_file_system(tmp_path):
    assert free_bytes(tmp_path) > 0
