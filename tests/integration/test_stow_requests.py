"""What a modality sends again is a request: an archive that no longer has it gets it back, once a day."""

import json
import shutil
import time
from pathlib import Path

import pydicom
import pytest
import requests as http
from support.machine.dicom_programs import orthanc
from support.peers.fake_dcm4chee import Answer, FakeDcm4chee
from support.sites.line_site import RECEIVER, all_settled, arrive, instance, rounds, settings_for, states, working

from pipeline.ledger import redeliveries
from pipeline.ledger.tables import delivery, receipt
from pipeline.line import settle
from pipeline.line.delivery_scheduler import DeliveryScheduler
from pipeline.operate.status import status
from pipeline.operate.trace import trace

STUDY = "1.2.826.0.1.3680043.9.9999.2"


@pytest.fixture
def archive():
    with FakeDcm4chee() as running:
        yield running


@pytest.fixture
def files(tmp_path):
    return [instance(tmp_path, str(n), StudyInstanceUID=STUDY, ReferringPhysicianName="") for n in range(6)]


def table(url: str, **keys) -> dict:
    return {"name": "archive", "kind": "stow", "url": url, "encode": "j2k", **keys}


def lose(archive: FakeDcm4chee, *files: Path) -> None:
    """Let the archive have never heard of these."""
    uids = {str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in files}
    with archive.lock:
        archive.keys = {key for key in archive.keys if key[2] not in uids}
        archive.stored = {uid: content for uid, content in archive.stored.items() if uid not in uids}


def delivered(site, worker, *files: Path, seconds_ago: int = 0) -> str:
    """Have files arrive, admitted now or a while ago, and worked on to the end; return the arrival's name."""
    name = arrive(site.spool, *files)
    if seconds_ago:
        moment, _, rest = name.partition("-")
        admitted = site.spool.arrivals / name
        name = admitted.rename(admitted.with_name(f"{int(moment) - seconds_ago * 10**9}-{rest}")).name
    rounds(worker, until=all_settled(site))
    return name


def instances_of(site) -> list[dict]:
    return [one for study in trace(STUDY, site.ledger)["studies"] for one in study["instances"]]


def a_day_later(site) -> None:
    """Move what the ledger remembers of answers and attempts a day back."""
    with site.ledger.transaction() as change:
        change.execute(receipt.update().values(at=receipt.c.at - redeliveries.ONCE_IN - 1))
        change.execute(delivery.update().values(due_at=0.0))


def test_what_is_still_there_is_not_sent_and_nothing_is_left_of_the_question(archive, tmp_path, files, caplog):
    caplog.set_level("INFO", "storestow")
    with working(settings_for(tmp_path, destinations=[table(archive.url)])) as (site, worker):
        delivered(site, worker, *files)
        delivered(site, worker, *files)
        assert states(site, "deliveries") == {"delivered": 1}
        assert states(site, "instances") == {"encoded": 6, "duplicate": 6}
    assert len(archive.received) == 6
    assert "asked-again study=" in caplog.text
    assert caplog.text.count(" delivered study=") == 1


def test_what_the_archive_lost_is_sent_again_with_the_same_bytes(archive, tmp_path, files):
    with working(settings_for(tmp_path, destinations=[table(archive.url)])) as (site, worker):
        delivered(site, worker, *files)
        first = dict(archive.received)
        lose(archive, *files[:2])
        name = delivered(site, worker, *files)
        assert states(site, "deliveries") == {"delivered": 2}
        assert len(archive.stored) == 6
        assert archive.received[6:] == [(uid, first[uid]) for uid, _ in archive.received[6:]]
        assert len(archive.received) == 8
        sent = [one for one in instances_of(site) if len(one["deliveries"]) == 2]
        assert len(sent) == 2
        assert all(len({answer["sent_sha256"] for answer in one["deliveries"]}) == 1 for one in sent)
        settle.expire(site, time.time() + 30 * 86400)
        assert not (site.spool.settled / name).exists()


def test_what_arrived_beside_a_refused_instance_comes_back_too(archive, tmp_path, files):
    with working(settings_for(tmp_path, destinations=[table(archive.url)])) as (site, worker):
        bad = str(pydicom.dcmread(files[0]).SOPInstanceUID)
        archive.failing = {bad: 0xC409}
        delivered(site, worker, *files)
        assert states(site, "deliveries") == {"refused": 1}
        lose(archive, *files)
        archive.failing = {}
        delivered(site, worker, *files)
        assert states(site, "deliveries") == {"refused": 1, "delivered": 1}
        assert len(archive.stored) == 5
        assert bad not in archive.stored  # it was refused: that is for a person to `retry`


