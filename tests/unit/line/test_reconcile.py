"""A start compares rooms and ledger: what a ledger of an earlier moment does not know is done again."""

from collections import Counter

import pytest
from sqlalchemy import delete, insert, select, update
from support.machine.dicom_programs import wait_until
from support.peers.storage_peer import storage_peer
from support.sites.line_site import all_settled, arrive, instance, rounds, settings_for, states, working

from pipeline.ledger.tables import METADATA, arrival, receipt
from pipeline.line.reconcile import reconcile

pytestmark = pytest.mark.both_databases


def all_rows(site) -> dict:
    with site.ledger.reading() as look:
        return {
            table: [dict(row._mapping) for row in look.execute(select(table))] for table in METADATA.sorted_tables
        }


def go_back_to(site, rows: dict) -> None:
    """Have the ledger as it was: so is a standby that took over, and lacks what was committed last."""
    with site.ledger.transaction() as change:
        for table in reversed(METADATA.sorted_tables):
            change.execute(delete(table))
        for table, found in rows.items():
            if found:
                change.execute(insert(table), found)


@pytest.mark.parametrize("moment", ["admitted", "received", "waiting"])
def test_what_is_settled_and_not_delivered_as_far_as_the_ledger_knows_is_sent_again_the_same_bytes(
    moment, tmp_path
):
    reached = {
        "admitted": lambda: states(site, "arrivals").get("admitted"),
        "received": lambda: states(site, "instances").get("received"),
        "waiting": lambda: states(site, "deliveries").get("waiting"),
    }

    with storage_peer() as peer:
        to = {"name": "pacs", "kind": "cstore", "ae_title": "PACS", "host": "127.0.0.1", "port": peer.port}
        with working(settings_for(tmp_path, destinations=[{**to, "calling_ae_title": "S"}])) as (site, worker):
            arrive(site.spool, instance(tmp_path))
            for stage in worker._line.stages().values():
                stage()
                wait_until(worker.is_idle, what="the stage's jobs")
                if reached[moment]():
                    break
            earlier = all_rows(site)
            rounds(worker, until=all_settled(site))
            (settled,) = (folder.name for folder in site.spool.settled.iterdir())
            go_back_to(site, earlier)
            reconcile(site)
            assert [folder.name for folder in site.spool.arrivals.iterdir()] == [settled]
            rounds(worker, until=all_settled(site))
            assert states(site, "arrivals") == {"settled": 1}
            with site.ledger.reading() as look:
                assert [tuple(row) for row in look.execute(select(receipt.c.state, receipt.c.verified))] == [
                    ("stored", True)
                ]
            assert Counter(peer.uids).most_common() == [(peer.uids[0], 2)]
            assert len({one.data for one in peer.received}) == 1


def test_what_is_settled_and_ended_as_far_as_the_ledger_knows_is_settled(tmp_path):
    with working(settings_for(tmp_path)) as (site, worker):
        name = arrive(site.spool, instance(tmp_path))
        rounds(worker, until=all_settled(site))
        with site.ledger.transaction() as change:
            change.execute(update(arrival).values(state="processing"))
        reconcile(site)
        assert states(site, "arrivals") == {"settled": 1}
        assert (site.spool.settled / name).is_dir()


def test_a_knock_whose_process_died_over_it_is_removed(tmp_path):
    with working(settings_for(tmp_path)) as (site, _):
        (site.spool.run / "knock-left").mkdir()
        reconcile(site)
        assert not list(site.spool.run.glob("knock-*"))
