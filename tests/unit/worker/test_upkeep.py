"""The ledger forgets what is long over, never what is needed, and the archive of accounts remembers it."""

import json
import time

import pytest
from sqlalchemy import func, insert, select
from support.sites.line_site import all_settled, arrive, instance, rounds, settings_for, working
from support.sites.placed_orders import look, order, settings_with_pacs

from pipeline.ledger import Ledger, reports
from pipeline.ledger.scope import LINE
from pipeline.ledger.tables import arrival, delivery, orders, receipt, retrieved
from pipeline.ledger.tables import instance as instances
from pipeline.line import settle
from pipeline.model import OrderState
from pipeline.operate.trace import archived, trace
from pipeline.orders.finish import end
from pipeline.spool.account_archive import AccountArchive
from pipeline.worker import upkeep

DAY = 86400.0


def count(ledger: Ledger, table) -> int:
    with ledger.reading() as connection:
        return connection.scalar(select(func.count()).select_from(table))


def later(site, days: float) -> None:
    """Delete what has passed its time, as the worker does, so many days from now."""
    now = time.time() + days * DAY
    settle.expire(site, now)
    upkeep.forget(site, now)


def archived_twice(site, worker, folder) -> tuple[str, str]:
    """Bring one study in, and a later one that keeps the numbers of the ledger growing; return their UIDs."""
    uids = []
    for number in range(2):
        file = instance(folder, f"{number}", StudyInstanceUID=f"1.2.{number}", AccessionNumber=f"A{number}")
        arrive(site.spool, file)
        rounds(worker, until=all_settled(site))
        uids.append(f"1.2.{number}")
    return uids[0], uids[1]


@pytest.fixture
def site_and_worker(tmp_path):
    with working(settings_for(tmp_path, keep_originals="1d", keep_accounts="10d")) as both:
        yield both


def test_an_arrival_is_forgotten_when_its_accounts_are_old_and_the_archive_knows_it(site_and_worker, tmp_path):
    site, worker = site_and_worker
    old, new = archived_twice(site, worker, tmp_path)
    before = trace(old, site.ledger)["studies"]
    later(site, 2)
    later(site, 11)
    assert trace(old, site.ledger)["studies"] == before, "its originals went nine days before"
    later(site, 13)
    assert trace(old, site.ledger)["studies"] == []
    assert trace(new, site.ledger)["studies"], "the newest stays, so that numbers grow"
    for subject in (old, "A0", before[0]["instances"][0]["arrival"]):
        assert archived(subject, site.spool)["studies"] == before
    assert archived("1.2.77", site.spool)["studies"] == []
    assert [count(site.ledger, table) for table in (arrival, instances, receipt, delivery)] == [1, 1, 1, 1]


def test_what_is_forgotten_and_comes_again_is_new_and_delivered(site_and_worker, tmp_path):
    site, worker = site_and_worker
    old, _ = archived_twice(site, worker, tmp_path)
    later(site, 2)
    later(site, 13)
    arrive(site.spool, tmp_path / "0")
    rounds(worker, until=lambda: trace(old, site.ledger)["studies"] and all_settled(site)())
    (found,) = trace(old, site.ledger)["studies"][0]["instances"]
    assert (found["state"], len(found["deliveries"])) == ("passed", 1)


