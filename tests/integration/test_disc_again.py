"""kind = "iso" on the line: a disc is made of all of a study, again when more comes, whatever ends an attempt."""

import errno
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pydicom
import pytest
from sqlalchemy import delete, select, update
from support.crash.moments import point_of
from support.sites.line_site import RECEIVER, all_settled, arrive, rounds, states, working
from support.sites.study_discs import (
    attempted,
    consigned,
    discs,
    hidden,
    receipts,
    settings,
    tables,
    visible,
)
from support.studies.discs import STUDY, an_object, assert_records_agree, killed_at, taken_apart

from pipeline import crash_points
from pipeline.disc.make.study_disc import HIDDEN, hidden_files
from pipeline.ledger import accounts
from pipeline.ledger.tables import arrival, delivery, disc, instance, on_disc, receipt
from pipeline.line import settle
from pipeline.operate.retry import retry

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


def uids_on(table) -> set[str]:
    return {one["sop_instance_uid"] for one in table["instances"]}


def uids_of(files) -> set[str]:
    return {pydicom.dcmread(file).SOPInstanceUID for file in files}


def let_go(site, *, after: float) -> None:
    """Let go of originals as if so many seconds had passed."""
    settle.expire(site, time.time() + after)


def test_each_delivery_makes_a_disc_of_the_whole_study_that_says_which_one_it_replaces(tmp_path, folder, files):
    with working(settings(folder)) as (site, worker):
        for file in files:
            arrive(site.spool, file)
            rounds(worker, until=all_settled(site))
        assert states(site, "deliveries") == {"delivered": 3}
        with site.ledger.reading() as look:
            held = look.execute(
                select(disc.c.name, on_disc.c.instance).join(on_disc).order_by(disc.c.number)
            ).all()
    assert discs(folder) == [(1, None), (2, "A1.iso"), (3, "A1-2.iso")]
    assert [name for name, _ in held] == ["A1.iso", *["A1-2.iso"] * 2, *["A1-3.iso"] * 3]
    last = tables(folder)["A1-3"]
    assert uids_on(last) == uids_of(files)
    assert [one["decoded_from"] for one in last["instances"]].count("1.2.840.10008.1.2.5") == 1
    assert last["replaces"]["volume_id"] == tables(folder)["A1-2"]["volume_id"]
    root = taken_apart(folder / "A1-3.iso", tmp_path / "x")
    assert_records_agree(root, 3)
    assert "replaces the earlier A1-2.iso" in (root / "README.TXT").read_text("utf-8-sig")
    assert hidden(folder) == []


def test_a_disc_the_publisher_took_away_makes_no_difference(folder, files):
    with working(settings(folder)) as (site, worker):
        attempted(site, consigned(site, worker, files[0]))
        for name in visible(folder):
            (folder / name).unlink()
        attempted(site, consigned(site, worker, files[1]))
    assert discs(folder) == [(2, "A1.iso")]
    assert visible(folder) == ["A1.iso", "A1.json"]


def test_late_instances_are_refused_once_the_earlier_originals_have_aged_out_and_the_reason_says_what_to_do(
    folder, files
):
    with working(settings(folder)) as (site, worker):
        arrive(site.spool, *files[:2])
        rounds(worker, until=all_settled(site))
        let_go(site, after=8 * 86400)
        row = attempted(site, consigned(site, worker, files[2]))
    assert row.state == "refused"
    assert "these instances are late, and the originals of 2 others of the study" in row.reason
    assert "retrieve the study from the archive for a disc of all of it" in row.reason
    assert discs(folder) == [(2, None)]


def test_a_later_disc_begins_the_time_the_originals_are_kept_for_again(folder, files):
    with working(settings(folder)) as (site, worker):
        arrive(site.spool, files[0])
        rounds(worker, until=all_settled(site))
        with site.ledger.transaction() as change:
            change.execute(update(arrival).values(settled_at=arrival.c.settled_at - 6 * 86400))
        arrive(site.spool, files[1])
        rounds(worker, until=all_settled(site))
        let_go(site, after=6 * 86400)
        assert attempted(site, consigned(site, worker, files[2])).state == "delivered"
        rounds(worker, until=all_settled(site))
        assert not list(site.spool.outputs.iterdir())
    assert discs(folder)[-1] == (3, "A1-2.iso")


def test_an_original_that_is_not_at_hand_puts_the_late_instances_off(folder, files):
    with working(settings(folder)) as (site, worker):
        name = arrive(site.spool, files[0])
        rounds(worker, until=all_settled(site))
        away = site.spool.find(name, "CT.X.00000")
        shutil.move(away, folder.parent / "away")
        late = consigned(site, worker, files[1])
        row = attempted(site, late)
        assert (row.state, "is not at hand" in row.reason) == ("deferred", True)
        assert discs(folder) == [(1, None)]
        shutil.move(folder.parent / "away", away)
        assert attempted(site, late).state == "delivered"
    assert discs(folder) == [(1, None), (2, "A1.iso")]


