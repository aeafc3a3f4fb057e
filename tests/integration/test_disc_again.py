"""kind = "iso" on the line: a disc is made of all of a study, again when more comes."""

import os
import shutil
import time

import pydicom
import pytest
from sqlalchemy import delete, select, update
from support.sites.line_site import RECEIVER, all_settled, arrive, rounds, states, working
from support.sites.study_discs import attempted, consigned, discs, hidden, receipts, settings, tables, visible
from support.studies.discs import STUDY, an_object, assert_records_agree, taken_apart

from pipeline.disc.make.study_disc import HIDDEN
from pipeline.ledger import accounts
from pipeline.ledger.tables import arrival, delivery, disc, instance, on_disc, receipt
from pipeline.line import settle
from pipeline.operate.retry import retry

pytestmark = [pytest.mark.programs, pytest.mark.filterwarnings("ignore::UserWarning")]


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
