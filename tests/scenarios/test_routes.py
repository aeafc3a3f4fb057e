"""Routes on the line: who gets what, decided once, and a disc of the whole study whatever comes late."""

import json
import time
from dataclasses import replace

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid
from sqlalchemy import select
from support.peers.fake_dcm4chee import FakeDcm4chee
from support.sites.line_site import RECEIVER, all_settled, arrive, instance, rounds, settings_for, states, working
from support.sites.study_discs import discs

from pipeline import schedule
from pipeline.commands.explain_routes import explain_last
from pipeline.errors import Transient
from pipeline.ledger import destination_states, reports, waiting_studies
from pipeline.ledger.tables import delivery
from pipeline.ledger.tables import instance as instances
from pipeline.line import prepare_study as preparing
from pipeline.line import settle
from pipeline.line.consign import consign
from pipeline.line.prepare_study import prepare_study
from pipeline.model import InstanceCode
from pipeline.site.settings import Settings
from pipeline.worker.worker import Worker


def site(folder, *routes, to=("archive",), quiet=1, url="http://127.0.0.1:1/rs/studies") -> Settings:
    for name in ("discs", "share"):
        (folder / name).mkdir(exist_ok=True)
    destinations = [
        {"name": "archive", "kind": "folder", "folder": str(folder / "archive")},
        {"name": "share", "kind": "folder", "folder": str(folder / "share"), "encode": "none"},
        {"name": "burner", "kind": "iso", "folder": str(folder / "discs")},
        {"name": "stow", "kind": "stow", "url": url},
    ]
    (folder / "archive").mkdir(exist_ok=True)
    receiver = {**RECEIVER, "to": list(to), "quiet_seconds": quiet}
    return settings_for(folder, destinations=destinations, receivers=[receiver], routes=routes)


@pytest.fixture
def study(tmp_path):
    """Return a function that makes instances of one study, each of a modality."""
    about = {"StudyInstanceUID": generate_uid(), "AccessionNumber": "A1", "PatientID": "P1"}

    def made(*modalities: str, **more):
        return [
            instance(tmp_path, f"{modality}{n}-{generate_uid()}", Modality=modality, **about, **more)
            for n, modality in enumerate(modalities)
        ]

    return made


def files_in(folder) -> int:
    return sum(path.suffix == ".dcm" for path in folder.rglob("*") if path.is_file())


def test_each_instance_goes_its_own_way_and_a_route_says_how_it_is_encoded(tmp_path, study):
    settings = site(tmp_path, {"modality": "CT", "to": ["share"], "encode": "j2k"})
    with working(settings) as (it, worker):
        arrive(it.spool, *study("CT", "CT", "MR"))
        rounds(worker, until=all_settled(it))
        assert (files_in(tmp_path / "share"), files_in(tmp_path / "archive")) == (2, 1)
        with it.ledger.reading() as connection:
            rows = connection.execute(instances.select()).all()
        assert sorted((row.modality, row.state) for row in rows) == [
            ("CT", "encoded"),
            ("CT", "encoded"),
            ("MR", "passed"),
        ]


def test_what_no_route_matches_is_unclaimed_where_the_receiver_names_none_and_the_rest_goes(tmp_path, study):
    with working(site(tmp_path, {"modality": "CT", "to": ["share"]}, to=())) as (it, worker):
        name = arrive(it.spool, *study("CT", "MR"))
        rounds(worker, until=all_settled(it))
        assert files_in(tmp_path / "share") == 1
        account = json.loads((it.spool.settled / name / "account.json").read_text())
        unsent = [one for one in account["instances"] if one["modality"] == "MR"]
        assert [(one["reason"], one["code"]) for one in unsent] == [("unclaimed", "unclaimed")]
        with it.ledger.reading() as connection:
            assert reports.arrival_row(connection, name).reason == "partly unclaimed"


def test_an_arrival_of_which_nothing_goes_anywhere_is_unclaimed_as_a_whole(tmp_path, study):
    with working(site(tmp_path, {"modality": "CT", "to": ["share"]}, to=())) as (it, worker):
        name = arrive(it.spool, *study("MR", "MR"))
        rounds(worker, until=all_settled(it))
        with it.ledger.reading() as connection:
            assert reports.arrival_row(connection, name).reason == "unclaimed"


@pytest.mark.parametrize("first", [0.0, 60.0], ids=["in-parts", "in-one"])
def test_what_goes_nowhere_is_told_once_a_study(first, tmp_path, study, monkeypatch, caplog):
    monkeypatch.setattr(preparing, "FIRST_SECONDS", first)
    monkeypatch.setattr(preparing, "NEXT_SECONDS", first)
    with working(site(tmp_path, {"modality": "CT", "to": ["share"]}, to=())) as (it, worker):
        files = study("CT", "CT", "MR", "MR", "CT")
        arrive(it.spool, *files)
        rounds(worker, until=all_settled(it))
    said = [it for it in caplog.records if it.getMessage().startswith("unclaimed ")]
    assert [(record.levelname, record.getMessage()) for record in said] == [
        ("WARNING", f"unclaimed study={dcmread(files[0]).StudyInstanceUID} receiver=modalities instances=2")
    ]


