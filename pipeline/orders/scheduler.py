"""Schedule orders: look at the open ones, take the steps that are due, and begin retrievals."""

import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

from pipeline.ledger import nodes, orders, retrievals
from pipeline.ledger.rows import OrderRow, RetrievalRow
from pipeline.line.identify import load_reading
from pipeline.line.senders import senders_of
from pipeline.model import OrderError, OrderState, RetrievalState
from pipeline.orders import c_get, cleanup, reception_progress, retrieval, steps
from pipeline.orders.retrieve_study import move
from pipeline.processes.jobs import JobKey, JobKind, Jobs
from pipeline.receiving import is_up
from pipeline.site.site import Site

STEPS_AT_ONCE = 4  # Orders that query the PACS or are being prepared.
PATIENCE_SECONDS = 30.0  # Seconds to wait for our own receiver, which may start a moment after the worker.


class OrderSteps(Protocol):
    """A module with the steps of one kind of order."""

    def look_at(self, order: OrderRow, site: Site, now: float, since: float) -> bool:
        """Take the due step if it is short; return whether a long one is due."""

    def take_long_step(self, number: int, site: Site) -> None:
        """Take the long step that `look_at` reported as due."""


class OrderScheduler:
    """Move all orders of a site forward, step by step; `steps_of` has the steps of verbs that retrieve nothing.

    `fill_slots` starts the deliveries that a long step has opened, so that they do not wait for the loop.
    """

    def __init__(
        self,
        site: Site,
        jobs: Jobs,
        steps_of: Mapping[str, OrderSteps],
        fill_slots: Callable[[], None] = lambda: None,
    ) -> None:
        self._site = site
        self._jobs = jobs
        self._steps_of = steps_of
        self._fill_slots = fill_slots
        self._began = time.time()
        self._steps = ThreadPoolExecutor(STEPS_AT_ONCE, thread_name_prefix="order")
        self._moves = ThreadPoolExecutor(site.settings.moves_at_once, thread_name_prefix="move")
        self._ready: set[str] = set()  # Names of destinations.
        self.is_busy = False

    def open(self) -> None:
        """Delete or admit what an earlier worker has left unfinished; no other worker runs yet."""
        self._began = time.time()
        cleanup.drop_scratch(self._site)
        cleanup.drop_cleared(self._site)
        c_get.take_leftovers(self._site)
        if self._site.settings.pacs is not None:  # Else the first disc would import its modules while it comes.
            self._make_ready({self._site.settings.shim.download})

    def begin_again(self) -> None:
        """Restart the time-out of every open order, because the clock was set and the elapsed time is unknown."""
        self._began = time.time()

    def close(self) -> None:
        """Start no more work."""
        for executor in (self._steps, self._moves):
            executor.shutdown(wait=False, cancel_futures=True)

    def at_the_door(self) -> list[tuple[str, str, int]]:
        """Return what open associations have brought: receiver, Study Instance UID and number of files."""
        pacs = self._site.settings.pacs
        if pacs is None:
            return []
        incoming = self._site.spool.incoming_of(pacs.receiver)
        found = reception_progress.coming_in(incoming, senders_of(self._site.settings))
        return [(pacs.receiver, study, files) for study, files in found.items()]

    def look(self) -> None:
        """Take every step that is due."""
        now = time.time()
        running = self._jobs.running_since_list()
        with self._site.ledger.reading() as connection:
            open_ones = orders.open_ones(connection)
            under_way = retrievals.open_ones(connection)
        if open_ones and not self.is_busy:  # The pool imports its modules while the PACS is asked.
            self._site.pool_for_orders.warm(load_reading)
        awaited = {order.destination for order in open_ones if order.destination is not None}
        self._make_ready(awaited)
        self._site.awaited.intersection_update(awaited)
        self._site.awaited.update(awaited)
        self.is_busy = bool(open_ones)
        for row in under_way:
            is_ours = row.worker in {None, self._site.claimant.worker}
            if row.state == RetrievalState.MOVING and is_ours and JobKey(JobKind.MOVE, row.id) not in running:
                self._reclaim(row)
            if row.state == RetrievalState.RECEIVING:
                self._jobs.take_step(JobKey(JobKind.JUDGE, row.id), partial(retrieval.judge, row, self._site, now))
        if open_ones or under_way:
            self._take_due_steps(now, running)
            self._begin_moves(now)

    def look_at(self, number: int) -> None:
        """Take the step of an order that the end of its delivery has made due; it need not wait for `look`.

        Any thread may call this, as several workers may take the same step at once.
        """
        key = JobKey(JobKind.ORDER, number)
        with self._site.ledger.reading() as connection:
            order = orders.row(connection, number)
        if order is not None and order.state == OrderState.OPEN and key not in self._jobs.running():
            self._jobs.take_step(key, partial(self._take_due_step, order, time.time()))

    def _make_ready(self, names: Collection[str | None]) -> None:
        """Let each of these destinations import, once, the modules it needs: this process keeps them."""
        for destination in self._site.settings.destination:
            if destination.name in names and destination.name not in self._ready:
                self._ready.add(destination.name)
                self._steps.submit(destination.be_ready)

    def _reclaim(self, row: RetrievalRow) -> None:
        with self._site.ledger.transaction() as connection:
            retrievals.let_go(connection, row, time.time())

    def _take_due_steps(self, now: float, running: Collection[JobKey]) -> None:
        with self._site.ledger.reading() as connection:
            open_ones = orders.open_ones(connection)
        for order in open_ones:
            key = JobKey(JobKind.ORDER, order.id)
            if key not in running:
                self._jobs.take_step(key, partial(self._take_due_step, order, now))

    def _take_due_step(self, order: OrderRow, now: float) -> None:
        kind = self._steps_of.get(order.verb, steps)
        if kind.look_at(order, self._site, now, self._began):
            step = partial(self._take_long_step, kind, order.id)
            self._jobs.start(self._steps, JobKey(JobKind.ORDER, order.id), step)

    def _take_long_step(self, kind: OrderSteps, number: int) -> None:
        kind.take_long_step(number, self._site)
        self._fill_slots()

    def _begin_moves(self, now: float) -> None:
        with self._site.ledger.reading() as connection:
            queued = [row for row in retrievals.open_ones(connection) if row.state == RetrievalState.QUEUED]
        at_once = self._site.settings.moves_at_once
        for row in queued:
            under_way = sum(key.kind is JobKind.MOVE for key in self._jobs.running_since_list())
            if under_way >= at_once:
                return
            if self._can_receive():
                self._jobs.start(self._moves, JobKey(JobKind.MOVE, row.id), partial(move, row.id, self._site))
            elif now - max(row.created_at, self._began) > PATIENCE_SECONDS:
                self._refuse(row)

    def _can_receive(self) -> bool:
        pacs = self._site.settings.pacs
        if pacs is None:
            return False
        receiver = self._site.settings.receiver_named(pacs.receiver)
        if pacs.retrieve == "get" or is_up(self._site.spool, receiver):
            return True
        if not self._site.spool.has_store:
            return False
        with self._site.ledger.reading() as connection:  # Its address leads to any node where it is up.
            return receiver.name in nodes.others(connection, self._site.claimant.worker).receivers

    def _refuse(self, row: RetrievalRow) -> None:
        values = {
            "state": RetrievalState.FAILED,
            "ended_at": time.time(),
            "error_kind": OrderError.RECEIVER_NOT_READY,
            "detail": f"our receiver {self._site.receiver_of_orders} is not running, so nothing can be sent to it",
        }
        with self._site.ledger.transaction() as connection:
            retrievals.change_row(connection, row.id, **values)
