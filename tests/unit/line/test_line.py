"""The line from admission to settlement, with the worker's rounds run by hand and real files."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import pydicom
import pytest
from pydicom.uid import HTJ2KLossless, JPEG2000Lossless, generate_uid
from support.crash.moments import point_of
from support.peers.fake_dcm4chee import FakeDcm4chee
from support.sites import ledger_place
from support.sites.line_site import RECEIVER, all_settled, arrive, instance, rounds, settings_for, states, working

from pipeline import crash_points
from pipeline.errors import Configuration, Transient
from pipeline.ledger import FILE_NAME, arrivals, reports
from pipeline.ledger.tables import arrival
from pipeline.line import consign, prepare_study, quarantine, settle
from pipeline.line.identify import ACCOUNT
from pipeline.line.reconcile import reconcile
from pipeline.model import ArrivalState
from pipeline.operate.retry import retry
from pipeline.operate.trace import trace


def archive_table(url: str, **keys) -> dict:
    return {"name": "archive", "kind": "stow", "url": url, "encode": "j2k", **keys}


def instances_of(site, subject):
    (study,) = trace(subject, site.ledger)["studies"]
    return study["instances"]


@pytest.mark.parametrize(("encode", "sent_in"), [("j2k", JPEG2000Lossless), ("htj2k", HTJ2KLossless)])
def test_a_study_arrives_coerced_encoded_and_verified_and_is_settled_with_its_account(tmp_path, encode, sent_in):
    files = [instance(tmp_path, str(n), AccessionNumber="ACC1", ReferringPhysicianName="") for n in range(3)]
    with (
        FakeDcm4chee() as archive,
        working(settings_for(tmp_path, destinations=[archive_table(archive.url, encode=encode)])) as (
            site,
            worker,
        ),
    ):
        name = arrive(site.spool, *files)
        rounds(worker, until=all_settled(site))
        assert states(site, "instances") == {"encoded": 3}
        assert states(site, "deliveries") == {"delivered": 1}
        assert len(archive.stored) == 3
        for one in instances_of(site, "ACC1"):
            assert one["transfer_syntax_sent"] == sent_in
            assert "ReferringPhysicianName" in [change["keyword"] for change in one["changes"]]
            assert one["deliveries"][0]["verified"] is True
        account = json.loads((site.spool.settled / name / ACCOUNT).read_bytes())
        assert len(account["instances"]) == 3
        assert not (site.spool.outputs / name).exists()


def test_the_same_announced_twice_is_delivered_once(tmp_path):
    file = instance(tmp_path)
    with (
        FakeDcm4chee() as archive,
        working(settings_for(tmp_path, destinations=[archive_table(archive.url)])) as (
            site,
            worker,
        ),
    ):
        arrive(site.spool, file)
        arrive(site.spool, file)
        rounds(worker, until=all_settled(site))
        assert states(site, "instances") == {"encoded": 1, "duplicate": 1}
        assert states(site, "deliveries") == {"delivered": 1}


def test_other_bytes_under_a_known_uid_are_a_conflict_and_never_sent(tmp_path):
    first = instance(tmp_path, "first")
    other = pydicom.dcmread(first)
    other.PatientID = "SOMEBODY ELSE"
    other.save_as(tmp_path / "other")
    with (
        FakeDcm4chee() as archive,
        working(settings_for(tmp_path, destinations=[archive_table(archive.url)])) as (
            site,
            worker,
        ),
    ):
        arrive(site.spool, first, tmp_path / "other")
        rounds(worker, until=all_settled(site))
        assert states(site, "instances") == {"encoded": 1, "conflict": 1}
        (stored,) = archive.stored.values()
        assert b"SOMEBODY ELSE" not in stored
        (aside,) = quarantine.listed(site.ledger)["quarantined"]
        assert "something else was received before" in aside["reason"]


def test_the_same_instance_in_another_transfer_syntax_is_a_duplicate(tmp_path):
    first = instance(tmp_path, "first")
    other = pydicom.dcmread(first)
    other.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)
    other.save_as(tmp_path / "other")
    with working(settings_for(tmp_path)) as (site, worker):
        arrive(site.spool, first, tmp_path / "other")
        rounds(worker, until=all_settled(site))
        assert states(site, "instances") == {"passed": 1, "duplicate": 1}


def test_two_studies_in_one_folder_part_their_ways(tmp_path):
    files = [instance(tmp_path, str(n), StudyInstanceUID=generate_uid()) for n in range(2)]
    with working(settings_for(tmp_path)) as (site, worker):
        arrive(site.spool, *files)
        rounds(worker, until=all_settled(site))
        assert states(site, "deliveries") == {"delivered": 2}


def test_one_study_in_two_arrivals_is_one_delivery(tmp_path):
    study = generate_uid()
    files = [instance(tmp_path, str(n), StudyInstanceUID=study) for n in range(2)]
    with working(settings_for(tmp_path)) as (site, worker):
        for file in files:
            arrive(site.spool, file)
        rounds(worker, until=all_settled(site))
        assert states(site, "deliveries") == {"delivered": 1}


def test_late_instances_go_in_a_delivery_of_their_own(tmp_path):
    study = generate_uid()
    files = [instance(tmp_path, str(n), StudyInstanceUID=study) for n in range(2)]
    with working(settings_for(tmp_path)) as (site, worker):
        for file in files:
            arrive(site.spool, file)
            rounds(worker, until=all_settled(site))
        assert states(site, "deliveries") == {"delivered": 2}
        assert states(site, "instances") == {"passed": 2}


def test_a_lost_ledger_is_rebuilt_from_the_rooms_and_nothing_is_sent_twice(tmp_path):
    settings = settings_for(tmp_path)
    first, late = instance(tmp_path, "first"), instance(tmp_path, "late")
    with working(settings) as (site, worker):
        arrive(site.spool, first)
        rounds(worker, until=all_settled(site))
        before = trace(pydicom.dcmread(first).StudyInstanceUID, site.ledger)
        arrive(site.spool, late)
    ledger_place.lose(tmp_path / "spool")
    with working(settings) as (site, worker):
        reconcile(site)
        assert trace(pydicom.dcmread(first).StudyInstanceUID, site.ledger) == before
        arrive(site.spool, first)
        rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 1, "waiting": 1})
        assert states(site, "instances") == {"passed": 2, "duplicate": 1}
        worker.round()
        assert states(site, "deliveries") == {"delivered": 1, "waiting": 1}, "held: `null` cannot be asked"
        retry(site.ledger, pydicom.dcmread(first).StudyInstanceUID, None, release_guard=False)
        rounds(worker, until=all_settled(site))


@pytest.mark.sqlite_file
def test_a_corrupt_ledger_is_set_aside_and_rebuilt(tmp_path):
    settings = settings_for(tmp_path)
    with working(settings) as (site, worker):
        arrive(site.spool, instance(tmp_path))
        rounds(worker, until=all_settled(site))
    ledger = tmp_path / "spool" / FILE_NAME
    ledger.write_bytes(b"SQLite format 3\0" + b"\xff" * 20_000)
    with working(settings) as (site, worker):
        reconcile(site)
        assert states(site, "instances") == {"passed": 1}
    assert list((tmp_path / "spool").glob(FILE_NAME + ".corrupt-*"))


def test_a_folder_that_somebody_removed_is_missed_loudly(tmp_path):
    with working(settings_for(tmp_path)) as (site, worker):
        name = arrive(site.spool, instance(tmp_path))
        rounds(worker, until=all_settled(site))
        shutil.rmtree(site.spool.settled / name)
        reconcile(site)
        with site.ledger.reading() as look:
            row = reports.arrival_row(look, name)
        assert (row.state, row.reason) == (ArrivalState.QUARANTINED, "files missing")


@pytest.mark.both_databases
def test_what_the_ledger_refuses_at_the_start_is_logged_without_values(tmp_path, monkeypatch, caplog):
    def refused(name, site):
        with site.ledger.transaction() as change:
            change.execute(arrival.insert().values(name="DOE^JANE", receiver="ACC4711"))

    monkeypatch.setattr("pipeline.line.reconcile.remark_of", refused)
    with working(settings_for(tmp_path)) as (site, worker):
        name = arrive(site.spool, instance(tmp_path))
        rounds(worker, until=all_settled(site))
        with site.ledger.transaction() as change:
            arrivals.set_state(change, name, ArrivalState.PROCESSING)
        reconcile(site)
    (line,) = (record.getMessage() for record in caplog.records if f"reconcile {name}" in record.getMessage())
    assert "IntegrityError < " in line
    assert "DOE" not in caplog.text
    assert "ACC4711" not in caplog.text


def test_originals_go_after_their_time_and_what_is_wrong_stays(tmp_path):
    cut = tmp_path / "cut"
    cut.write_bytes(instance(tmp_path, "whole").read_bytes()[:-10])
    with working(settings_for(tmp_path, keep_originals="1h")) as (site, worker):
        fine = arrive(site.spool, instance(tmp_path, "good"))
        wrong = arrive(site.spool, instance(tmp_path, "other"), cut)
        rounds(worker, until=all_settled(site))
        import time

        settle.expire(site, time.time() + 1800)
        assert (site.spool.settled / fine).is_dir()
        settle.expire(site, time.time() + 7200)
        assert not (site.spool.settled / fine).exists()
        assert (site.spool.settled / wrong).is_dir()
        reconcile(site)
        assert states(site, "arrivals") == {"settled": 2}


def test_what_was_made_for_a_delivery_is_made_again_with_the_same_bytes(tmp_path):
    from pipeline.ledger import destination_states

    with (
        FakeDcm4chee() as archive,
        working(settings_for(tmp_path, destinations=[archive_table(archive.url)])) as (
            site,
            worker,
        ),
    ):
        with site.ledger.transaction() as change:
            destination_states.change_row(change, "archive", paused=True)
        name = arrive(site.spool, instance(tmp_path, ReferringPhysicianName=""))
        rounds(worker, until=lambda: states(site, "deliveries") == {"waiting": 1})
        shutil.rmtree(site.spool.outputs / name)
        with site.ledger.transaction() as change:
            destination_states.change_row(change, "archive", paused=False)
        rounds(worker, until=all_settled(site))
        assert states(site, "deliveries") == {"delivered": 1}


def test_only_one_worker_works_on_a_spool(tmp_path):
    settings = settings_for(tmp_path)
    with working(settings), pytest.raises(Configuration, match="another worker"), working(settings):
        pass


def test_a_receiver_without_destinations_keeps_what_comes_as_unclaimed(tmp_path):
    receiver = {**RECEIVER, "coerce": False, "to": []}
    with working(settings_for(tmp_path, receivers=[receiver])) as (site, worker):
        name = arrive(site.spool, instance(tmp_path))
        rounds(worker, until=all_settled(site))
        with site.ledger.reading() as look:
            assert reports.arrival_row(look, name).reason == "unclaimed"
        assert states(site, "deliveries") == {}


def test_what_came_by_a_receiver_that_is_no_longer_configured_waits_and_says_so(tmp_path, caplog):
    import logging

    logging.getLogger("storestow").propagate = True
    with working(settings_for(tmp_path, receivers=[{**RECEIVER, "name": "another"}])) as (site, worker):
        arrive(site.spool, instance(tmp_path))
        rounds(worker, until=lambda: "configuration no longer names it" in caplog.text)
        assert states(site, "instances") == {"received": 1}


def test_two_deliveries_that_end_at_once_write_the_account_one_after_the_other(tmp_path, monkeypatch):
    """Else the later writes into the file the earlier is about to give its name."""
    is_written, may_go_on = threading.Event(), threading.Event()

    def wait(point: str) -> None:
        if point == point_of("account-renewed") and not is_written.is_set():
            is_written.set()
            assert may_go_on.wait(10)

    with working(settings_for(tmp_path)) as (site, worker), ThreadPoolExecutor(2) as threads:
        name = arrive(site.spool, instance(tmp_path))
        rounds(worker, until=all_settled(site))
        monkeypatch.setattr(crash_points, "observer", wait)
        earlier = threads.submit(settle.renew_account, name, site.spool, site.ledger)
        assert is_written.wait(10)
        later = threads.submit(settle.renew_account, name, site.spool, site.ledger)
        with pytest.raises(TimeoutError):
            later.result(timeout=0.3)
        may_go_on.set()
        earlier.result(10), later.result(10)
        assert json.loads((site.spool.settled / name / ACCOUNT).read_bytes())["instances"]


def test_what_was_prepared_just_now_is_sent_without_being_read_to_hash_it(tmp_path):
    with (
        working(settings_for(tmp_path)) as (site, worker),
        mock.patch("pipeline.spool.hashed_files.sha256_of", side_effect=AssertionError) as read,
    ):
        arrive(site.spool, instance(tmp_path))
        rounds(worker, until=all_settled(site))
    assert not read.called


def test_what_prepares_a_study_that_cannot_be_recorded_is_closed_at_once_and_not_by_the_garbage_collector(
    tmp_path, monkeypatch
):
    full = Transient("the disk is full")  # Who keeps an error keeps all that was under way.
    given_up: list[str] = []
    with working(settings_for(tmp_path)) as (site, worker):
        monkeypatch.setattr(consign, "_consign_part", mock.Mock(side_effect=full))
        monkeypatch.setattr(prepare_study, "give_up", lambda claim, _site: given_up.append(claim))
        arrive(site.spool, instance(tmp_path))
        rounds(worker, until=lambda: given_up)
        assert full.__traceback__
        assert states(site, "instances") == {"received": 1}
