"""What the line sets aside, holds back or waits for, with the worker's rounds run by hand and real files."""

import shutil

import pytest
from support.peers.fake_dcm4chee import FakeDcm4chee
from support.sites.line_site import RECEIVER, all_settled, arrive, instance, rounds, settings_for, states, working

from pipeline.errors import Permanent
from pipeline.ledger import reports
from pipeline.line import quarantine
from pipeline.line.identify import ACCOUNT
from pipeline.line.reconcile import reconcile


def archive_table(url: str, **keys) -> dict:
    return {"name": "archive", "kind": "stow", "url": url, "encode": "j2k", **keys}


def test_a_study_that_is_not_quiet_yet_waits(tmp_path):
    receiver = {**RECEIVER, "quiet_seconds": 600}
    with working(settings_for(tmp_path, receivers=[receiver])) as (site, worker):
        arrive(site.spool, instance(tmp_path), age=1)
        for _ in range(5):
            worker.round()
        assert states(site, "deliveries") == {}


def test_one_bad_file_never_holds_back_the_good_ones(tmp_path):
    cut = tmp_path / "cut"
    cut.write_bytes(instance(tmp_path, "whole").read_bytes()[:-10])
    with working(settings_for(tmp_path)) as (site, worker):
        name = arrive(site.spool, instance(tmp_path, "good"), cut)
        rounds(worker, until=all_settled(site))
        assert states(site, "instances") == {"passed": 1, "quarantined": 1}
        (aside,) = quarantine.listed(site.ledger)["quarantined"]
        assert aside["reason"].startswith("truncated")
        assert (site.spool.settled / name / aside["file"]).read_bytes() == cut.read_bytes()


def test_an_arrival_without_a_readable_instance_is_set_aside_whole(tmp_path):
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"this is no DICOM file" * 100)
    with working(settings_for(tmp_path)) as (site, worker):
        name = arrive(site.spool, garbage)
        rounds(worker, until=all_settled(site))
        assert states(site, "arrivals") == {"quarantined": 1}
        assert (site.spool.quarantine / name).is_dir()


def test_what_is_discarded_is_gone_and_remembered(tmp_path):
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"this is no DICOM file" * 100)
    with working(settings_for(tmp_path)) as (site, worker):
        name = arrive(site.spool, garbage)
        rounds(worker, until=all_settled(site))
        assert len(quarantine.discard(name, site.spool, site.ledger)) == 1
        assert quarantine.listed(site.ledger) == {"quarantined": []}
        assert not (site.spool.quarantine / name).exists()
        reconcile(site)
        assert states(site, "arrivals") == {"quarantined": 1}


def test_a_file_that_is_mended_can_be_released(tmp_path):
    whole = instance(tmp_path, "whole")
    cut = tmp_path / "cut"
    cut.write_bytes(whole.read_bytes()[:-10])
    with working(settings_for(tmp_path)) as (site, worker):
        name = arrive(site.spool, instance(tmp_path, "good"), cut)
        rounds(worker, until=all_settled(site))
        (aside,) = quarantine.listed(site.ledger)["quarantined"]
        with pytest.raises(Permanent, match="truncated"):
            quarantine.release(f"{name}/{aside['file']}", site.spool, site.ledger)
        shutil.copyfile(whole, site.spool.settled / name / aside["file"])
        quarantine.release(f"{name}/{aside['file']}", site.spool, site.ledger)
        rounds(worker, until=all_settled(site))
        assert states(site, "instances") == {"passed": 2}
        assert states(site, "arrivals") == {"settled": 1}


def test_a_whole_arrival_can_be_released(tmp_path):
    whole = instance(tmp_path, "whole")
    cut = tmp_path / "cut"
    cut.write_bytes(whole.read_bytes()[:-10])
    with working(settings_for(tmp_path)) as (site, worker):
        name = arrive(site.spool, cut)
        rounds(worker, until=all_settled(site))
        (file,) = (site.spool.quarantine / name).glob("CT*")
        shutil.copyfile(whole, file)
        quarantine.release(name, site.spool, site.ledger)
        rounds(worker, until=all_settled(site))
        assert states(site, "instances") == {"passed": 1}


def test_a_dead_archive_does_not_hold_back_the_living_one(tmp_path):
    dead = {"name": "dead", "kind": "stow", "url": "http://127.0.0.1:1/rs/studies"}
    with (
        FakeDcm4chee() as archive,
        working(settings_for(tmp_path, destinations=[dead, archive_table(archive.url)])) as (site, worker),
    ):
        arrive(site.spool, instance(tmp_path))
        rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 1, "deferred": 1})
        assert states(site, "arrivals") == {"processing": 1}
        with site.ledger.reading() as look:
            assert reports.destination_row(look, "dead").down_since
            assert not reports.destination_row(look, "archive")


def test_a_paused_destination_gets_nothing_until_it_is_resumed(tmp_path):
    from pipeline.ledger import destination_states

    with working(settings_for(tmp_path)) as (site, worker):
        with site.ledger.transaction() as change:
            destination_states.change_row(change, "nowhere", paused=True)
        arrive(site.spool, instance(tmp_path))
        rounds(worker, until=lambda: states(site, "deliveries") == {"waiting": 1})
        worker.round()
        assert states(site, "deliveries") == {"waiting": 1}
        with site.ledger.transaction() as change:
            destination_states.change_row(change, "nowhere", paused=False)
        rounds(worker, until=all_settled(site))


def test_a_settled_arrival_whose_account_cannot_be_read_now_is_not_set_aside_for_that(tmp_path):
    with working(settings_for(tmp_path)) as (site, _):
        name = "1700000000000000000-modalities-7"  # The ledger does not know it: it was lost.
        (site.spool.settled / name / ACCOUNT).mkdir(parents=True)  # Reading it is an OSError, for every user.
        reconcile(site)
        assert (site.spool.settled / name).is_dir()
        assert states(site, "arrivals") == {}
        (site.spool.settled / name / ACCOUNT).rmdir()
        reconcile(site)
        assert (site.spool.quarantine / name).is_dir(), "there is none"
