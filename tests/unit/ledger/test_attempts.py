"""Every attempt of a delivery is a row: when, on which machine, and what was answered."""

import platform
import sqlite3

import pytest
from sqlalchemy import insert, select, update
from support.sites.line_site import RECEIVER, arrive, instance, rounds, working

from pipeline.ledger import accounts, attempts, deliveries, growing_deliveries, reports, rerouting
from pipeline.ledger.tables import arrival, attempt, delivery, receipt
from pipeline.ledger.tables import instance as instances
from pipeline.model import DeliveryState
from pipeline.operate.trace import trace
from pipeline.site.settings import Settings

STUDY = "1.2.3"


def settings_of(folder):
    (folder / "out").mkdir()
    keeper = {"name": "keeper", "kind": "folder", "folder": str(folder / "out"), "encode": "none"}
    dead = {"name": "dead", "kind": "stow", "url": "http://127.0.0.1:1/rs/studies", "encode": "none"}
    table = {
        "folder": folder,
        "site": {"spool": str(folder / "spool"), "workers": 1},
        "receiver": [{**RECEIVER, "to": ["keeper", "dead"]}],
        "destination": [keeper, dead],
    }
    return Settings.model_validate(table)


def attempts_of(site):
    with site.ledger.reading() as connection:
        return attempts.of_study(connection, STUDY, 1000)


def number_of(site, destination):
    with site.ledger.reading() as connection:
        return connection.scalar(select(delivery.c.id).where(delivery.c.destination == destination))


@pytest.fixture
def site(tmp_path):
    """A site that delivered a study to one destination, and tried once to deliver it to another."""
    with working(settings_of(tmp_path)) as (site, worker):
        arrive(site.spool, instance(tmp_path, "a", StudyInstanceUID=STUDY))

        def are_tried():
            with site.ledger.reading() as connection:
                counts = reports.counts(connection)["deliveries"]
            return counts["delivered"] == counts["deferred"] == 1

        rounds(worker, until=are_tried)
        yield site


def test_an_attempt_says_when_where_and_what_was_answered(site):
    kept, failed = sorted(attempts_of(site), key=lambda tried: tried.destination, reverse=True)
    assert (kept.destination, kept.number, kept.state, kept.node) == ("keeper", 1, "delivered", platform.node())
    assert (kept.instances, kept.arrived, kept.verified, kept.reason) == (1, 1, 1, None)
    assert kept.ended_at >= kept.began_at
    assert (failed.destination, failed.state, failed.arrived) == ("dead", "deferred", 0)
    assert "127.0.0.1:1" in failed.reason


def test_the_next_attempt_is_a_row_of_its_own_and_one_that_was_interrupted_says_so(site):
    number = number_of(site, "dead")
    with site.ledger.transaction() as connection:
        deliveries.retry(connection, [number], 10.0, release_guard=False)
        assert deliveries.claim(connection, number, 20.0, site.claimant, slots=9) is not None
    assert [tried.ended_at for tried in attempts_of(site) if tried.number == 2] == [None]
    with site.ledger.transaction() as connection:
        deliveries.resume(connection, [number], 30.0)
    second = next(tried for tried in attempts_of(site) if tried.number == 2)
    assert (second.state, second.reason) == ("waiting", "interrupted while sending")
    assert second.ended_at is not None


def test_a_delivery_that_goes_on_with_what_was_added_is_one_attempt(site):
    number = number_of(site, "dead")
    with site.ledger.transaction() as connection:
        connection.execute(update(delivery).where(delivery.c.id == number).values(growing=True, due_at=0))
        deliveries.claim(connection, number, 20.0, site.claimant, slots=9)
        assert growing_deliveries.goes_on(connection, number, frozenset(), 25.0)
        deliveries.claim(connection, number, 30.0, site.claimant, slots=9)
        deliveries.finish(connection, number, DeliveryState.DEFERRED, "x", finished_at=40.0)
    assert [(t.began_at, t.ended_at) for t in attempts_of(site) if t.number == 2] == [(20.0, 40.0)]


def test_of_many_attempts_the_first_and_the_newest_are_kept(site):
    number = number_of(site, "dead")
    with site.ledger.transaction() as connection:
        for count in range(2, 151):
            attempts.begin(connection, number, count, "node", float(count))
            attempts.end(connection, number, DeliveryState.DEFERRED, None, count + 0.5)
    kept = sorted(tried.number for tried in attempts_of(site) if tried.destination == "dead")
    assert kept == [1, *range(52, 151)]
    assert len(kept) == attempts.MOST


def test_the_account_of_an_arrival_brings_its_attempts_back(site):
    before = attempts_of(site)
    with site.ledger.reading() as connection:
        name = connection.scalar(select(arrival.c.name))
        account = accounts.account_of(connection, name, 1.0)
    with site.ledger.transaction() as connection:
        connection.execute(receipt.delete())
        connection.execute(delivery.delete())
        connection.execute(instances.delete())
        connection.execute(arrival.delete())
        assert connection.scalar(select(attempt.c.number)) is None
        accounts.restore(connection, account)
    again = attempts_of(site)
    assert [tried._replace(delivery=0) for tried in again] == [tried._replace(delivery=0) for tried in before]


def test_an_arrival_of_more_deliveries_than_a_statement_has_parameters_has_an_account(site):
    most = 20  # SQLite takes 32766, PostgreSQL 65535.
    with site.ledger.transaction() as connection:
        name = connection.scalar(select(arrival.c.name))
        first = connection.execute(select(delivery)).first()._asdict()
        pinned = connection.execute(select(receipt)).first()._asdict()
        numbers = range(1000, 1000 + 2 * most)
        connection.execute(insert(delivery), [{**first, "id": number} for number in numbers])
        connection.execute(insert(receipt), [{**pinned, "delivery": number} for number in numbers])
    with site.ledger.reading() as connection:
        connection.connection.driver_connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, most)
        account = accounts.account_of(connection, name, 1.0)
    assert {tried["delivery"] for tried in account["attempts"]} == {1, 2}


def test_a_delivery_that_a_person_gives_up_between_two_parts_of_its_study_is_not_being_attempted_any_more(site):
    number = number_of(site, "dead")
    with site.ledger.transaction() as connection:
        connection.execute(update(delivery).where(delivery.c.id == number).values(growing=True, due_at=0))
        deliveries.claim(connection, number, 20.0, site.claimant, slots=9)
        assert growing_deliveries.goes_on(connection, number, frozenset(), 25.0)
        rerouting.close(connection, [number], rerouting.GIVEN_UP, "discarded by a person: x", 30.0)
    (last,) = [tried for tried in attempts_of(site) if tried.number == 2]
    assert (last.state, last.ended_at, last.reason) == ("refused", 30.0, "discarded by a person: x")


def test_trace_lists_the_attempts(site):
    said = trace(STUDY, site.ledger)["attempts"]
    assert {(tried["destination"], tried["state"]) for tried in said} == {
        ("keeper", "delivered"),
        ("dead", "deferred"),
    }
