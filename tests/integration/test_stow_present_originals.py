"""What becomes of the original of what an archive holds although we never sent it."""

import time
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import HTJ2KLossless
from support.peers.archived_copies import content, held
from support.peers.fake_dcm4chee import FakeDcm4chee
from support.peers.stow_outcomes import stow
from support.sites.line_site import all_settled, arrive, instance, rounds, settings_for, states, working
from support.studies.discs import killed_at
from support.studies.small_studies import make_study

from pipeline.commands import terminal
from pipeline.dicom.archived_copy import compared
from pipeline.errors import Transient, Usage
from pipeline.ledger import deliveries
from pipeline.line import settle
from pipeline.line.reconcile import reconcile
from pipeline.operate.accept import accept
from pipeline.operate.status import status
from pipeline.operate.trace import trace
from pipeline.processes.process_pool import PoolProcessDied


@pytest.fixture
def archive():
    with FakeDcm4chee() as running:
        yield running


def archived_by_another(archive: FakeDcm4chee, file: Path, theirs: bytes) -> str:
    header = pydicom.dcmread(file, stop_before_pixels=True)
    archive.add(header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID, theirs)
    return str(header.StudyInstanceUID)


def table(archive, **keys) -> dict[str, object]:
    return {"name": "archive", "kind": "stow", "url": archive.url, **keys}


def kept(site, name: str) -> bool:
    settle.expire(site, time.time() + 30 * 86400)
    return (site.spool.settled / name).is_dir()


def receipts_of(site, study: str) -> list[dict]:
    (found,) = trace(study, site.ledger)["studies"]
    return [answer for one in found["instances"] for answer in one["deliveries"]]


@pytest.mark.parametrize("encode", ["none", "j2k"])
def test_the_original_of_what_is_the_same_goes_in_its_time(archive, tmp_path, encode):
    file = instance(tmp_path)
    study = archived_by_another(archive, file, file.read_bytes())
    with working(settings_for(tmp_path, destinations=[table(archive, encode=encode)])) as (site, worker):
        name = arrive(site.spool, file)
        rounds(worker, until=all_settled(site))
        (answer,) = receipts_of(site, study)
        assert (answer["state"], answer["verified"]) == ("present", True)
        assert not kept(site, name)
        assert list(site.spool.run.glob("copy-*")) == []


def test_the_original_of_what_is_something_else_stays(archive, tmp_path):
    file = instance(tmp_path)
    archived_by_another(archive, file, content(file, PixelData=bytes(128 * 128 * 2)))
    with working(settings_for(tmp_path, destinations=[table(archive)])) as (site, worker):
        name = arrive(site.spool, file)
        rounds(worker, until=all_settled(site))
        assert states(site, "deliveries") == {"refused": 1}
        assert kept(site, name)


def test_the_original_of_what_could_not_be_compared_stays_until_a_person_accepts(archive, tmp_path, caplog):
    caplog.set_level("INFO", "storestow")
    archive.wado_status = 404
    file = instance(tmp_path)
    study = archived_by_another(archive, file, file.read_bytes())
    with working(settings_for(tmp_path, destinations=[table(archive)])) as (site, worker):
        name = arrive(site.spool, file)
        rounds(worker, until=all_settled(site))
        assert states(site, "deliveries") == {"delivered": 1}
        (answer,) = receipts_of(site, study)
        assert (answer["state"], answer["verified"]) == ("present", False)
        assert kept(site, name)
        assert '"verified": false' in (site.spool.settled / name / "account.json").read_text()
        with pytest.raises(Usage, match="3 to 200"):
            accept(site.spool, site.ledger, study, None, "ok")
        with pytest.raises(Usage, match="without having been compared"):
            accept(site.spool, site.ledger, study, "elsewhere", "looked at both")
        numbers, count = accept(site.spool, site.ledger, study, "archive", "looked at both, Dr. Example")
        assert (len(numbers), count) == (1, 1)
        account = (site.spool.settled / name / "account.json").read_text()
        assert "looked at both, Dr. Example" in account
        assert "Dr. Example" not in caplog.text
        (answer,) = receipts_of(site, study)
        assert answer["verified"] is True
        assert not kept(site, name)
        with pytest.raises(Usage):
            accept(site.spool, site.ledger, study, None, "once more")


