"""The server of the ledger is gone in the middle of deliveries: what the peer has answered is recorded later."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select
from support.machine.dicom_programs import wait_until
from support.machine.postgresql import postgresql
from support.peers.storage_peer import storage_peer
from support.sites import ledger_place
from support.sites.half_workers import Gate, site_with, two_workers
from support.sites.line_site import states

from pipeline.errors import Transient
from pipeline.ledger import Ledger
from pipeline.ledger.tables import delivery, receipt
from pipeline.line import delivery_scheduler
from pipeline.line import verify as verify_module
from pipeline.line.deliver import AttemptedDelivery
from pipeline.processes import jobs as jobs_module
from pipeline.site.site import Site


@pytest.mark.programs
def test_the_server_crashes_while_two_workers_deliver_and_nothing_is_lost_or_doubled_by_content(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(delivery_scheduler, "RECLAIM_SECONDS", 0.2)
    monkeypatch.setattr(jobs_module, "RETRY_SECONDS", 0.1)
    missed = noted_misses(monkeypatch)
    count = 30
    held = {3: Gate(), 9: Gate()}  # Answers that come while the server does not answer.
    with (
        postgresql() as server,
        ledger_place.on(server),
        storage_peer(answer=lambda one: held[one.number](one) if one.number in held else 0) as peer,
        site_with(count, tmp_path, peer, slots=3) as site,
        two_workers(site) as (a, b),
    ):

        def crash() -> None:
            for gate in held.values():
                wait_until(lambda gate=gate: gate.inside == 1, seconds=60, what="an instance is at the peer")
                missed.clear()
                server.stop("immediate")
                gate.open()
                wait_until(lambda: missed, seconds=60, what="an answer cannot be recorded")
                server.start()

        crashing = threading.Thread(target=crash)
        crashing.start()
        with ThreadPoolExecutor(2) as threads:
            running = [threads.submit(worker.go_on) for worker in (a, b)]
            crashing.join(120)
            until(lambda: states(site, "deliveries") == {"delivered": count})
            a.close()
            b.close()
            for one in running:
                one.result()
        assert len(set(peer.uids)) == count
        assert len({(one.uid, one.data) for one in peer.received}) == count, "the same bytes each time"
        for number in held:
            assert peer.uids.count(peer.uids[number - 1]) == 1, "its answer came while there was no server"
        with site.ledger.reading() as look:
            verified = look.execute(select(receipt.c.state, receipt.c.verified)).all()
            assert [tuple(row) for row in verified] == [("stored", True)] * count
            assert look.execute(select(delivery.c.claim).where(delivery.c.claim.is_not(None))).all() == []


def noted_misses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of what the ledger could not take when it was insisted on."""
    insist, found = Ledger.insist, []

    def noting(ledger: Ledger, write: Callable[[], object]) -> object:
        def once() -> object:
            try:
                return write()
            except Transient as error:
                found.append(str(error))
                raise

        return insist(ledger, once)

    monkeypatch.setattr(Ledger, "insist", noting)
    return found


@pytest.mark.both_databases
def test_an_end_that_was_recorded_although_the_server_could_not_say_so_counts(tmp_path, monkeypatch, caplog):
    conclude, ends = verify_module._conclude, []

    def unanswered(attempted: AttemptedDelivery, site: Site) -> None:
        conclude(attempted, site)
        ends.append(attempted.row.id)
        raise Transient("the connection ended after the commit")

    monkeypatch.setattr(verify_module, "_conclude", unanswered)
    with storage_peer() as peer, site_with(1, tmp_path, peer) as site, two_workers(site) as (a, b):
        a.round()
        wait_until(lambda: ends and not a.jobs.running(), what="the attempt")
        assert states(site, "deliveries") == {"delivered": 1}
        assert "fenced" not in caplog.text
        b.round()
        assert len(peer.uids) == 1


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, also while the server does not answer."""

    def holds() -> bool:
        try:
            return condition()
        except Transient:
            return False

    wait_until(holds, seconds=120, what="all is delivered")