@pytest.mark.programs
def test_a_disc_gets_what_came_before_the_first_instance_that_goes_there(tmp_path, study):
    with working(site(tmp_path, {"modality": "CT", "to": ["burner"]})) as (it, worker):
        arrive(it.spool, *study("MR", "MR"))
        rounds(worker, until=all_settled(it))
        assert discs(tmp_path / "discs") == []
        arrive(it.spool, *study("CT"))
        rounds(worker, until=all_settled(it))
        assert discs(tmp_path / "discs") == [(3, None)]
        arrive(it.spool, *study("MR"))  # late, and matches no route: the disc is of the study
        rounds(worker, until=all_settled(it))
        assert [number for number, _ in discs(tmp_path / "discs")] == [3, 4]
        assert files_in(tmp_path / "archive") == 3
        assert states(it, "deliveries") == {"delivered": 4}


def test_what_goes_to_a_disc_after_all_is_not_unclaimed_any_more(tmp_path, study):
    with working(site(tmp_path, {"modality": "CT", "to": ["burner"]}, to=())) as (it, worker):
        pause(it, paused=True)
        arrive(it.spool, *study("MR"))
        rounds(worker, until=all_settled(it))
        assert said_of(it, "MR") == ("unclaimed", InstanceCode.UNCLAIMED)
        arrive(it.spool, *study("CT"))
        rounds(worker, until=lambda: states(it, "deliveries") == {"waiting": 1})
        assert said_of(it, "MR") == (None, None)


def said_of(it, modality: str):
    with it.ledger.reading() as connection:
        wanted = select(instances.c.reason, instances.c.code).where(instances.c.modality == modality)
        return tuple(connection.execute(wanted).one())


@pytest.mark.programs
def test_no_disc_of_a_part_is_made_where_an_original_is_gone(tmp_path, study):
    with working(site(tmp_path, {"modality": "CT", "to": ["burner"]})) as (it, worker):
        name = arrive(it.spool, *study("MR"))
        rounds(worker, until=all_settled(it))
        settle.expire(it, time.time() + 8 * 86400)
        assert not (it.spool.settled / name).exists()
        arrive(it.spool, *study("CT"))
        rounds(worker, until=lambda: states(it, "deliveries").keys() & {"refused", "deferred"})
        assert discs(tmp_path / "discs") == []
        (row,) = [row for row in deliveries_of(it) if row.destination == "burner"]
        assert (row.state, "its original is no longer kept (keep_originals)" in row.reason) == ("refused", True)


def deliveries_of(it):
    with it.ledger.reading() as connection:
        return connection.execute(delivery.select()).all()


def pause(it, *, paused: bool) -> None:
    with it.ledger.transaction() as connection:
        destination_states.change_row(connection, "burner", paused=paused)


@pytest.mark.programs
def test_an_original_that_a_late_instance_needs_for_its_disc_is_not_deleted_meanwhile(
    tmp_path, study, monkeypatch
):
    with working(site(tmp_path, {"modality": "CT", "to": ["burner"]})) as (it, worker):
        name = arrive(it.spool, *study("MR"))
        rounds(worker, until=all_settled(it))
        pause(it, paused=True)

        def late(*given):
            arrive(it.spool, *study("CT"))
            rounds(worker, until=lambda: states(it, "deliveries").get("waiting"))
            return schedule.may_go(*given)

        monkeypatch.setattr(settle, "may_go", late)
        settle.expire(it, time.time() + 8 * 86400)
        assert (it.spool.settled / name).is_dir()
        pause(it, paused=False)
        rounds(worker, until=all_settled(it))
        assert discs(tmp_path / "discs") == [(2, None)]