def test_killed_between_archive_and_ledger_an_account_is_appended_once_more_and_told_once(
    site_and_worker, tmp_path, monkeypatch
):
    site, worker = site_and_worker
    old, _ = archived_twice(site, worker, tmp_path)
    before = trace(old, site.ledger)["studies"]
    later(site, 2)
    monkeypatch.setattr(upkeep.forgotten, "forget_arrivals", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        later(site, 13)
    assert trace(old, site.ledger)["studies"] == before, "the rows are there"
    monkeypatch.undo()
    later(site, 13)
    assert trace(old, site.ledger)["studies"] == []
    assert len(list(AccountArchive(site.spool.accounts).lines(old.encode()))) == 2
    assert archived(old, site.spool)["studies"] == before


@pytest.mark.parametrize("state", ["waiting", "deferred", "sending"])
def test_what_an_open_delivery_needs_is_not_forgotten(site_and_worker, tmp_path, state):
    site, worker = site_and_worker
    old, _ = archived_twice(site, worker, tmp_path)
    later(site, 2)
    with site.ledger.transaction() as connection:
        connection.execute(delivery.update().values(state=state))
    later(site, 500)
    assert trace(old, site.ledger)["studies"]


def test_what_is_kept_for_a_person_is_not_forgotten(site_and_worker, tmp_path):
    site, worker = site_and_worker
    old, _ = archived_twice(site, worker, tmp_path)
    with site.ledger.transaction() as connection:
        connection.execute(receipt.update().values(state="refused"))
    later(site, 500)
    later(site, 1000)
    assert trace(old, site.ledger)["studies"]


def test_orders_that_are_over_are_forgotten_but_for_the_newest_and_the_open_ones(tmp_path):
    with working(settings_with_pacs(tmp_path, keep_accounts="10d")) as (site, _):
        numbers = [order(site, f"A{number}").order_id for number in range(4)]
        for number in (numbers[0], numbers[1], numbers[3]):
            end(number, OrderState.DONE, site)
        upkeep.forget(site, time.time() + 9 * DAY)
        assert all(look(site, number) for number in numbers)
        upkeep.forget(site, time.time() + 11 * DAY)
        assert [look(site, number) is not None for number in numbers] == [False, False, True, True]
        assert [found["id"] for found in archived("A1", site.spool)["orders"]] == [numbers[1]]
        assert order(site, "A9").order_id > numbers[3]


def test_what_an_open_order_has_retrieved_is_not_forgotten(tmp_path):
    with working(settings_with_pacs(tmp_path, keep_originals="1d", keep_accounts="10d")) as (site, worker):
        old, _ = archived_twice(site, worker, tmp_path)
        later(site, 2)
        number = order(site, "A0").order_id
        with site.ledger.transaction() as connection:
            values = {"study_instance_uid": old, "state": "moving", "created_at": 0.0, "last_progress_at": 0.0}
            made = connection.execute(insert(retrieved.metadata.tables["retrieval"]).values(**values))
            (retrieval,) = made.inserted_primary_key
            first = connection.scalar(select(func.min(instances.c.id)))
            connection.execute(insert(retrieved).values(retrieval=retrieval, instance=first))
            link = {"order_id": number, "study_instance_uid": old, "accession_numbers": ("A0",), "series": ()}
            study = retrieved.metadata.tables["order_study"]
            connection.execute(insert(study).values(**link, retrieval=retrieval, found_at=0.0))
        later(site, 500)
        assert trace(old, site.ledger)["studies"]
        end(number, OrderState.DONE, site)
        later(site, 1000)
        assert not trace(old, site.ledger)["studies"]


def a_day_of(site, day: int, studies: int) -> None:
    """Enter the studies of a day as they are once their originals are gone, two instances each."""
    at = day * DAY
    with site.ledger.transaction() as connection:
        last = connection.scalar(select(func.max(instances.c.id))) or 0
        names = [f"{int((at + number) * 1e9):019}-r-{number}" for number in range(studies)]
        moments = {"admitted_at": at, "newest_file_at": at, "settled_at": at, "gone_at": at + DAY}
        connection.execute(
            insert(arrival), [{"name": n, "receiver": "r", "state": "settled", **moments} for n in names]
        )
        rows = []
        for number in range(2 * studies):
            study, uid = f"1.2.{day}.{number // 2}", f"1.2.826.0.1.3680043.8.498.{day}.{number}"
            about = {"scope": LINE, "study_instance_uid": study, "series_instance_uid": study, "file": uid}
            sent = {"called_ae_title": "R", "calling_ae_title": "CT1", "size": 1, "received_sha256": "0" * 64}
            identity = {"id": last + 1 + number, "arrival": names[number // 2], "sop_instance_uid": uid}
            rows.append({**identity, **about, **sent, "state": "passed", "consigned": True})
        connection.execute(insert(instances), rows)
        numbers = [
            connection.execute(
                insert(delivery).values(
                    destination="a", receiver="r", study_instance_uid=f"1.2.{day}.{n}", state="delivered",
                    created_at=at, due_at=at,
                )
            ).inserted_primary_key[0]
            for n in range(studies)
        ]  # fmt: skip
        pinned = {"state": "stored", "path": "x" * 60, "sha256": "0" * 64, "size": 1, "verified": True}
        how = {"transfer_syntax_uid": "1.2.840.10008.1.2.1", "encoding": "none"}
        connection.execute(
            insert(receipt),
            [{"delivery": numbers[i // 2], "instance": row["id"], **pinned, **how} for i, row in enumerate(rows)],
        )


@pytest.mark.sqlite_file
@pytest.mark.parametrize("studies", [20, pytest.param(500, marks=pytest.mark.long)])
def test_the_ledger_stays_as_large_as_it_is_over_thirty_days(tmp_path, monkeypatch, studies):
    monkeypatch.setattr(upkeep, "LONGEST_SECONDS", 600.0)
    with working(settings_for(tmp_path, keep_accounts="4d")) as (site, _):
        sizes = []
        for day in range(20_000, 20_030):
            a_day_of(site, day, studies)
            upkeep.forget(site, (day + 1) * DAY)
            with site.ledger.reading() as connection:
                pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
                free = connection.exec_driver_sql("PRAGMA freelist_count").scalar()
            sizes.append((pages, free))
        full = max(pages for pages, _ in sizes[4:8])
        assert max(pages for pages, _ in sizes[8:]) <= 1.1 * full, sizes
        assert all(free < 0.1 * pages for pages, free in sizes[8:]), "freed pages are given back"
        assert count(site.ledger, arrival) <= 6 * studies
        lines = list(AccountArchive(site.spool.accounts).lines(b'"arrival"'))
        assert len({json.loads(line)["arrival"]["name"] for line in lines}) >= 24 * studies
        assert sum(file.stat().st_size for file in site.spool.accounts.glob("*.zst")) < 400 * len(lines)
        with site.ledger.reading() as connection:
            assert reports.counts(connection)["arrivals"]["settled"] == count(site.ledger, arrival)
        assert count(site.ledger, orders) == 0