def test_where_the_original_has_aged_out_the_duplicate_is_sent_and_both_are_named(archive, tmp_path, files):
    with working(settings_for(tmp_path, destinations=[table(archive.url)])) as (site, worker):
        delivered(site, worker, files[0], seconds_ago=2)  # a stamp has whole seconds
        ((uid, first),) = archive.received
        settle.expire(site, time.time() + 30 * 86400)
        lose(archive, files[0])
        name = delivered(site, worker, files[0])
        assert states(site, "deliveries") == {"delivered": 2}
        assert states(site, "instances") == {"encoded": 1, "duplicate": 1}
        (_, second) = archive.received[1]
        assert set(archive.stored) == {uid}
        assert second != first  # it is stamped with its own moment of admission
        account = json.loads((site.spool.settled / name / "account.json").read_bytes())
        (duplicate,) = account["instances"]
        assert first in duplicate["reason"]
        assert second in duplicate["reason"]
        assert duplicate["deliveries"][0]["receipt"]["sha256"] == second
        assert duplicate["deliveries"][0]["receipt"]["verified"] is True


def test_where_the_original_gives_other_bytes_by_now_the_duplicate_is_sent(archive, tmp_path, files):
    destinations = [table(archive.url)]
    with working(settings_for(tmp_path, destinations=destinations)) as (site, worker):
        delivered(site, worker, files[0])
    lose(archive, files[0])
    with working(settings_for(tmp_path, destinations=destinations, default_coercions="always")) as (site, worker):
        delivered(site, worker, files[0])
        assert states(site, "deliveries") == {"delivered": 2}
        (_, duplicate) = instances_of(site)
        assert "no longer gives the same bytes" in duplicate["reason"]
    assert len(archive.stored) == 1


def test_a_duplicate_that_cannot_be_made_ready_is_refused_with_both_reasons(archive, tmp_path, files, monkeypatch):
    with working(settings_for(tmp_path, destinations=[table(archive.url)])) as (site, worker):
        name = delivered(site, worker, files[0])
        settle.expire(site, time.time() + 30 * 86400)
        assert not (site.spool.settled / name).exists()
        lose(archive, files[0])
        with monkeypatch.context() as patch:
            patch.setattr(DeliveryScheduler, "_fill_slots", lambda *_: None)
            second = arrive(site.spool, files[0])
            rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 1, "waiting": 1})
        (file,) = (path for path in (site.spool.arrivals / second).iterdir() if path.suffix != ".json")
        file.write_bytes(file.read_bytes()[:400])
        rounds(worker, until=all_settled(site))
        assert states(site, "deliveries") == {"delivered": 1, "refused": 1}
        (refused,) = status(settings_for(tmp_path), site.ledger)["attention"]
        assert refused["state"] == "refused"
        settle.expire(site, time.time() + 30 * 86400)
        assert (site.spool.settled / second).exists(), "it is the only copy there is"


def test_what_was_deleted_in_the_archive_ends_as_that_and_nobody_is_alarmed(archive, tmp_path, files, caplog):
    caplog.set_level("INFO", "storestow")
    settings = settings_for(tmp_path, destinations=[table(archive.url)])
    with working(settings) as (site, worker):
        first = delivered(site, worker, *files)
        lose(archive, *files)
        archive.failing = dict.fromkeys((uid for uid, _ in archive.received), 0xA771)
        second = delivered(site, worker, *files)
        assert states(site, "deliveries") == {"delivered": 1, "refused": 1}
        answers = [answer for one in instances_of(site) for answer in one["deliveries"]]
        assert {answer["message"] for answer in answers if answer["state"] == "refused"} == {
            "deleted in the archive"
        }
        assert "refused study=" in caplog.text
        assert not [record for record in caplog.records if record.levelname == "ERROR"]
        assert status(settings, site.ledger)["attention"] == []
        settle.expire(site, time.time() + 30 * 86400)
        assert not (site.spool.settled / first).exists()
        assert not (site.spool.settled / second).exists()


