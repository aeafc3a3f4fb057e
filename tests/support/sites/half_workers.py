"""Workers that only deliver, several of them in one process on one ledger and one spool, and a site for them."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from sqlalchemy import select
from support.machine.dicom_programs import wait_until
from support.peers.storage_peer import Received, StoragePeer
from support.sites import ledger_place
from support.sites.line_site import arrive, instance, rounds, settings_for, states, working

from pipeline.ledger import destination_states
from pipeline.ledger.claims import Claimant
from pipeline.ledger.tables import attempt
from pipeline.line.deliver import deliver
from pipeline.line.delivery_scheduler import DeliveryScheduler
from pipeline.line.verify import verify
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
