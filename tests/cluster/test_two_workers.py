"""Two workers on one ledger: each piece of work is done by one, also where one is cut off or the server dies.

Both share one spool here, so that each finds the files.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, update
from support.machine.dicom_programs import wait_until
from support.machine.postgresql import postgresql
from support.peers.storage_peer import Received, StoragePeer, storage_peer
from support.sites import ledger_place
from support.sites.line_site import arrive, instance, rounds, settings_for, states, working

from pipeline.errors import Transient
from pipeline.ledger import claims, deliveries, destination_states, waiting_studies
from pipeline.ledger.claims import Claimant
from pipeline.ledger.tables import arrival, attempt, delivery, receipt, study_claim
from pipeline.line import delivery_scheduler
from pipeline.line.admit import admit
from pipeline.line.consign import consign
from pipeline.line.deliver import DueDelivery, deliver
from pipeline.line.delivery_scheduler import DeliveryScheduler
from pipeline.line.identify import ReadAhead
from pipeline.line.identify_arrival import identify_arrival
from pipeline.line.prepare_study import PreparedPart, prepare_study
from pipeline.line.reconcile import reconcile
from pipeline.line.verify import verify
from pipeline.processes import jobs as jobs_module
from pipeline.processes.jobs import JobKey, JobKind, Jobs
from pipeline.schedule import Agenda
from pipeline.site.site import Site
from pipeline.spool.hashed_files import HashedFiles


class Gate:
    """A peer's answers wait until `open`; `most` is how many waited at once."""

    def __init__(self) -> None:
        self._may_go = threading.Event()
        self._lock = threading.Lock()
        self.inside = self.most = 0

    def open(self) -> None:
        self._may_go.set()

    def __call__(self, _received: Received) -> int:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self._may_go.wait(60)
        with self._lock:
            self.inside -= 1
        return 0


