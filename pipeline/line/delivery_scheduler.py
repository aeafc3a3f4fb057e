"""Start the due deliveries: each destination has its own slots, pause switch and circuit breaker.

The loop of the worker starts what has become due; a slot that has ended a delivery starts the next one itself, so
that many small studies do not each wait for the loop.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from sqlalchemy import Connection

from pipeline.destinations import Destination
from pipeline.errors import StorestowError, Transient
from pipeline.events import Event, alarm, emit
from pipeline.ledger import deliveries, rerouting
from pipeline.line.breaker import Breaker
from pipeline.line.deliver import NOT_ATTEMPTED, DueDelivery, NotAttempted
from pipeline.processes.jobs import JobKey, JobKind, Jobs
from pipeline.schedule import Agenda
from pipeline.site.site import Site

RECLAIM_SECONDS = 60.0  # Seconds before a delivery that a bug has ended is due again.

Attempt = Callable[[DueDelivery], StorestowError | NotAttempted | None]


class DeliveryScheduler:
    """Start the due deliveries of every destination."""

    def __init__(self, site: Site, jobs: Jobs, agenda: Agenda) -> None:
        self._site = site
        self._jobs = jobs
        self._agenda = agenda
        self._stranded: set[str] = set()
        self._filling = threading.Lock()  # From the list of what is due until its deliveries have started.
        self._is_closed = False
        self._slots = {
            destination.name: ThreadPoolExecutor(destination.slots, thread_name_prefix=f"to-{destination.name}")
            for destination in site.settings.destination
        }
        with site.ledger.reading() as connection:
            self._breakers = {
                destination.name: Breaker(deliveries.down_since(connection, destination.name))
                for destination in site.settings.destination
            }

    def close(self) -> None:
        """Begin nothing more."""
        self._is_closed = True
        for executor in self._slots.values():
            executor.shutdown(wait=False, cancel_futures=True)

    def each_due(self, attempt: Attempt) -> Callable[[], None]:
        """Return a function that starts `attempt` for each due delivery.

        `attempt` returns the error that concerns the peer as a whole, None if the peer worked, NOT_ATTEMPTED if it
        was asked nothing.
        """
        return partial(self._start_due, attempt)

    def _start_due(self, attempt: Attempt) -> None:
        now = time.time()
        self._reclaim(now)
        self._end_growth(now)
        for destination in self._site.settings.destination:
            self._fill_slots(destination, now, attempt)
        self._report_stranded()

    def _end_growth(self, now: float) -> None:
        """Stop the growth of deliveries whose study has nothing left to add."""
        with self._site.ledger.reading() as connection:
            abandoned = deliveries.abandoned(connection)
        for number in abandoned:
            with self._site.ledger.transaction() as connection:
                deliveries.add(connection, number, (), now, is_last=True)

    def _report_stranded(self) -> None:
        """Log once for each destination that deliveries wait for it although it is no longer configured."""
        with self._site.ledger.reading() as connection:
            found = rerouting.stranded(connection, list(self._slots))
        for name in found.keys() - self._stranded:
            remedy = f"name it again in site.toml, or say storestow reroute {name} NEW"
            alarm(Event.STRANDED, destination=name, deliveries=found[name][0], remedy=remedy)
        self._stranded = set(found)

    def _reclaim(self, now: float) -> None:
        """Make deliveries due again that are marked `sending` although no job has them: a bug ended theirs."""
        with self._site.ledger.reading() as connection:
            sending = deliveries.sending(connection)
        lost = sending - {key.subject for key in self._jobs.running() if key.kind is JobKind.DELIVER}
        if lost:
            with self._site.ledger.transaction() as connection:
                deliveries.resume(connection, lost, now + RECLAIM_SECONDS)

    def _fill_slots(
        self, destination: Destination, now: float, attempt: Attempt, ending: int | None = None
    ) -> None:
        """Start due deliveries while a slot is free; that of the delivery `ending`, whose thread asks, is free."""
        breaker = self._breakers[destination.name]
        with self._filling:
            running = self._numbers_running(destination)  # Before the list, which may be stale about them.
            with self._site.ledger.reading() as connection:
                if destination.name in deliveries.paused(connection):
                    return
                how = {"one_a_study": destination.makes_file, "takes_parts": destination.takes_parts}
                due = deliveries.due(connection, destination.name, now, **how)
                for_orders = deliveries.for_orders(connection)
                later = deliveries.next_due(connection, destination.name, now)
            for moment in (later, breaker.try_at if breaker.down_since is not None else None):
                if moment is not None and moment > now:
                    self._agenda.at(moment)
            for number in due:
                if len(self._numbers_running(destination) - {ending}) >= destination.slots or number == ending:
                    return  # One that has just ended and is due again, as it has grown, is started by the loop.
                if not (number in for_orders or breaker.admits(now)):
                    return
                if number not in running:
                    self._start(number, destination, attempt)

    def _start(self, number: int, destination: Destination, attempt: Attempt) -> None:
        breaker = self._breakers[destination.name]
        breaker.start(number)
        job = partial(self._attempt, DueDelivery(number, destination), attempt)
        key = JobKey(JobKind.DELIVER, number, destination.name)
        if not self._jobs.start(self._slots[destination.name], key, job):
            breaker.end(number)

    def _numbers_running(self, destination: Destination) -> set[str | int]:
        running = self._jobs.running()
        return {key.subject for key in running if key.kind is JobKind.DELIVER and key.place == destination.name}

    def _attempt(self, due: DueDelivery, attempt: Attempt) -> None:
        try:
            outcome = attempt(due)
            if outcome is not NOT_ATTEMPTED:
                self._judge_peer(due.destination, outcome)
        finally:
            self._breakers[due.destination.name].end(due.number)
        if outcome is None and not self._is_closed:
            with contextlib.suppress(Transient):  # The loop asks the ledger again.
                self._fill_slots(due.destination, time.time(), attempt, due.number)

    def _judge_peer(self, destination: Destination, error: StorestowError | None) -> None:
        """Record whether the destination as a whole works."""
        breaker = self._breakers[destination.name]
        if error is None:
            if breaker.succeeded():
                self._note_return(destination)
            return
        retry_after = error.retry_after_seconds if isinstance(error, Transient) else None
        if breaker.failed(time.time(), retry_after):
            alarm(Event.PEER_DOWN, destination=destination.name, reason=error)
        with self._site.ledger.transaction() as connection:
            _note(connection, destination.name, breaker.down_since, str(error), breaker.try_at)

    def _note_return(self, destination: Destination) -> None:
        emit(Event.PEER_UP, destination=destination.name)
        with self._site.ledger.transaction() as connection:
            _note(connection, destination.name, None, None)
            deliveries.make_due(connection, destination.name, time.time())


def _note(
    connection: Connection, name: str, down_since: float | None, reason: str | None, try_at: float | None = None
) -> None:
    """Record how a destination answers; one that was paused meanwhile keeps its given reason."""
    values = {} if name in deliveries.paused(connection) else {"reason": reason}
    deliveries.set_destination(connection, name, down_since=down_since, try_at=try_at, **values)
