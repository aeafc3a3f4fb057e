"""kind = "iso" on the line: whatever ends an attempt, one disc of everything is made."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import update
from support.crash.moments import point_of
from support.sites.line_site import working
from support.sites.study_discs import attempted, consigned, discs, hidden, receipts, settings, tables, visible
from support.studies.discs import STUDY, an_object, killed_at

from pipeline import crash_points
from pipeline.disc.make.study_disc import hidden_files
from pipeline.ledger.tables import delivery

pytestmark = [pytest.mark.programs, pytest.mark.filterwarnings("ignore::UserWarning")]

POINTS = ["disc-made", "disc-remembered", "disc-result", "disc-offered", "disc-noted"]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "discs"
    folder.mkdir()
    return folder


@pytest.fixture
def files(tmp_path):
    """Three objects of one study, of two kinds."""
    return [
        an_object(tmp_path / "in", "0", source="MR_small_RLE.dcm", Modality="MR"),
        *(an_object(tmp_path / "in", str(n), InstanceNumber=n) for n in (1, 2)),
    ]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("is_late", [False, True])
def test_a_crash_at_any_point_ends_in_one_disc_of_everything(is_late, point, folder, files):
    with working(settings(folder)) as (site, worker):
        if is_late:
            attempted(site, consigned(site, worker, files[0]))
        number = consigned(site, worker, *files[1:])
        with killed_at(point):
            attempted(site, number)
        resumed(site, number)
        assert attempted(site, number).state == "delivered"
        assert {(one.state, one.verified) for one in receipts(site)} == {("stored", True)}
    assert discs(folder) == ([(1, None), (3, "A1.iso")] if is_late else [(2, None)])
    assert_whole(folder, left=[f"{STUDY}.seen"] if point == "disc-noted" else [])


@pytest.mark.parametrize("point", POINTS)
def test_late_instances_that_come_first_after_a_crash_never_hide_the_earlier_ones(point, folder, files):
    with working(settings(folder)) as (site, worker):
        first = consigned(site, worker, *files[:2])
        with killed_at(point):
            attempted(site, first)
        resumed(site, first)
        late = consigned(site, worker, files[2])
        assert attempted(site, late).state == "delivered"
        assert attempted(site, first).state == "delivered"
    was_seen = point in {"disc-offered", "disc-noted"}
    assert discs(folder) == ([(2, None), (3, "A1.iso")] if was_seen else [(3, None)])
    assert_whole(folder)


@pytest.mark.parametrize("is_taken_away", [False, True])
def test_a_disc_that_was_seen_and_could_not_be_noted_is_not_offered_again(is_taken_away, folder, files):
    with working(settings(folder)) as (site, worker):
        number = consigned(site, worker, *files[:2])
        with killed_at("disc-offered"):
            attempted(site, number)
        if is_taken_away:
            for name in visible(folder):
                (folder / name).unlink()
        resumed(site, number)
        assert attempted(site, number).state == "delivered"
        assert visible(folder) == ([] if is_taken_away else ["A1.iso", "A1.json"])
        attempted(site, consigned(site, worker, files[2]))
    assert discs(folder)[-1] == (3, "A1.iso")
    assert hidden(folder) == []


@pytest.mark.parametrize(("point", "looked"), [("disc-offered", "disc-seen"), ("disc-remembered", "disc-unseen")])
def test_killed_again_while_it_looks_for_what_it_left_it_ends_in_one_disc(point, looked, folder, files):
    with working(settings(folder)) as (site, worker):
        number = consigned(site, worker, *files)
        for next_point in (point, looked):
            with killed_at(next_point):
                attempted(site, number)
            resumed(site, number)
        assert attempted(site, number).state == "delivered"
    assert discs(folder) == [(3, None)]
    assert_whole(folder)


def test_a_disc_of_another_content_under_the_name_is_not_taken_for_the_one_that_was_made(folder, files):
    with working(settings(folder)) as (site, worker):
        number = consigned(site, worker, *files)
        with killed_at("disc-remembered"):
            attempted(site, number)
        (folder / "A1.iso").write_text("somebody's")
        resumed(site, number)
        assert attempted(site, number).state == "delivered"
    assert (folder / "A1.iso").read_text() == "somebody's"
    assert discs(folder) == [(3, None)]
    assert "A1-2.iso" in visible(folder)


def test_a_share_that_fails_as_the_disc_appears_puts_it_off_and_nothing_is_taken_for_seen(
    folder, files, monkeypatch
):
    def failing(path: Path, target: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with working(settings(folder)) as (site, worker):
        number = consigned(site, worker, *files)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "hardlink_to", failing)
            row = attempted(site, number)
        assert (row.state, "cannot be written to now" in row.reason) == ("deferred", True)
        assert visible(folder) == []
        assert attempted(site, number).state == "delivered"
    assert discs(folder) == [(3, None)]


def test_where_there_are_no_hard_links_a_disc_appears_and_is_replaced_all_the_same(folder, files, monkeypatch):
    def refused(*_args: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "hardlink_to", refused)
    with working(settings(folder)) as (site, worker):
        attempted(site, consigned(site, worker, *files[:2]))
        attempted(site, consigned(site, worker, files[2]))
    assert discs(folder) == [(2, None), (3, "A1.iso")]
    assert_whole(folder)


def test_two_deliveries_of_a_study_are_attempted_one_after_the_other(folder, files, monkeypatch):
    with working(settings(folder, slots=2)) as (site, worker):
        first, late = consigned(site, worker, files[0]), consigned(site, worker, files[1])

        def meanwhile(point: str) -> None:
            if point == point_of("disc-made"):
                monkeypatch.setattr(crash_points, "observer", lambda _: None)
                assert attempted(site, late).state == "waiting"

        monkeypatch.setattr(crash_points, "observer", meanwhile)
        attempted(site, first)
        assert attempted(site, late).state == "delivered"
    assert discs(folder) == [(2, None)]


def resumed(site, number: int) -> None:
    """Let a delivery whose attempt died wait again, as the next start does."""
    with site.ledger.transaction() as change:
        change.execute(update(delivery).where(delivery.c.id == number).values(state="waiting"))


def assert_whole(folder: Path, *, left: Sequence[str] = ()) -> None:
    """Every image has its result and every result its image; of attempts only this is left, for a week."""
    names = visible(folder)
    assert sorted(f"{Path(one).stem}.json" for one in names if one.endswith(".iso")) == sorted(
        one for one in names if one.endswith(".json")
    )
    for stem, table in tables(folder).items():
        assert table["disc"] == f"{stem}.iso"
        assert table["size"] == (folder / f"{stem}.iso").stat().st_size
    assert hidden(folder) == list(left)


def test_an_unfinished_image_that_went_by_age_is_made_again(folder, files):
    with working(settings(folder)) as (site, worker):
        number = consigned(site, worker, *files)
        with killed_at("disc-remembered"):
            attempted(site, number)
        image, _ = hidden_files(folder, STUDY)
        os.utime(image, (0, 0))
        site.settings.destination_named("burner").tidy()
        assert hidden(folder) == []
        resumed(site, number)
        assert attempted(site, number).state == "delivered"
    assert discs(folder) == [(3, None)]
