"""The worker: the loop that finds what is due and has it done, and nothing else.

The rooms and the ledger are the truth; a notice from the file system only wakes the loop earlier. Whatever
is killed at any moment is found again by the next round, because every round asks the same questions.
"""

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeVar

from sqlalchemy import Connection

from pipeline import schedule
from pipeline.destinations import Destination
from pipeline.errors import StorestowError, Transient
from pipeline.events import Event, alarm, bug, emit
from pipeline.ledger import LedgerDamaged, arrivals, deliveries, orders, rerouting
from pipeline.ledger.arrivals import WaitingStudy
from pipeline.line import admission, line, settle
from pipeline.line.breaker import Breaker
from pipeline.line.deliver import despatch
from pipeline.line.gathering import at_the_door
from pipeline.line.prepare import load_encodings
from pipeline.line.reconcile import reconcile
from pipeline.line.unread_arrivals import UnreadArrivals
from pipeline.model import ArrivalState
from pipeline.orders.scheduler import POLL_SECONDS as ORDER_POLL_SECONDS
from pipeline.orders.scheduler import OrderScheduler
from pipeline.receiving.sweep import sweep_abandoned
from pipeline.site.site import Site
from pipeline.spool.arrival_notifier import ArrivalNotifier
from pipeline.spool.clock import Clock
from pipeline.worker.agenda import Agenda
from pipeline.worker.ahead import WorkAhead
from pipeline.worker.heartbeat import Heartbeat
from pipeline.worker.retention import Retention

Subject = TypeVar("Subject")

POLL_SECONDS = 5.0
IDLE_SECONDS = 60.0  # a worker that runs until it is idle waits for what is due within so long
AT_ONCE = 16  # arrivals taken in, and studies in hand: the pool's processes do the work, and share it fairly