def test_a_person_may_accept_it_although_another_instance_was_refused_or_waits(archive, tmp_path):
    archive.wado_status = 404
    files = [instance(tmp_path, str(n), StudyInstanceUID="1.2.826.0.1.3680043.9.9999.3") for n in range(3)]
    study = archived_by_another(archive, files[0], files[0].read_bytes())
    refused, waits = (str(pydicom.dcmread(file).SOPInstanceUID) for file in files[1:])
    archive.failing = {refused: 0xC409, waits: 0xA77A}
    with working(settings_for(tmp_path, destinations=[table(archive)])) as (site, worker):
        arrive(site.spool, *files)
        rounds(worker, until=lambda: states(site, "deliveries") == {"deferred": 1})
        assert accept(site.spool, site.ledger, study, None, "looked at both") == ([1], 1)
        archive.failing = {refused: 0xC409}
        with site.ledger.transaction() as change:
            deliveries.make_due(change, "archive", time.time())
        rounds(worker, until=all_settled(site))
        assert states(site, "deliveries") == {"refused": 1}
        answers = sorted((answer["state"], answer["verified"]) for answer in receipts_of(site, study))
        assert answers == [("present", True), ("refused", False), ("stored", True)]


def test_what_was_not_compared_survives_a_lost_ledger(archive, tmp_path):
    archive.wado_status = 404
    file = instance(tmp_path)
    study = archived_by_another(archive, file, file.read_bytes())
    settings = settings_for(tmp_path, destinations=[table(archive)])
    with working(settings) as (site, worker):
        name = arrive(site.spool, file)
        rounds(worker, until=all_settled(site))
    for left in (tmp_path / "spool").glob("ledger.sqlite3*"):
        left.unlink()
    with working(settings) as (site, _):
        reconcile(site)
        assert kept(site, name)
        accept(site.spool, site.ledger, study, None, "looked at both")
        assert not kept(site, name)


def test_an_account_that_a_crash_kept_from_being_told_of_it_is_told_at_the_next_start(
    archive, tmp_path, monkeypatch
):
    archive.wado_status = 404
    file = instance(tmp_path)
    study = archived_by_another(archive, file, file.read_bytes())
    with working(settings_for(tmp_path, destinations=[table(archive)])) as (site, worker):
        name = arrive(site.spool, file)
        rounds(worker, until=all_settled(site))
        with monkeypatch.context() as patch:
            patch.setattr("pipeline.operate.accept.renew_account", lambda *_: None)
            accept(site.spool, site.ledger, study, None, "looked at both")
        account = site.spool.settled / name / "account.json"
        assert "looked at both" not in account.read_text()
        reconcile(site)
        assert "looked at both" in account.read_text()


@pytest.mark.parametrize("died", [True, False])
def test_a_copy_that_kills_whoever_compares_it_is_not_verified(archive, tmp_path, monkeypatch, died):
    file = instance(tmp_path)
    study = archived_by_another(archive, file, file.read_bytes())
    with working(settings_for(tmp_path, destinations=[table(archive)])) as (site, worker):
        each = site.pool.each

        def answered(function, tasks, *limits):
            if function is not compared:
                return each(function, tasks, *limits)
            return [(task, PoolProcessDied("SIGSEGV") if died else Transient("disk full")) for task in tasks]

        monkeypatch.setattr(site.pool, "each", answered)
        arrive(site.spool, file)
        rounds(worker, until=lambda: states(site, "deliveries") == {"delivered" if died else "deferred": 1})
        (answer,) = receipts_of(site, study)
        assert (answer["state"], answer["verified"]) == ("present" if died else "pending", False)


