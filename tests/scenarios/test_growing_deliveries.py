"""A study is sent while the rest of it is still being prepared: one delivery, and nothing of it twice or never."""

import pytest
from support.peers.fake_dcm4chee import FakeDcm4chee
from support.sites.line_site import RECEIVER, all_settled, arrive, instance, rounds, settings_for, states, working

from pipeline.dicomweb.http_client import HttpClient
from pipeline.ledger import deliveries, instance_rows, waiting_studies
from pipeline.line import deliver as delivering
from pipeline.line import prepare_study as preparing
from pipeline.line.consign import consign
from pipeline.line.prepare_study import prepare_study
from pipeline.worker.worker import Worker

UNHURRIED = {**RECEIVER, "quiet_seconds": 600}  # the test has the study prepared, and not the worker


@pytest.fixture
def one_by_one(monkeypatch):
    """Hand every instance on as soon as it is ready."""
    monkeypatch.setattr(preparing, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(preparing, "NEXT_SECONDS", 0.0)


def destinations(folder, archive: FakeDcm4chee) -> tuple[dict, ...]:
    return (
        {"name": "archive", "kind": "stow", "url": archive.url},
        {"name": "burner", "kind": "iso", "folder": str(folder / "discs")},
        {"name": "share", "kind": "folder", "folder": str(folder / "share")},
    )


def waiting(site):
    with site.ledger.reading() as connection:
        (study,) = waiting_studies.waiting(connection)
    return study


def the_site(tmp_path, archive, *, quiet: float):
    for name in ("discs", "share"):
        (tmp_path / name).mkdir(exist_ok=True)
    tables = destinations(tmp_path, archive)
    receiver = {**RECEIVER, "quiet_seconds": quiet, "to": [one["name"] for one in tables]}
    return settings_for(tmp_path, destinations=tables, receivers=[receiver])


def begun(site, worker, tmp_path, archive):
    """Have the first of four instances consigned and sent; return the parts that are still to come."""
    arrive(site.spool, *(instance(tmp_path, str(n), AccessionNumber="ACC1") for n in range(4)), age=5.0)
    rounds(worker, until=lambda: states(site, "instances") == {"received": 4})
    parts = prepare_study(waiting(site), site)
    consign([next(parts)], site)
    rounds(worker, until=lambda: len(archive.stored) == 1)
    return parts


def test_what_is_ready_is_sent_while_the_rest_is_prepared_and_delivered_is_said_at_the_end(tmp_path, one_by_one):
    with FakeDcm4chee() as archive, working(the_site(tmp_path, archive, quiet=600)) as (site, worker):
        parts = begun(site, worker, tmp_path, archive)
        assert states(site, "deliveries") == {"waiting": 3}
        assert list((tmp_path / "discs").iterdir()) == []  # a disc is made of all of a study
        assert (
            list((tmp_path / "share").iterdir()) == []
        )  # who takes files from there may take the part for the whole
        consign(parts, site)
        rounds(worker, until=all_settled(site))
        assert states(site, "deliveries") == {"delivered": 3}
        assert len(archive.stored) == 4
        assert len(archive.received) == 4  # none of them twice
        assert len(list((tmp_path / "discs").glob("*.iso"))) == 1


def test_what_is_added_during_an_attempt_is_sent_in_the_same_attempt(tmp_path, one_by_one, monkeypatch):
    claimed, claim, post = [], delivering._claimed, HttpClient.post

    def noted(connection, due, site):
        claimed.append(due.destination.name)
        return claim(connection, due, site)

    monkeypatch.setattr(delivering, "_claimed", noted)
    with FakeDcm4chee() as archive, working(the_site(tmp_path, archive, quiet=600)) as (site, worker):
        arrive(site.spool, *(instance(tmp_path, str(n), AccessionNumber="ACC1") for n in range(4)), age=5.0)
        rounds(worker, until=lambda: states(site, "instances") == {"received": 4})
        parts = prepare_study(waiting(site), site)

        def post_late(*about, **more):
            consign(parts, site)  # the rest is ready before the first has left
            return post(*about, **more)

        monkeypatch.setattr(HttpClient, "post", post_late)
        consign([next(parts)], site)
        rounds(worker, until=all_settled(site))
        assert states(site, "deliveries") == {"delivered": 3}
        assert len(archive.received) == 4  # none of them twice
    assert claimed.count("archive") == 1


def test_a_worker_that_dies_between_two_parts_leaves_nothing_behind(tmp_path, one_by_one):
    with FakeDcm4chee() as archive:
        with working(the_site(tmp_path, archive, quiet=600)) as (site, worker):
            begun(site, worker, tmp_path, archive)
        with working(the_site(tmp_path, archive, quiet=1)) as (site, _):
            rounds(Worker(site), until=all_settled(site))
            assert states(site, "deliveries") == {"delivered": 3}
            assert len(archive.stored) == 4
            assert len(list((tmp_path / "discs").glob("*.iso"))) == 1


def test_where_the_rest_was_taken_away_the_delivery_ends(tmp_path, one_by_one):
    with FakeDcm4chee() as archive, working(the_site(tmp_path, archive, quiet=600)) as (site, worker):
        begun(site, worker, tmp_path, archive)
        with site.ledger.transaction() as connection:
            for row in waiting_studies.instances_of(connection, "modalities", waiting(site).study_instance_uid):
                instance_rows.change_row(connection, row.id, {"state": "quarantined", "consigned": True})
        rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 3})


def test_an_archive_that_is_down_meanwhile_keeps_its_time(tmp_path, one_by_one):
    with FakeDcm4chee() as archive, working(the_site(tmp_path, archive, quiet=600)) as (site, worker):
        parts = begun(site, worker, tmp_path, archive)
        archive.stop()
        consign([next(parts)], site)
        rounds(worker, until=lambda: states(site, "deliveries").get("deferred") == 1)
        due_at = when_due(site)
        consign(parts, site)
        rounds(worker, until=lambda: states(site, "deliveries").get("delivered") == 2)  # the disc and the folder
        assert states(site, "deliveries") == {"deferred": 1, "delivered": 2}
        assert when_due(site) == due_at


def when_due(site) -> float | None:
    with site.ledger.reading() as connection:
        return deliveries.next_due(connection, "archive", 0.0)
