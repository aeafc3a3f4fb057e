"""Run the loop that finds what is due and starts it, and wake the loop when a folder arrives.

The rooms and the ledger are the truth; a notice from the file system only wakes the loop earlier. Every whole
round asks the same questions, so it finds work that was interrupted at any moment. A round between two whole ones,
after an arrival or a job that has ended, asks only for the next stages of the line.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from watchdog.events import DirCreatedEvent, DirMovedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from pipeline.events import Event, emit
from pipeline.ledger import LedgerDamaged
from pipeline.line.line import Line
from pipeline.orders.scheduler import OrderScheduler
from pipeline.processes.jobs import JobKey, JobKind, Jobs, report_failure
from pipeline.receiving.sweep import sweep_abandoned
from pipeline.schedule import Agenda
from pipeline.sending import send_steps
from pipeline.site.site import Site
from pipeline.worker.heartbeat import Heartbeat, LedgerReplaced
from pipeline.worker.take_over import leave, take_over
from pipeline.worker.upkeep import Upkeep

POLL_SECONDS = 5.0
# While jobs end, rounds take a fifth of a core at most: the pause is this many times as long as the round before.
TIMES_THE_ROUND = 4
LONGEST_PAUSE = 0.1  # Seconds.
_ORDERS = "orders"  # What one node of several does at a time.
# Seconds between looks while orders are open, because a person watches, and while nobody hears this node.
POLL_SECONDS_SOON = 1.0
# The longest time for telling the ledger that this worker ends. Otherwise others wait until it counts as lost.
LEAVE_SECONDS = 5.0
IDLE_SECONDS = 60.0  # A worker that runs until it is idle waits for what is due within this time.

WAITS_ELSEWHERE = {JobKind.MOVE, JobKind.WATCH}  # Jobs that touch no room.
LONGEST_JOBS_SECONDS = 120.0  # Seconds for other jobs to end after a standby has taken over.


class Worker:
    """One worker of one site; `run` returns after `stop` was called."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._wake = threading.Event()
        self._asks_all = threading.Event()  # A command has changed something: the next round is a whole one.
        self._stopping = threading.Event()
        self._jobs = Jobs(self._wake.set)
        self._agenda = Agenda()
        self._heartbeat = Heartbeat(site)
        self._was_cut_off = False
        self._history = ""  # That of the ledger with which the rooms were compared.
        self._replaced_at: float | None = None  # Monotonic time at which another one was met.
        self._upkeep = Upkeep(site, self._jobs)
        self._line = Line(site, self._jobs, self._agenda, self._heartbeat.beat, self._look_at_order)
        self._orders = OrderScheduler(site, self._jobs, {send_steps.VERB: send_steps}, self._line.fill_slots)
        self._heartbeat.doors = [self._line.at_the_door, self._orders.at_the_door]

    def stop(self) -> None:
        """Ask the worker to end; interrupted work is done again after the next start."""
        self._jobs.close()
        self._stopping.set()
        self._wake.set()

    def is_idle(self) -> bool:
        """Tell whether no work is running."""
        return not self._jobs.running()

    def end(self, seconds: float) -> None:
        """Wait so many seconds at most for running jobs after `run`, and leave the rest of them to other nodes.

        The worker reports meanwhile, so that nobody takes over what it may still be sending.
        """
        is_over = threading.Event()
        reporting = threading.Thread(target=self._report_until, args=(is_over,), name="ending", daemon=True)
        reporting.start()
        deadline = time.monotonic() + seconds
        while not self.is_idle() and time.monotonic() < deadline:
            time.sleep(0.05)
        is_over.set()
        reporting.join(LEAVE_SECONDS)

    def _report_until(self, is_over: threading.Event) -> None:
        while not is_over.wait(0.2):
            self._heartbeat.beat()
        leave(self._site)

    def run(self, *, until_idle: bool = False) -> None:
        """Do what is due until `stop` is called; if `until_idle`, until nothing is due within `IDLE_SECONDS`."""
        self._heartbeat.beat()
        self._history = self._heartbeat.history
        with self._site.spool.in_use():
            self._line.open()
            self._orders.open()
        emit(Event.WORKER_STARTED, spool=self._site.spool.root, workers=self._site.pool.size)
        with ExitStack() as stack:
            stack.callback(emit, Event.WORKER_STOPPED)
            stack.callback(self._site.pool.close)
            stack.callback(self._site.aside.close)
            stack.enter_context(ArrivalNotifier(self._site.spool.received, self._wake.set))
            stack.enter_context(ArrivalNotifier(self._site.spool.run, self._ask_all))
            stack.enter_context(self._line.work_ahead())
            stack.enter_context(self._site.ledger.engine.listening(self._hear, self._tick))
            next_whole = 0.0
            while not self._stopping.is_set():
                self._wake.clear()
                began = time.monotonic()
                is_whole = until_idle or self._asks_all.is_set() or began >= next_whole or self._orders.is_busy
                if is_whole:
                    self._asks_all.clear()
                self.round(is_whole=is_whole)
                ended = time.monotonic()
                if until_idle and self._has_nothing_to_do():
                    break
                if is_whole:
                    is_urgent = self._orders.is_busy or self._was_cut_off
                    next_whole = began + (POLL_SECONDS_SOON if is_urgent else POLL_SECONDS)
                at_most = max(0.0, next_whole - ended)
                if self._wake.wait(self._agenda.seconds(time.time(), at_most)):
                    # Each job that ends wakes the loop: without a pause the rounds would slow down the jobs.
                    pause = min(TIMES_THE_ROUND * (ended - began), LONGEST_PAUSE)
                    self._stopping.wait(max(0.0, ended + pause - time.monotonic()))
            self._orders.close()
            self._line.close()
            self._upkeep.close()

    def _hear(self, lane: str) -> None:
        """Look at once, because another worker or a person has changed something."""
        self._heartbeat.hear(lane)
        self._ask_all()

    def _look_at_order(self, number: int) -> None:
        self._orders.look_at(number)

    def _tick(self) -> None:
        """Tell all nodes what is due and not begun, in case that a notice of it was lost."""
        self._jobs.take_step(JobKey(JobKind.TICK), self._ring_what_is_due)

    def _ring_what_is_due(self) -> None:
        if lanes := self._line.lanes_due():
            with self._site.ledger.transaction(flushed=False) as change:
                for lane in lanes:
                    self._site.ledger.engine.ring(change, lane)
            self._wake.set()

    def _ask_all(self) -> None:
        self._asks_all.set()
        self._wake.set()

    def round(self, *, is_whole: bool = True) -> None:
        """Find once what is due, and start it; a failing question does not prevent the others.

        A round that is not `is_whole` asks only what arrivals and jobs make due.

        Raises LedgerDamaged and LedgerReplaced, which only a new start can repair.
        """
        if self._upkeep.clock_has_jumped():
            self._orders.begin_again()
        self._agenda.begin()
        self._jobs.begin_list()
        self._heartbeat.beat()
        for name, ask in self._questions(is_whole=is_whole).items():
            self._heartbeat.beat()
            try:
                ask()
            except (LedgerDamaged, LedgerReplaced):
                raise
            except Exception as error:  # noqa: BLE001  # a bug or a full disk must not end the worker
                report_failure(name, error)

    def _questions(self, *, is_whole: bool) -> dict[str, Callable[[], None]]:
        """Return what a round asks, by names; a draining worker only admits what has been received.

        A node that cannot report counts as lost, and others do its work: before anything else it reports again.
        """
        if self._is_cut_off():
            return {"sweep": self._sweep}
        if self._heartbeat.history not in {"", self._history}:
            return {"sweep": self._sweep, "reconcile": self._reconcile_again}
        stages = self._line.stages(is_whole=is_whole)
        if not is_whole and not self._heartbeat.is_draining:
            if any(key.kind is JobKind.DELIVER for key in self._jobs.running()):
                del stages["settle"]  # Nobody waits for it: the next whole round asks it at the latest.
            return stages
        first = {"take over": self._take_over, "sweep": self._sweep}
        if self._heartbeat.is_draining:
            is_at_orders = any(key.kind is JobKind.ORDER for key in self._jobs.running())
            if not is_at_orders:  # Another node would take the same step of the same order.
                self._site.ledger.leave(_ORDERS)
            return {**first, "admit": stages["admit"], **self._upkeep.questions()}
        return {**first, "orders": self._look_at_orders, **stages, **self._upkeep.questions()}

    def _is_cut_off(self) -> bool:
        """Tell whether this node of several could not report; log it when it begins."""
        failure = self._heartbeat.failure if self._site.spool.has_store else None
        if failure and not self._was_cut_off:
            report_failure("report", failure)
        self._was_cut_off = failure is not None
        return self._was_cut_off

    def _reconcile_again(self) -> None:
        """Make the ledger agree with the rooms once nothing is in hand: a standby that took over may lack commits.

        Nothing new is begun until then. Work that takes long is interrupted by a new start of this worker.
        """
        now = time.monotonic()
        self._replaced_at = self._replaced_at or now
        if any(key.kind not in WAITS_ELSEWHERE for key in self._jobs.running()):
            if now - self._replaced_at > LONGEST_JOBS_SECONDS:
                raise LedgerReplaced("a standby has taken over, and work does not end: the next start compares")
            return
        self._line.open()
        about = {"ledger": self._site.ledger.name, "before": self._history, "now": self._heartbeat.history}
        emit(Event.LEDGER_REPLACED, logging.WARNING, **about)
        self._history, self._replaced_at = self._heartbeat.history, None

    def _look_at_orders(self) -> None:
        """Take the due steps of orders, which one node does at a time."""
        if not self._site.spool.has_store or self._site.ledger.holds(_ORDERS):
            self._orders.look()

    def _take_over(self) -> None:
        """Take over what nodes had in hand that report no more."""
        silent, self._heartbeat.silent = self._heartbeat.silent, []
        for name in silent:
            take_over(name, self._site)

    def _has_nothing_to_do(self) -> bool:
        """Say whether the last round found nothing that is running or due soon.

        Work that has just failed does not count: it would keep the worker running for ever.
        """
        if self._wake.is_set() or self._jobs.running() or self._orders.is_busy:
            return False
        return self._agenda.seconds(time.time(), IDLE_SECONDS) >= IDLE_SECONDS

    def _sweep(self) -> None:
        """Admit folders that no hook has announced, also those of receivers that are no longer configured."""
        for incoming in sorted(self._site.spool.incoming.iterdir()):
            if incoming.is_dir():
                name = incoming.name
                sweep = partial(sweep_abandoned, self._site.spool, name, self._site.receiver(name))
                self._jobs.take_step(JobKey(JobKind.SWEEP, name), sweep)


class ArrivalNotifier(FileSystemEventHandler):
    """Call `wake` while the context lasts whenever a folder appears in `folder`; subfolders are not watched."""

    def __init__(self, folder: Path, wake: Callable[[], None]) -> None:
        self._folder = folder
        self._wake = wake
        self._observer = Observer()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Wake for a folder that was moved in; ignore other events."""
        if isinstance(event, DirCreatedEvent | DirMovedEvent):
            self._wake()

    def __enter__(self) -> Self:
        try:
            # Without the filter each look at the rooms, and each file made there, would wake threads for nothing.
            events: list[type[FileSystemEvent]] = [DirCreatedEvent, DirMovedEvent]
            self._observer.schedule(self, str(self._folder), recursive=False, event_filter=events)
            self._observer.start()
        except OSError:
            pass  # The system has no inotify watches left; the worker then only polls.
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._observer.is_alive():
            self._observer.stop()
            self._observer.join()