def test_a_copy_to_be_compared_that_a_crash_left_is_deleted_at_the_next_start(archive, tmp_path):
    with working(settings_for(tmp_path, destinations=[table(archive)])) as (site, _):
        (site.spool.run / "copy-left").mkdir()
        reconcile(site)
        assert not (site.spool.run / "copy-left").exists()
        with site.ledger.reading() as look:
            assert deliveries.sending(look) == set()


def test_status_names_what_waits_for_a_person_to_accept_it(archive, tmp_path, capsys):
    archive.wado_status = 404
    file = instance(tmp_path)
    study = archived_by_another(archive, file, file.read_bytes())
    settings = settings_for(tmp_path, destinations=[table(archive)])
    with working(settings) as (site, worker):
        arrive(site.spool, file)
        rounds(worker, until=all_settled(site))
        answer = status(settings, site.ledger)
    assert answer["not_compared"] == [{"study_instance_uid": study, "destination": "archive", "instances": 1}]
    terminal.show_status(answer)
    assert f"storestow accept {study} --destination archive --reason" in capsys.readouterr().out


def noted(archive: FakeDcm4chee, **keys) -> str:
    destination = stow(archive.url, **keys)
    assert list(destination.problems()) == []
    [note] = destination.notes()
    return note


def test_check_says_what_becomes_of_what_the_archive_holds_already(archive, tmp_path):
    assert "lists nothing yet" in noted(archive)
    [item] = make_study(tmp_path, 1)
    held(archive, item, item.path.read_bytes())
    assert noted(archive) == "what it holds already is compared with what we hold, by WADO-RS"
    archive.wado_status = 404
    assert "`storestow accept`" in noted(archive)
    assert "HTTP 404" in noted(archive)
    archive.wado_status = 503
    assert "is not known" in noted(archive)
    assert "believe" in noted(archive, present="believe")
    [note] = stow(archive.url_of("{calling_aet}")).notes()
    assert "depends on who sends" in note


def test_check_says_whether_the_archive_knows_the_encoding_that_is_asked_for(archive, tmp_path):
    def said(url: str = "") -> str:
        [note] = (n for n in stow(url or archive.url, encode="htj2k").notes() if 'encode = "htj2k"' in n)
        return note

    assert "lists nothing yet that could be asked for in it" in said()
    [plain] = make_study(tmp_path, 1)
    held(archive, plain, plain.path.read_bytes())
    assert "is not known, so look at one study" in said()
    assert "does not give the instance asked for back in it" in said()
    encoded = pydicom.dcmread(plain.path)
    encoded.file_meta.TransferSyntaxUID = HTJ2KLossless
    encoded.save_as(tmp_path / "encoded.dcm")
    held(archive, plain, (tmp_path / "encoded.dcm").read_bytes())
    assert "it gives instances back in High-Throughput JPEG 2000" in said()
    archive.wado_status = 503
    assert "is not known" in said()
    assert "depends on who sends" in said(archive.url_of("{calling_aet}"))


@pytest.mark.parametrize("point", ["accepting", "accepted"])
def test_accept_killed_in_the_middle_is_done_or_can_be_asked_for_again(point, archive, tmp_path):
    archive.wado_status = 404
    file = instance(tmp_path)
    study = archived_by_another(archive, file, file.read_bytes())
    with working(settings_for(tmp_path, destinations=[table(archive)])) as (site, worker):
        name = arrive(site.spool, file)
        rounds(worker, until=all_settled(site))
        with killed_at(point):
            accept(site.spool, site.ledger, study, None, "looked at both")
        if point == "accepting":
            assert kept(site, name)
            accept(site.spool, site.ledger, study, None, "looked at both")
        reconcile(site)
        assert "looked at both" in (site.spool.settled / name / "account.json").read_text()
        assert not kept(site, name)