def begun(tmp_path, study, monkeypatch, archive):
    """Have the first of three instances sent to the archive, then let the worker die."""
    monkeypatch.setattr(preparing, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(preparing, "NEXT_SECONDS", 0.0)
    first = site(tmp_path, {"modality": "CT", "to": ["stow"]}, quiet=600, url=archive.url)
    with working(first) as (it, worker):
        arrive(it.spool, *study("CT", "CT", "CT"), age=5.0)
        rounds(worker, until=lambda: states(it, "instances") == {"received": 3})
        with it.ledger.reading() as connection:
            (waiting,) = waiting_studies.waiting(connection)
        parts = prepare_study(waiting, it)  # As long as it is there, the study is this worker's.
        consign([next(parts)], it)
        rounds(worker, until=lambda: len(archive.stored) == 1)


@pytest.mark.parametrize("route", [{"modality": "CT", "to": ["share"]}, {"modality": "US", "to": ["share"]}])
def test_where_a_study_goes_is_decided_once_whatever_the_configuration_says_after_a_restart(
    tmp_path, study, monkeypatch, route
):
    with FakeDcm4chee() as archive:
        begun(tmp_path, study, monkeypatch, archive)
        with working(site(tmp_path, route, url=archive.url)) as (it, _):
            rounds(Worker(it), until=all_settled(it))
            assert len(archive.stored) == 3
            assert len(archive.received) == 3  # none of them twice
            assert files_in(tmp_path / "share") == files_in(tmp_path / "archive") == 0
            arrive(it.spool, *study("CT"))  # what comes later goes where the new configuration says
            rounds(Worker(it), until=all_settled(it))
            assert len(archive.stored) == 3


def test_what_a_release_without_routes_has_begun_to_send_goes_on_as_it_did(tmp_path, study, monkeypatch):
    with FakeDcm4chee() as archive:
        begun(tmp_path, study, monkeypatch, archive)
        with working(site(tmp_path, {"modality": "CT", "to": ["share"]}, url=archive.url)) as (it, _):
            with it.ledger.transaction() as connection:
                connection.execute(instances.update().values(routed_to=None))  # as the migration leaves them
            rounds(Worker(it), until=all_settled(it))
            assert len(archive.stored) == len(archive.received) == 3
            assert files_in(tmp_path / "share") == files_in(tmp_path / "archive") == 0
            assert states(it, "deliveries") == {"delivered": 1}


def consign_all_but_the_last(it):
    """Consign what waits of the study in one part; its last instance cannot be prepared now."""
    with it.ledger.reading() as connection:
        (waiting,) = waiting_studies.waiting(connection)
    parts = list(prepare_study(waiting, it))
    outcomes = {key: outcome for part in parts for key, outcome in part.outcomes.items()}
    outcomes[max(outcomes)] = Transient("no room on the disk")
    with pytest.raises(Transient):
        consign([replace(parts[0], outcomes=outcomes, is_last=True)], it)


def test_what_is_put_off_goes_where_the_rest_of_its_study_went(tmp_path, study):
    with FakeDcm4chee() as archive:
        first = site(tmp_path, {"modality": "CT", "to": ["stow"]}, quiet=600, url=archive.url)
        with working(first) as (it, worker):
            arrive(it.spool, *study("CT", "CT"), age=5.0)
            rounds(worker, until=lambda: states(it, "instances") == {"received": 2})
            consign_all_but_the_last(it)
            assert states(it, "instances") == {"received": 1, "passed": 1}
        with working(site(tmp_path, {"modality": "CT", "to": ["share"]}, url=archive.url)) as (it, _):
            rounds(Worker(it), until=all_settled(it))
            assert len(archive.stored) == 2
            assert files_in(tmp_path / "share") == 0


def test_after_a_crash_a_delivery_ends_that_gets_nothing_more_of_the_study(tmp_path, study, monkeypatch):
    monkeypatch.setattr(preparing, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(preparing, "NEXT_SECONDS", 0.0)
    with working(site(tmp_path, {"modality": "MG", "to": ["archive", "share"]}, quiet=600)) as (it, worker):
        arrive(it.spool, *study("MG", "CT", "CT"), age=5.0)
        rounds(worker, until=lambda: states(it, "instances") == {"received": 3})
        with it.ledger.reading() as connection:
            (waiting,) = waiting_studies.waiting(connection)
        parts = prepare_study(waiting, it)  # As long as it is there, the study is this worker's.
        consign([next(parts)], it)
        consign_all_but_the_last(it)
        assert {row.destination: row.growing for row in deliveries_of(it)} == {"archive": False, "share": False}


def test_explain_tells_what_a_new_configuration_would_have_changed(tmp_path, study):
    with working(site(tmp_path)) as (it, worker):
        arrive(it.spool, *study("CT", "MR"))
        rounds(worker, until=all_settled(it))
    told = explain_last(site(tmp_path, {"modality": "CT", "to": ["share", "archive"], "encode": "j2k"}), 10)
    assert told["destinations"] == [
        {"destination": "archive", "went": 2, "would_go": 2},
        {"destination": "share", "went": 0, "would_go": 1},
    ]
    (one,) = told["studies"]
    assert told["changed"] == 1
    assert one["would_go"] == [
        {"destination": "archive", "encode": "j2k", "instances": 1, "by": ["receiver modalities", "route 1"]},
        {"destination": "archive", "encode": "none", "instances": 1, "by": ["receiver modalities", "route 1"]},
        {"destination": "share", "encode": "j2k", "instances": 1, "by": ["route 1"]},
    ]
    assert explain_last(site(tmp_path), 10)["changed"] == 0
