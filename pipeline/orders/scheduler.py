"""The worker's desk for orders: which of them are open, which retrieval may begin, what is due now."""

import time
from collections.abc import Callable, Collection, Hashable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

from pipeline.ledger import orders, retrievals
from pipeline.ledger.rows import OrderRow, RetrievalRow
from pipeline.model import OrderError, RetrievalState
from pipeline.orders import c_get, cleanup, retrieval, steps
from pipeline.orders.prepare_with_patient import be_ready
from pipeline.orders.retrieve_study import move
from pipeline.receiving import is_up
from pipeline.site.site import Site

STEPS_AT_ONCE = 4  # orders that ask the PACS or are being prepared
PATIENCE_SECONDS = 30.0  # for our own receiver, which may start a moment after the worker
POLL_SECONDS = 1.0  # while orders are open: somebody looks on


class Hands(Protocol):
    """How the worker has things done: by another thread, or here and now; one that fails keeps no other."""

    def start(
        self, executor: ThreadPoolExecutor, key: Hashable, function: Callable[[int, Site], None], subject: int
    ) -> bool:
        """Have something done by another thread, unless it is in hand or has just failed."""

    def attempt(self, key: Hashable, function: Callable[[], None]) -> None:
        """Take a short step here and now, unless it has just failed."""

    def in_hand(self) -> Collection[Hashable]:
        """Return the keys of what is being done."""


class OrderScheduler:
    """Bring all orders of a site on, a look at a time."""

    def __init__(self, site: Site, hands: Hands) -> None:
        self._site = site
        self._hands = hands
        self._began = time.time()
        self._steps = ThreadPoolExecutor(STEPS_AT_ONCE, thread_name_prefix="order")
        self._moves = ThreadPoolExecutor(site.settings.moves_at_once, thread_name_prefix="move")
        self.is_busy = False

    def open(self) -> None:
        """Take what an earlier worker has left half-done; nobody else works yet."""
        self._began = time.time()
        cleanup.drop_scratch(self._site)
        cleanup.drop_cleared(self._site)
        c_get.take_leftovers(self._site)
        if self._site.settings.pacs:
            self._site.aside.warm(be_ready)  # the first order does not wait for its imports

    def begin_again(self) -> None:
        """Give every open order its whole time from now on: the clock was set, nobody knows how long it took."""
        self._began = time.time()

    def close(self) -> None:
        """Begin nothing more."""
        for executor in (self._steps, self._moves):
            executor.shutdown(wait=False, cancel_futures=True)

    def look(self) -> None:
        """Take every step that is due."""
        now = time.time()
        in_hand = self._hands.in_hand()
        with self._site.ledger.reading() as look:
            self.is_busy = bool(orders.open_ones(look))
            moving = retrievals.in_state(look, RetrievalState.MOVING)
            receiving = retrievals.in_state(look, RetrievalState.RECEIVING)
        for row in moving:
            if ("move", row.id) not in in_hand:
                self._take_back(row)
        for row in receiving:
            self._hands.attempt(("judge", row.id), partial(retrieval.judge, row, self._site, now))
        self._bring_on(now, in_hand)
        self._begin_moves(now)

    def _take_back(self, row: RetrievalRow) -> None:
        """Look again at a retrieval whose worker died: what it started may be sending still."""
        now = time.time()
        values = {"state": RetrievalState.RECEIVING, "finished_at": now, "attempts": max(0, row.attempts - 1)}
        with self._site.ledger.transaction() as change:
            retrievals.change_row(change, row.id, **values)

    def _bring_on(self, now: float, in_hand: Collection[Hashable]) -> None:
        with self._site.ledger.reading() as look:
            open_ones = orders.open_ones(look)
        for order in open_ones:
            if ("order", order.id) not in in_hand:
                self._hands.attempt(("order", order.id), partial(self._bring_one_on, order, now))

    def _bring_one_on(self, order: OrderRow, now: float) -> None:
        if steps.look_at(order, self._site, now, self._began):
            self._hands.start(self._steps, ("order", order.id), steps.take_long_step, order.id)

    def _begin_moves(self, now: float) -> None:
        with self._site.ledger.reading() as look:
            queued = retrievals.in_state(look, RetrievalState.QUEUED)
        at_once = self._site.settings.moves_at_once
        for row in queued:
            under_way = sum(isinstance(key, tuple) and key[0] == "move" for key in self._hands.in_hand())
            if under_way >= at_once:
                return
            if self._can_receive():
                self._hands.start(self._moves, ("move", row.id), move, row.id)
            elif now - max(row.created_at, self._began) > PATIENCE_SECONDS:
                self._refuse(row)

    def _can_receive(self) -> bool:
        pacs = self._site.settings.pacs
        if pacs is None:
            return False
        return pacs.retrieve == "get" or is_up(self._site.spool, self._site.settings.receiver_named(pacs.receiver))

    def _refuse(self, row: RetrievalRow) -> None:
        values = {
            "state": RetrievalState.FAILED,
            "ended_at": time.time(),
            "error_kind": OrderError.RECEIVER_NOT_READY,
            "detail": f"our receiver {self._site.receiver_of_orders} is not running, so nothing can be sent to it",
        }
        with self._site.ledger.transaction() as change:
            retrievals.change_row(change, row.id, **values)