def test_what_a_disc_had_to_leave_out_is_refused_and_listed_on_the_next_one_too(tmp_path, folder, files):
    private = an_object(tmp_path / "in", "private", SOPClassUID="1.3.12.2.1107.5.9.1")
    with working(settings(folder)) as (site, worker):
        first = attempted(site, consigned(site, worker, files[0], private))
        assert (first.state, first.reason) == ("refused", "1 of 2 instances were refused")
        assert {one.state for one in receipts(site)} == {"stored", "refused"}
        (left_out,) = (receipt for receipt in receipts(site) if receipt.state == "refused")
        assert (left_out.left_out, "left out of the disc: private SOP class" in left_out.message) == ("kind", True)
        attempted(site, consigned(site, worker, files[1]))
        readme = (taken_apart(folder / "A1-2.iso", tmp_path / "x") / "README.TXT").read_text("utf-8-sig")
        assert pydicom.dcmread(private).SOPInstanceUID in readme
        assert discs(folder) == [(1, None), (2, "A1.iso")]
        retry(site.ledger, STUDY, None, release_guard=False)
        row = attempted(site, 1)  # nothing new can be on a disc
    assert (row.state, row.reason) == ("refused", "1 of 2 instances were refused")
    assert len(discs(folder)) == 2
    assert hidden(folder) == []


def test_the_same_content_is_not_offered_twice(folder, files):
    with working(settings(folder)) as (site, worker):
        number = consigned(site, worker, *files)
        attempted(site, number)
        before = (folder / "A1.iso").stat()
        assert attempted(site, number).state == "delivered"
    assert visible(folder) == ["A1.iso", "A1.json"]
    assert (folder / "A1.iso").stat().st_mtime_ns == before.st_mtime_ns


def test_an_instance_sent_again_with_other_bytes_by_another_way_in_takes_the_place_of_the_first(
    tmp_path, folder, files
):
    uid = pydicom.dcmread(files[1]).SOPInstanceUID
    again = an_object(tmp_path / "in", "again", SOPInstanceUID=uid, InstanceNumber=9)
    other = {**RECEIVER, "name": "other", "port": 11113, "ae_title": "OTHER", "to": ["burner"], "coerce": False}
    with working(settings(folder, receivers=[other])) as (site, worker):
        arrive(site.spool, *files[1:])
        rounds(worker, until=all_settled(site))
        arrive(site.spool, again, receiver="other")
        rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 2})
        arrive(site.spool, files[0])
        rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 3})
    for disc_of_it, count in (("A1-2.iso", 2), ("A1-3.iso", 3)):
        root = taken_apart(folder / disc_of_it, tmp_path / "x")
        objects = [pydicom.dcmread(file) for file in root.glob("DICOM/*/*/*")]
        assert [one.InstanceNumber for one in objects if one.SOPInstanceUID == uid] == [9]
        assert len(objects) == count


def test_a_study_of_another_destination_or_for_an_order_is_no_earlier_one(folder, files):
    with working(settings(folder)) as (site, worker):
        attempted(site, consigned(site, worker, files[0]))
        with site.ledger.transaction() as change:
            change.execute(update(delivery).values(destination="elsewhere"))
        attempted(site, consigned(site, worker, files[1]))
    assert discs(folder) == [(1, None), (1, None)]


# --- where an attempt ends early -------------------------------------------------------------------------------


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


# --- what is remembered where ------------------------------------------------------------------------------


def test_where_the_ledger_was_lost_the_receipts_of_the_accounts_still_tell_the_volume_that_is_replaced(
    tmp_path, folder, files
):
    with working(settings(folder)) as (site, worker):
        name = arrive(site.spool, *files[:2])
        rounds(worker, until=all_settled(site))
        with site.ledger.transaction() as change:
            account = accounts.account_of(change, name, time.time())
            for table in (on_disc, disc, receipt, delivery, instance, arrival):
                change.execute(delete(table))
            accounts.restore(change, account)
        attempted(site, consigned(site, worker, files[2]))
    found = tables(folder)
    assert uids_on(found["A1-2"]) == uids_of(files)
    assert found["A1-2"]["replaces"] == {"disc": None, "volume_id": found["A1"]["volume_id"]}
    readme = (taken_apart(folder / "A1-2.iso", tmp_path / "x") / "README.TXT").read_text("utf-8-sig")
    assert f"replaces the earlier disc (volume {found['A1']['volume_id']})" in readme


def test_what_is_left_in_the_hidden_folder_goes_after_a_week_what_earlier_versions_kept_there_too(folder, files):
    with working(settings(folder)) as (site, worker):
        attempted(site, consigned(site, worker, files[0]))
        kept, young = folder / HIDDEN / f"{STUDY}.image", folder / HIDDEN / f"{STUDY}.new"
        kept.hardlink_to(folder / "A1.iso")
        (folder / HIDDEN / f"{STUDY}.images").mkdir()
        young.write_text("young")
        long_ago = time.time() - 8 * 86400
        for path in (kept, folder / HIDDEN / f"{STUDY}.images"):
            os.utime(path, (long_ago, long_ago))
        site.settings.destination_named("burner").tidy()
    assert hidden(folder) == [young.name]
    assert visible(folder) == ["A1.iso", "A1.json"]


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
