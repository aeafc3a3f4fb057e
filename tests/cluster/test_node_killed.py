"""One of two nodes is killed in the middle of its deliveries: the other one takes them over, and says so."""

import signal
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select
from support.machine.dicom_programs import ENVIRONMENT, running, wait_until
from support.machine.postgresql import postgresql
from support.peers.storage_peer import storage_peer
from support.sites import ledger_place
from support.sites.line_site import arrive, instance, rounds, settings_for, states, working
from support.sites.running_site import write_site

from pipeline.ledger import destination_states
from pipeline.ledger.tables import attempt
from pipeline.operate.status import status
from pipeline.site import node as site_node
from pipeline.site.settings import load
from pipeline.worker import heartbeat

pytestmark = pytest.mark.programs
WORKER = Path(__file__).resolve().parents[1] / "support/sites/second_worker.py"
LOST_AFTER = 15.0  # The shortest that [cluster] takes.
COUNT = 6


def node(file: Path, name: str):
    """Return the context of a worker that runs as the node `name`."""
    argv = [sys.executable, WORKER, file, name, str(LOST_AFTER)]
    return running(
        argv, log=file.parent / f"{name}.log", env={**ENVIRONMENT, "PYTHONPATH": str(WORKER.parents[2])}
    )


def test_the_other_node_attempts_again_what_a_killed_one_had_in_hand(tmp_path, monkeypatch, record_property):
    monkeypatch.setattr(site_node, "LOST_AFTER_SECONDS", LOST_AFTER)
    held: list[str] = []
    over: list[bool] = []

    def answer(received) -> int:
        """Let what the first node sends wait until that node is dead."""
        held.append(received.uid)
        if not over:
            wait_until(lambda: over, seconds=60, what="the first node's end")
        return 0

    with postgresql() as server, ledger_place.on(server), storage_peer(answer=answer) as peer:
        to = {"name": "pacs", "kind": "cstore", "ae_title": "PACS", "host": "127.0.0.1", "port": peer.port}
        receiver = {"name": "modalities", "ae_title": "STORESTOW", "port": 11112}
        destinations = [{**to, "calling_ae_title": "STORESTOW", "slots": 2}]
        file = write_site(tmp_path, receivers=[receiver], destinations=destinations)
        with working(load(file)) as (site, worker):
            with site.ledger.transaction() as change:
                destination_states.change_row(change, "pacs", paused=True, reason="they come first")
            for number in range(COUNT):
                arrive(site.spool, instance(tmp_path, f"f{number}", StudyInstanceUID=f"1.2.3.{number}"))
            rounds(worker, until=lambda: states(site, "deliveries").get("waiting", 0) == COUNT, seconds=120)
            with site.ledger.transaction() as change:
                destination_states.change_row(change, "pacs", paused=False)
            with node(file, "node-a") as first:
                wait_until(lambda: len(held) == 2, seconds=60, what="two deliveries at the peer")
                with node(file, "node-b"):
                    wait_until(
                        lambda: {"node-a", "node-b"} <= {one["name"] for one in nodes_of(site)},
                        seconds=60,
                        what="both nodes report",
                    )
                    first.send_signal(signal.SIGKILL)
                    killed_at = time.time()
                    over.append(True)
                    wait_until(
                        lambda: states(site, "deliveries") == {"delivered": COUNT}, seconds=120, what="deliveries"
                    )
                    stands = {one["name"]: one for one in nodes_of(site)}
            with site.ledger.reading() as look:
                tried = look.execute(select(attempt.c.delivery, attempt.c.node, attempt.c.began_at)).all()
    again = {row.delivery for row in tried if row.node == "node-a"}
    seconds = max(row.began_at for row in tried if row.node == "node-b" and row.delivery in again) - killed_at
    log = (tmp_path / "node-b.log").read_text()
    assert len(again) == 2
    assert LOST_AFTER - 5 <= seconds <= LOST_AFTER + 10
    assert (stands["node-a"]["state"], stands["node-a"]["in_hand"]) == ("lost", 0)
    assert stands["node-b"]["state"] == "up"
    assert log.count("node-lost node=node-a") == 1
    assert "taken-over node=node-a by=node-b deliveries=2 studies=0 retrievals=0" in log
    assert len(set(peer.uids)) == COUNT
    assert set(Counter(peer.uids).values()) <= {1, 2}
    assert len({(one.uid, one.data) for one in peer.received}) == COUNT, "the same bytes"
    record_property("seconds", round(seconds, 1))
    print(f"from the kill to the next attempt: {seconds:.1f} s, lost_after {LOST_AFTER:.0f} s")
    print(*[line for line in log.splitlines() if "node-lost" in line or "taken-over" in line], sep="\n")


def test_a_node_reports_while_another_one_has_the_turn_to_write(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.5)
    with postgresql() as server, ledger_place.on(server), working(settings_for(tmp_path)) as (site, _worker):
        beating = heartbeat.Heartbeat(site)
        beating.beat()
        other = ledger_place.ledger_of(site.spool.root)
        with closing(other), other.transaction(), ThreadPoolExecutor(1) as thread:
            before = nodes_of(site)[0]["seen_seconds"]
            wait_until(lambda: nodes_of(site)[0]["seen_seconds"] > before + 0.2, what="some time")
            thread.submit(beating.beat).result(timeout=20)
            assert nodes_of(site)[0]["seen_seconds"] <= before


def nodes_of(site):
    return status(site.settings, site.ledger)["nodes"]
