"""Start the due deliveries: each destination has its own slots, pause switch and circuit breaker.

The loop of the worker starts deliveries that have become due; a study that has been prepared, and a slot that has
ended a delivery, start the next one themselves, so that many small studies do not each wait for the loop.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pipeline import engine
from pipeline.destinations import Destination
from pipeline.errors import StorestowError, Transient
from pipeline.events import Event, alarm
from pipeline.ledger import deliveries, growing_deliveries, reports, rerouting
from pipeline.line import breaker
from pipeline.line.deliver import DueDelivery, NotAttempted
from pipeline.processes.jobs import JobKey, JobKind, Jobs
from pipeline.schedule import Agenda
from pipeline.site.site import Site

RECLAIM_SECONDS = 60.0  # Seconds before a delivery that a bug has ended is due again.
OTHERS_SECONDS = 1.0  # Seconds until a destination is looked at again whose slots other workers fill.

Attempt = Callable[[DueDelivery], StorestowError | NotAttempted | None]


class DeliveryScheduler:
    """Start the due deliveries of every destination."""

    def __init__(self, site: Site, jobs: Jobs, agenda: Agenda) -> None:
        self._site = site
        self._jobs = jobs
        self._agenda = agenda
        self._stranded: set[str] = set()
        # A lock is held from reading what is due to a destination until its deliveries have started.
        self._filling = {destination.name: threading.Lock() for destination in site.settings.destination}
        self._is_closed = False
        self._given: Attempt | None = None  # What `each_due` was given.
        self._slots = {
            destination.name: ThreadPoolExecutor(destination.slots, thread_name_prefix=f"to-{destination.name}")
            for destination in site.settings.destination
        }

    def close(self) -> None:
        """Start no more deliveries."""
        self._is_closed = True
        for executor in self._slots.values():
            executor.shutdown(wait=False, cancel_futures=True)

    def fill(self) -> None:
        """Start what has just become due in slots that are free, once the loop has; it starts what this leaves."""
        if self._given is None or self._is_closed:
            return
        with contextlib.suppress(Transient):  # The worker's loop reads the ledger again later.
            for destination in self._site.settings.destination:
                self._fill_slots(destination, time.time(), self._given)

    def each_due(self, attempt: Attempt) -> Callable[[], None]:
        """Return a function that starts `attempt` for each due delivery.

        `attempt` returns the error that concerns the peer as a whole, None if the peer worked, and NOT_ATTEMPTED
        if the peer was not asked.
        """
        self._given = attempt
        return partial(self._start_due, attempt)

    def lanes_due(self) -> list[str]:
        """Return the lanes of the destinations that may attempt a delivery now and have a slot free for it."""
        now, found = time.time(), []
        with self._site.ledger.reading() as look:
            for destination in self._site.settings.destination:
                name = destination.name
                noted = reports.destination_row(look, name)
                if noted is not None and (noted.paused or not breaker.admits(look, noted, now)):
                    continue
                how = {"one_a_study": destination.makes_file, "takes_parts": destination.takes_parts}
                is_free = deliveries.in_hand(look, name) < destination.slots
                if is_free and deliveries.due(look, name, now, at_most=1, **how):
                    found.append(engine.deliver(name))
        return found

    def _start_due(self, attempt: Attempt) -> None:
        self._site.spool.require_store()
        now = time.time()
        with self._site.ledger.reading() as connection:
            sending = deliveries.sending(connection, self._site.claimant.worker)
            abandoned = growing_deliveries.abandoned(connection)
            stranded = rerouting.stranded(connection, list(self._slots))
        if lost := sending - self._running():
            self._reclaim(lost, now)
        for number in abandoned:  # Their studies have no more instances to add.
            with self._site.ledger.transaction() as connection:
                growing_deliveries.add(connection, number, (), now, is_last=True)
        for destination in self._site.settings.destination:
            self._fill_slots(destination, now, attempt)
        self._report_stranded(stranded)

    def _report_stranded(self, found: Mapping[str, tuple[int, float]]) -> None:
        """Log once each destination for which deliveries wait and which is no longer configured."""
        for name in found.keys() - self._stranded:
            remedy = f"name it again in site.toml, or say storestow reroute {name} NEW"
            alarm(Event.STRANDED, destination=name, deliveries=found[name][0], remedy=remedy)
        self._stranded = set(found)

    def _reclaim(self, lost: set[int], now: float) -> None:
        """Make this worker's deliveries due again that are `sending` without a job, because a bug has ended it."""
        with self._site.ledger.transaction() as connection:
            still = lost & deliveries.sending(connection, self._site.claimant.worker)
            # A delivery that has begun again since has a job by now: a job is entered before it claims.
            deliveries.resume(connection, still - self._running(), now + RECLAIM_SECONDS)

    def _running(self, destination: Destination | None = None) -> set[str | int]:
        """Return the numbers of the deliveries that run, to one destination or to any."""
        keys = (key for key in self._jobs.running() if key.kind is JobKind.DELIVER)
        return {key.subject for key in keys if destination is None or key.place == destination.name}

    def _fill_slots(
        self, destination: Destination, now: float, attempt: Attempt, ending: int | None = None
    ) -> None:
        """Start due deliveries while a slot is free; that of the delivery `ending`, whose thread asks, is free.

        `deliveries.claim` decides, because other workers may start the same deliveries now.
        """
        with self._filling[destination.name]:
            running = self._running(destination)  # Read first: the list may be stale about them.
            if len(running - {ending}) >= destination.slots:
                return  # The slot that ends first looks for the next delivery.
            # After an outage thousands are due, and each delivery that ends would read them all. It is enough to
            # read as many as there are slots, those that `Jobs.start` may refuse, and one more to see that all are
            # full.
            keys = self._jobs.running_since_list() | set(self._jobs.failed(JobKind.DELIVER))
            refused = [key for key in keys if key.kind is JobKind.DELIVER and key.place == destination.name]
            at_most = destination.slots + len(refused) + 1
            with self._site.ledger.reading() as connection:
                noted = reports.destination_row(connection, destination.name)
                if noted is not None and noted.paused:
                    return
                how = {"one_a_study": destination.makes_file, "takes_parts": destination.takes_parts}
                due = deliveries.due(connection, destination.name, now, at_most=at_most, **how)
                later = deliveries.next_due(connection, destination.name, now)
                mine = self._site.claimant.worker
                others = deliveries.in_hand(connection, destination.name, except_of=mine) if due else 0
                is_down = breaker.is_down(noted)
                admits = breaker.admits(connection, noted, now)
                for_orders = deliveries.for_orders(connection) if due and is_down else ()
            for moment in (later, noted.try_at if noted is not None and is_down else None):
                if moment is not None and moment > now:
                    self._agenda.at(moment)
            for number in due:
                used = others + len(self._running(destination) - {ending})
                if used >= destination.slots or number == ending:
                    if others:
                        self._agenda.at(now + OTHERS_SECONDS)
                    return  # The loop starts a delivery that has just ended and is due again because it has grown.
                if not (number in for_orders or admits):
                    return
                key = JobKey(JobKind.DELIVER, number, destination.name)
                job = partial(self._attempt, DueDelivery(number, destination), attempt)
                if number not in running and self._jobs.start(self._slots[destination.name], key, job) and is_down:
                    admits = False  # The delivery that was started is the trial.

    def _attempt(self, due: DueDelivery, attempt: Attempt) -> None:
        if attempt(due) is None and not self._is_closed:
            with contextlib.suppress(Transient):  # The worker's loop reads the ledger again later.
                self._fill_slots(due.destination, time.time(), attempt, due.number)