def test_an_instance_is_sent_again_once_a_day_at_most(archive, tmp_path, files):
    settings = settings_for(tmp_path, destinations=[table(archive.url)])
    with working(settings) as (site, worker):
        delivered(site, worker, files[0])
        lose(archive, files[0])
        delivered(site, worker, files[0])
        assert len(archive.received) == 2
        lose(archive, files[0])
        arrive(site.spool, files[0])
        arrive(site.spool, files[0])
        rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 2, "deferred": 1})
        assert len(archive.received) == 2
        (waiting,) = status(settings, site.ledger)["attention"]
        assert "less than a day ago" in waiting["reason"]
        a_day_later(site)
        rounds(worker, until=all_settled(site))
        assert states(site, "deliveries") == {"delivered": 3}
        assert len(archive.received) == 3


def test_what_is_reported_as_stored_and_never_listed_is_not_sent_again_and_again(archive, tmp_path, files):
    with working(settings_for(tmp_path, destinations=[table(archive.url)])) as (site, worker):
        delivered(site, worker, files[0])
        ((uid, _),) = archive.received
        archive.hidden = {uid}
        arrive(site.spool, files[0])
        rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 1, "deferred": 1})
        for _ in range(3):
            with site.ledger.transaction() as change:
                change.execute(delivery.update().values(due_at=0.0))
            rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 1, "deferred": 1})
        assert len(archive.received) == 2
        archive.hidden = set()
        with site.ledger.transaction() as change:
            change.execute(delivery.update().values(due_at=0.0))
        rounds(worker, until=all_settled(site))
        assert len(archive.received) == 2


def test_an_archive_that_does_not_answer_is_asked_later_and_the_duplicate_waits(archive, tmp_path, files):
    with working(settings_for(tmp_path, destinations=[table(archive.url)])) as (site, worker):
        delivered(site, worker, *files)
        lose(archive, *files)
        archive.every_query = Answer(503)
        second = arrive(site.spool, *files)
        rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 1, "deferred": 1})
        worker.round()
        assert (site.spool.arrivals / second).exists()
        archive.every_query = None
        rounds(worker, until=all_settled(site), seconds=60)
        assert len(archive.stored) == 6
        assert len(archive.received) == 12


def test_what_has_not_been_delivered_yet_is_no_request(archive, tmp_path, files):
    archive.every_query = Answer(503)
    with working(settings_for(tmp_path, destinations=[table(archive.url)])) as (site, worker):
        arrive(site.spool, files[0])
        rounds(worker, until=lambda: states(site, "deliveries") == {"deferred": 1})
        arrive(site.spool, files[0])
        rounds(worker, until=lambda: states(site, "instances") == {"encoded": 1, "duplicate": 1})
        assert states(site, "deliveries") == {"deferred": 1}


def test_only_destinations_that_can_be_asked_are_asked(archive, tmp_path, files):
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    folder = {"name": "shelf", "kind": "folder", "folder": str(shelf)}
    with working(settings_for(tmp_path, destinations=[table(archive.url), folder])) as (site, worker):
        delivered(site, worker, *files)
        lose(archive, *files)
        shutil.rmtree(shelf)
        shelf.mkdir()
        delivered(site, worker, *files)
        assert states(site, "deliveries") == {"delivered": 3}
    assert len(archive.stored) == 6
    assert list(shelf.iterdir()) == []


def test_a_receiver_that_does_not_coerce_is_heard_too(archive, tmp_path, files):
    receiver = {**RECEIVER, "coerce": False, "to": ["archive"]}
    settings = settings_for(tmp_path, destinations=[table(archive.url)], receivers=[receiver])
    with working(settings) as (site, worker):
        delivered(site, worker, *files)
        lose(archive, *files)
        delivered(site, worker, *files)
    assert len(archive.stored) == 6


@pytest.mark.programs
def test_a_study_deleted_at_a_real_archive_comes_back(tmp_path, files):
    with (
        orthanc(tmp_path / "orthanc") as running,
        working(settings_for(tmp_path, destinations=[table(running.studies, encode="none")])) as (site, worker),
    ):
        delivered(site, worker, *files)
        before = running.download_all()
        (study,) = http.get(f"{running.rest}/studies", timeout=30).json()
        http.delete(f"{running.rest}/studies/{study}", timeout=30).raise_for_status()
        assert running.instances() == {}
        delivered(site, worker, *files)
        assert running.download_all() == before
        assert states(site, "deliveries") == {"delivered": 2}