class HalfWorker:
    """What a worker does for deliveries, and nothing else."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.jobs = Jobs(lambda: None)
        self._deliveries = DeliveryScheduler(site, self.jobs, Agenda())
        self._start_due = self._deliveries.each_due(lambda due: verify(deliver(due, site), site))
        self._over = threading.Event()

    def round(self) -> None:
        self.jobs.begin_list()
        self._start_due()

    def go_on(self) -> None:
        while not self._over.wait(0.02):
            self.jobs.take_step(JobKey(JobKind.WATCH), self.round)

    def close(self) -> None:
        self._over.set()
        self._deliveries.close()
        wait_until(lambda: not self.jobs.running(), what="the last attempts")


@contextmanager
def two_workers(site: Site) -> Iterator[tuple[HalfWorker, HalfWorker]]:
    with ExitStack() as stack:
        found = []
        for name in ("a", "b"):
            ledger = ledger_place.ledger_of(site.spool.root)
            stack.callback(ledger.close)
            claimant = Claimant(name, f"node-{name}")
            found.append(HalfWorker(replace(site, ledger=ledger, claimant=claimant, hashed=HashedFiles())))
            stack.callback(found[-1].close)
        yield found[0], found[1]


@contextmanager
def site_with(count: int, folder, peer: StoragePeer, *, slots: int = 1) -> Iterator[Site]:
    """Have so many studies wait for the peer."""
    table = {"name": "pacs", "kind": "cstore", "ae_title": "PACS", "host": "127.0.0.1", "port": peer.port}
    settings = settings_for(folder, destinations=[{**table, "calling_ae_title": "STORESTOW", "slots": slots}])
    with working(settings) as (site, worker):
        with site.ledger.transaction() as change:
            destination_states.change_row(change, "pacs", paused=True, reason="they come first")
        for number in range(count):
            arrive(site.spool, instance(folder, f"f{number}", StudyInstanceUID=f"1.2.3.{number}"))
        rounds(worker, until=lambda: states(site, "deliveries").get("waiting", 0) == count, seconds=120)
        with site.ledger.transaction() as change:
            destination_states.change_row(change, "pacs", paused=False)
        yield site


def tried(site: Site) -> list[tuple[int, str]]:
    """Return delivery and machine of every attempt."""
    with site.ledger.reading() as look:
        return [tuple(row) for row in look.execute(select(attempt.c.delivery, attempt.c.node))]


def until_delivered(site: Site, count: int, *workers: HalfWorker, seconds: float = 60) -> None:
    with ThreadPoolExecutor(len(workers)) as threads:
        running = [threads.submit(worker.go_on) for worker in workers]
        try:
            wait_until(
                lambda: states(site, "deliveries") == {"delivered": count}, seconds=seconds, what="deliveries"
            )
        finally:
            for worker in workers:
                worker.close()
        for one in running:
            one.result()


@pytest.mark.both_databases
def test_each_delivery_is_attempted_by_one_and_never_more_than_the_destination_takes(tmp_path):
    gate = Gate()
    with (
        storage_peer(answer=gate) as peer,
        site_with(12, tmp_path, peer, slots=2) as site,
        two_workers(site) as (a, b),
    ):
        b.round()
        wait_until(lambda: gate.inside == 2, what="two at the peer")
        for _ in range(3):
            a.round()
        assert not a.jobs.running(), "both slots are taken by the other worker"
        assert len(peer.received) == 2
        gate.open()
        until_delivered(site, 12, a, b)
        assert gate.most == 2
        assert Counter(peer.uids).most_common(1)[0][1] == 1
        assert len(peer.uids) == 12
        assert Counter(number for number, _ in tried(site)).most_common(1)[0][1] == 1
        assert Counter(node for _, node in tried(site))["node-b"] >= 2


@pytest.mark.both_databases
def test_a_destination_that_was_down_is_tried_by_one_worker(tmp_path):
    gate = Gate()
    with (
        storage_peer(answer=gate) as peer,
        site_with(6, tmp_path, peer, slots=4) as site,
        two_workers(site) as (a, b),
    ):
        with site.ledger.transaction() as change:
            destination_states.change_row(change, "pacs", down_since=1.0, reason="connection refused")
        workers = (a, b)
        for _ in range(5):
            for worker in workers:
                worker.round()
        wait_until(lambda: gate.inside == 1, what="the trial")
        for worker in workers:
            wait_until(lambda w=worker: len(w.jobs.running()) <= 1, what="only the trial runs")
            worker.round()
        with site.ledger.reading() as look:
            assert deliveries.in_hand(look, "pacs") == 1
        assert gate.most == 1, "at any time, not only now"
        gate.open()
        until_delivered(site, 6, a, b)
        with site.ledger.reading() as look:
            assert destination_states.down_since(look, "pacs") is None


@pytest.mark.both_databases
def test_a_worker_whose_delivery_was_taken_over_records_nothing_and_says_so(tmp_path, caplog):
    gate = Gate()
    with (
        storage_peer(answer=lambda one: gate(one) if one.number == 1 else 0) as peer,
        site_with(1, tmp_path, peer) as site,
        two_workers(site) as (a, b),
    ):
        a.round()
        wait_until(lambda: gate.inside == 1, what="the first at the peer")
        with site.ledger.transaction() as change:
            (number,) = deliveries.sending(change, "a")
            deliveries.resume(change, [number], 0.0)
        (pacs,) = site.settings.destination
        verify(deliver(DueDelivery(number, pacs), b.site), b.site)
        assert states(site, "deliveries") == {"delivered": 1}
        with site.ledger.reading() as look:
            before = look.execute(select(receipt)).all()
        gate.open()
        wait_until(lambda: not a.jobs.running(), what="the cut-off worker")
        assert "fenced what=deliver" in caplog.text
        with site.ledger.reading() as look:
            assert look.execute(select(receipt)).all() == before
        assert states(site, "deliveries") == {"delivered": 1}
        assert [node for _, node in sorted(tried(site))] == ["node-a", "node-b"]
        assert len({one.data for one in peer.received}) == 1, "the same bytes"


@pytest.mark.both_databases
def test_a_study_that_another_worker_has_consigned_meanwhile_is_not_consigned_again(tmp_path, caplog):
    with storage_peer() as peer, site_with(0, tmp_path, peer) as site, two_workers(site) as (a, b):
        study = waiting_study(site, tmp_path)
        prepared = list(prepare_study(study, a.site))

        def overtaken() -> Iterator[PreparedPart]:
            consign(prepare_study(study, b.site), b.site)
            assert not states(site, "deliveries"), "the other worker has it"
            with site.ledger.transaction() as change:
                change.execute(update(study_claim).values(worker="b", claim="taken over"))
            consign(prepare_study(study, b.site), b.site)
            yield from prepared

        consign(overtaken(), a.site)
        assert states(site, "deliveries") == {"waiting": 1}
        assert "fenced what=process" in caplog.text
        with site.ledger.reading() as look:
            assert look.execute(select(study_claim)).all() == []


def waiting_study(site: Site, folder) -> waiting_studies.WaitingStudy:
    """Return a study that was taken in and waits to be prepared."""
    name = arrive(site.spool, instance(folder, StudyInstanceUID="1.2.3"))
    admit(name, site)
    identify_arrival(name, site, ReadAhead())
    with site.ledger.reading() as look:
        (study,) = waiting_studies.waiting(look)
    return study


@pytest.mark.programs
def test_the_server_crashes_while_two_workers_deliver_and_nothing_is_lost_or_doubled_by_content(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(delivery_scheduler, "RECLAIM_SECONDS", 0.2)
    monkeypatch.setattr(jobs_module, "RETRY_SECONDS", 0.1)
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
                with site.ledger.reading() as look:
                    sending = deliveries.sending(look)
                server.stop("immediate")
                gate.open()
                wait_until(
                    lambda sending=sending: sending & failed(a, b), seconds=60, what="an attempt is cut off"
                )
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
        with site.ledger.reading() as look:
            verified = look.execute(select(receipt.c.state, receipt.c.verified)).all()
            assert [tuple(row) for row in verified] == [("stored", True)] * count
            assert look.execute(select(delivery.c.claim).where(delivery.c.claim.is_not(None))).all() == []
            reasons = look.scalars(select(attempt.c.reason)).all()
        assert deliveries.INTERRUPTED in reasons


def failed(*workers: HalfWorker) -> set[str | int]:
    """Return the deliveries whose last attempt ended by a failure of this side."""
    return {key.subject for worker in workers for key in worker.jobs.failed(JobKind.DELIVER)}


@pytest.mark.both_databases
def test_a_start_deletes_nothing_that_another_worker_makes_or_sends(tmp_path):
    gate = Gate()
    with (
        storage_peer(answer=gate) as peer,
        site_with(1, tmp_path, peer) as site,
        two_workers(site) as (a, b),
    ):
        study = waiting_study(site, tmp_path)
        (sent,) = (folder.name for folder in site.spool.outputs.iterdir())
        with site.ledger.transaction() as change:
            assert claims.claim_study(change, study.receiver, study.study_instance_uid, a.site.claimant)
            change.execute(update(arrival).where(arrival.c.name == sent).values(state="settled"))
        prepared = next(name for name in _names(site.spool.arrivals) if name != sent)
        a.round()
        wait_until(lambda: gate.inside == 1, what="the first at the peer")
        (site.spool.arrivals / sent).rename(site.spool.settled / sent)
        half_made = [site.spool.outputs / name / ".half-made" for name in (sent, prepared, "unknown")]
        for file in half_made:
            file.parent.mkdir(exist_ok=True)
            file.touch()
        files = [file for file in (site.spool.outputs / sent).iterdir() if not file.name.startswith(".")]
        assert files
        reconcile(b.site)
        with site.ledger.reading() as look:
            assert len(look.execute(select(study_claim)).all()) == 1, "the other one lives"
        assert [file.exists() for file in (*half_made, *files)] == [True, True, False, True]
        with site.ledger.reading() as look:
            assert deliveries.sending(look) == deliveries.sending(look, "a")
            assert len(deliveries.sending(look)) == 1
        reconcile(a.site)
        assert [file.exists() for file in half_made] == [False, False, False]
        with site.ledger.reading() as look:
            assert look.execute(select(study_claim)).all() == [], "what it had claimed before it died"
        gate.open()


def _names(room: Path) -> list[str]:
    return sorted(folder.name for folder in room.iterdir())


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, also while the server does not answer."""

    def holds() -> bool:
        try:
            return condition()
        except Transient:
            return False

    wait_until(holds, seconds=120, what="all is delivered")