class Worker:
    """One worker of one site; `run` returns when `stop` was called."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._in_hand: dict[Hashable, float] = {}
        self._failed: dict[Hashable, float] = {}
        self._lock = threading.Lock()
        self._clock = Clock()
        self._clock.look(time.time(), time.monotonic())
        self._tidying = Retention(site, self._clock)
        self._before: set[Hashable] = set()
        self._unseen = UnreadArrivals()
        self._glances = ThreadPoolExecutor(1, thread_name_prefix="glance")
        self._intake = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="intake")
        self._stages = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="stage")
        self._slots = {
            d.name: ThreadPoolExecutor(d.slots, thread_name_prefix=f"to-{d.name}")
            for d in site.settings.destination
        }
        with site.ledger.reading() as look:
            self._breakers = {
                d.name: Breaker(deliveries.down_since(look, d.name)) for d in site.settings.destination
            }
        self._intake_of_orders = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="intake-of-orders")
        self._upkeep = ThreadPoolExecutor(1, thread_name_prefix="upkeep")
        self._heartbeat = Heartbeat(site.ledger)
        self._agenda = Agenda()
        self._stranded: set[str] = set()
        self._desk = OrderScheduler(site, self)

    def stop(self) -> None:
        """Ask the worker to end; what is in hand is done again after the next start."""
        self._stopping.set()
        self._wake.set()

    def is_idle(self) -> bool:
        """Tell whether nothing is in hand."""
        return not self._keys_in_hand()

    def run(self, *, until_idle: bool = False) -> None:
        """Do what is due until told to stop, or until nothing is due within `IDLE_SECONDS`."""
        self._heartbeat.beat()
        reconcile(self._site, self._heartbeat.beat)
        self._desk.open()
        emit(Event.WORKER_STARTED, spool=self._site.spool.root, workers=self._site.pool.size)
        self._site.pool.warm(load_encodings)
        with ExitStack() as stack:
            stack.callback(emit, Event.WORKER_STOPPED)
            stack.callback(self._site.pool.close)
            stack.callback(self._site.aside.close)
            for room in (self._site.spool.arrivals, self._site.spool.run):
                stack.enter_context(ArrivalNotifier(room, self._wake.set))
            stack.enter_context(WorkAhead(self._site, self._is_being_prepared))
            while not self._stopping.is_set():
                self._wake.clear()
                self.round()
                if until_idle and self._has_nothing_to_do():
                    break
                at_most = ORDER_POLL_SECONDS if self._desk.is_busy else POLL_SECONDS
                self._wake.wait(self._agenda.seconds(time.time(), at_most))
            self._desk.close()
            slots = self._slots.values()
            intake = (self._glances, self._intake, self._intake_of_orders)
            for executor in (*intake, self._stages, self._upkeep, *slots):
                executor.shutdown(wait=False, cancel_futures=True)

    def round(self) -> None:
        """Ask once what is due, and have it done; a question that fails keeps no other from being asked.

        Raises LedgerDamaged, which only a new start can mend.
        """
        self._watch_clock()
        self._agenda.begin()
        for ask in (self._sweep, self._admit, self._desk.look, self._gather, self._despatch, self._settle):
            self._heartbeat.beat()
            with self._lock:
                self._before = set(self._in_hand)
            try:
                ask()
            except LedgerDamaged:
                raise
            except Exception as error:  # noqa: BLE001  # a bug or a full disk must not end the worker
                self._complain((ask.__name__.strip("_"),), error)

    def _has_nothing_to_do(self) -> bool:
        """Say whether the round that is over has found nothing that is in hand or due soon.

        What has just failed is no reason to stay: it would be one for ever.
        """
        if self._wake.is_set() or self._keys_in_hand() or self._desk.is_busy:
            return False
        return self._agenda.seconds(time.time(), IDLE_SECONDS) >= IDLE_SECONDS

    def _watch_clock(self) -> None:
        """Say that the clock was set, and begin anew what only time ends."""
        if jump := self._clock.look(time.time(), time.monotonic()):
            alarm(Event.CLOCK_JUMPED, seconds=round(jump))
            self._desk.begin_again()

    def _sweep(self) -> None:
        """Take what no hook announced, from receivers that the configuration no longer knows too."""
        for incoming in sorted(self._site.spool.incoming.iterdir()):
            if incoming.is_dir():
                sweep_abandoned(self._site.spool, incoming.name, self._site.receiver(incoming.name))

    def _admit(self) -> None:
        """Enter new arrivals; take in those that are admitted."""
        site = self._site
        with site.ledger.reading() as look:
            known = arrivals.states(look)
        folders = {entry.name for entry in site.spool.arrivals.iterdir() if entry.is_dir()}
        new = folders - known.keys()
        for name in sorted(new):
            self.start(self._intake_for(name), ("admit", name), admission.admit, name)
        with site.ledger.reading() as look:
            admitted = arrivals.names(look, ArrivalState.ADMITTED) & folders
        self._unseen.keep(folders)
        for name in sorted(new | admitted):
            if self._unseen.studies_of(name) is None:
                self.start(self._glances, ("glance", name), self._unseen.look, name)
        for name in self._unseen.in_order(new | admitted, self._unusable()):
            if name in admitted:
                self.start(self._intake_for(name), ("take in", name), admission.take_in, name)

    def _unusable(self) -> list[str]:
        """Return the arrivals that could not be admitted or taken in just now."""
        return [str(key[1]) for key in self._failing() if key[0] in {"admit", "take in"}]

    def _intake_for(self, name: str) -> ThreadPoolExecutor:
        """Return who takes an arrival in: what came for an order, not behind what the modalities send."""
        _, receiver = admission.parse_arrival_name(name)
        return self._intake_of_orders if self._site.is_for_orders(receiver) else self._intake

    def _gather(self) -> None:
        """Have the studies processed that are complete as far as anybody can know."""
        door = at_the_door(self._site, self._unseen, self._unusable())
        with self._site.ledger.reading() as look:
            studies = arrivals.waiting(look)
        for study in studies:
            if self._is_due(study, may_grow=door.may_hold(study)):
                key = ("process", study.receiver, study.study_instance_uid)
                self.start(self._stages, key, line.process, study)

    def _is_being_prepared(self, receiver: str, study_instance_uid: str) -> bool:
        return ("process", receiver, study_instance_uid) in self.in_hand()

    def _is_due(self, study: WaitingStudy, *, may_grow: bool) -> bool:
        receiver = self._site.receiver(study.receiver)
        if receiver is None:
            return True  # the line says aloud what is wrong with it
        at_most = self._site.settings.site.gather_at_most.total_seconds()
        quiet = at_most if may_grow else receiver.quiet_seconds
        times = (study.newest_file_at, study.first_admitted_at, quiet, at_most)
        self._agenda.at(schedule.due_at(*times))
        return schedule.is_due(time.time(), *times)

    def _despatch(self) -> None:
        """Give every destination what it may attempt now; each has its own slots and its own breaker."""
        now = time.time()
        self._take_back(now)
        with self._site.ledger.reading() as look:
            paused = deliveries.paused(look)
        for destination in self._site.settings.destination:
            if destination.name not in paused:
                self._feed(destination, now)
        self._say_what_is_stranded()

    def _say_what_is_stranded(self) -> None:
        """Say once, of each destination, that something waits for it and no configuration names it any more."""
        with self._site.ledger.reading() as look:
            found = rerouting.stranded(look, list(self._slots))
        for name in found.keys() - self._stranded:
            remedy = f"name it again in site.toml, or say storestow reroute {name} NEW"
            alarm(Event.STRANDED, destination=name, deliveries=found[name][0], remedy=remedy)
        self._stranded = set(found)

    def _take_back(self, now: float) -> None:
        """Make deliveries due again that say `sending` although nobody has them in hand: a bug ended theirs."""
        with self._site.ledger.reading() as look:
            sending = deliveries.sending(look)
        lost = sending - {key[2] for key in self._keys_in_hand() if key[0] == "deliver"}
        if lost:
            with self._site.ledger.transaction() as change:
                deliveries.resume(change, lost, now + 12 * POLL_SECONDS)

    def _feed(self, destination: Destination, now: float) -> None:
        breaker = self._breakers[destination.name]
        with self._site.ledger.reading() as look:
            due = deliveries.due(look, destination.name, now, one_a_study=destination.makes_file)
            for_orders = deliveries.for_orders(look)
            later = deliveries.next_due(look, destination.name, now)
        for moment in (later, breaker.try_at if breaker.down_since is not None else None):
            if moment is not None and moment > now:
                self._agenda.at(moment)
        for number in due:
            in_slots = sum(key[:2] == ("deliver", destination.name) for key in self._keys_in_hand())
            if in_slots >= destination.slots or not (number in for_orders or breaker.admits(now)):
                return
            key = ("deliver", destination.name, number)
            breaker.start(number)
            if not self.start(self._slots[destination.name], key, self._deliver, (number, destination)):
                breaker.end(number)

    def _deliver(self, what: tuple[int, Destination], site: Site) -> None:
        number, destination = what
        try:
            self._judge(destination, despatch(number, destination, site), site)
        finally:
            self._breakers[destination.name].end(number)

    def _judge(self, destination: Destination, error: StorestowError | None, site: Site) -> None:
        """Write down whether the destination as a whole can be worked with."""
        breaker = self._breakers[destination.name]
        if error is None:
            if breaker.succeeded():
                self._came_back(destination, site)
            return
        retry_after = error.retry_after_seconds if isinstance(error, Transient) else None
        if breaker.failed(time.time(), retry_after):
            alarm(Event.PEER_DOWN, destination=destination.name, reason=error)
        with site.ledger.transaction() as change:
            _note(change, destination.name, breaker.down_since, str(error), breaker.try_at)

    def _came_back(self, destination: Destination, site: Site) -> None:
        emit(Event.PEER_UP, destination=destination.name)
        with site.ledger.transaction() as change:
            _note(change, destination.name, None, None)
            deliveries.make_due(change, destination.name, time.time())

    def _settle(self) -> None:
        """Settle what has come to an end, and let go what has been kept long enough."""
        with self._site.ledger.reading() as look:
            ready = arrivals.ready_to_settle(look)
            in_use = orders.arrivals_in_use(look)
        for name in ready:
            if name not in in_use:
                self._heartbeat.beat()
                self._attempt(("settle", name), settle.settle, name)
        if self._tidying.is_due(time.monotonic()):  # deleting much takes long, and a share may not answer
            self.start(self._upkeep, ("tidy",), self._tidying.tidy, (time.time(), time.monotonic()))

    def in_hand(self) -> set[Hashable]:
        """Return the keys of what is being done, and of what was when this question began to be asked."""
        with self._lock:
            return set(self._in_hand) | self._before

    def _keys_in_hand(self) -> list[tuple[Hashable, ...]]:
        with self._lock:
            return [key for key in self._in_hand if isinstance(key, tuple)]

    def _failing(self) -> list[tuple[Hashable, ...]]:
        return [key for key in list(self._failed) if isinstance(key, tuple)]

    def start(
        self,
        executor: ThreadPoolExecutor,
        key: Hashable,
        function: Callable[[Subject, Site], None],
        subject: Subject,
    ) -> bool:
        """Have something done by another thread, unless it is in hand or has just failed.

        Nor where it was in hand when the question was asked: what has ended since, the answer does not know of.
        """
        now = time.monotonic()
        with self._lock:
            if key in self._in_hand or key in self._before or self._failed.get(key, 0.0) > now:
                return False
            self._in_hand[key] = now
        executor.submit(self._do, key, function, subject).add_done_callback(
            lambda future: self._put_down(key) if future.cancelled() else None
        )
        return True

    def _attempt(self, key: Hashable, function: Callable[[Subject, Site], None], subject: Subject) -> None:
        """Do something here and now, unless it has just failed."""
        if self._failed.get(key, 0.0) <= time.monotonic():
            self._in_hand[key] = time.monotonic()
            self._do(key, function, subject)

    def attempt(self, key: Hashable, function: Callable[[], None]) -> None:
        """Take a short step here and now, unless it has just failed; it wakes nobody."""
        if self._failed.get(key, 0.0) <= time.monotonic():
            self._try(key, function)

    def _do(self, key: Hashable, function: Callable[[Subject, Site], None], subject: Subject) -> None:
        try:
            self._try(key, lambda: function(subject, self._site))
        finally:
            self._put_down(key)

    def _put_down(self, key: Hashable) -> None:
        with self._lock:
            del self._in_hand[key]
        self._wake.set()

    def _try(self, key: Hashable, function: Callable[[], None]) -> None:
        try:
            function()
            self._failed.pop(key, None)
        except Exception as error:  # noqa: BLE001  # a bug or a full disk must cost one subject's round, not the worker
            if not self._stopping.is_set():
                self._failed[key] = time.monotonic() + 6 * POLL_SECONDS
                self._complain(key, error)

    def _complain(self, key: Hashable, error: Exception) -> None:
        what = " ".join(map(str, key)) if isinstance(key, tuple) else str(key)
        if isinstance(error, StorestowError | OSError):
            alarm(Event.HELD, what=what, reason=error)
        else:
            bug(what, error)


def _note(
    change: Connection, name: str, down_since: float | None, reason: str | None, try_at: float | None = None
) -> None:
    """Note how a destination answers; one that was paused meanwhile keeps the reason that was given for it."""
    values = {} if name in deliveries.paused(change) else {"reason": reason}
    deliveries.set_destination(change, name, down_since=down_since, try_at=try_at, **values)
