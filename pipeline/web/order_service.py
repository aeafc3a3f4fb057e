"""Place orders and look at them. Every method may wait for the disk: call it through `ask`."""

import asyncio
import contextlib
import hashlib
import hmac
import threading
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from pipeline import orders
from pipeline.errors import Configuration, Transient, Usage
from pipeline.events import Event, alarm
from pipeline.ledger import Ledger, order_queries
from pipeline.ledger.tables import instance, order_study, retrieved
from pipeline.model import OrderError, OrderState
from pipeline.orders import OrderLimit, OrderView, PlacedOrder, TooManyOrders
from pipeline.site.settings import Settings
from pipeline.site.site_ledger import connect
from pipeline.site.worker_state import WorkerNotHeard, require_worker
from pipeline.web.http_errors import INVALID_PARAMETER, TOO_MANY, HttpError, kind_of
from pipeline.web.order_request import OrderRequest, Verb

P = ParamSpec("P")
T = TypeVar("T")

LOOK_SECONDS = 0.05  # Between two looks for the ends of all orders for which clients wait.
LONGEST_WAIT = 1.0  # Seconds until the whole state of an open order is looked at again.
MOST_FILES = 8  # Files that are tried for the patient's name.


class CurrentLedger:
    """One open ledger for all threads; a thread that still uses an earlier ledger may finish with it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._ledger: Ledger | None = None
        self._identity: Hashable = None

    def open(self) -> Ledger:
        """Return the ledger, opened anew if another file has taken its place.

        Raises Transient if there is none, or none that the worker has made.
        """
        with self._lock:
            ledger = self._found()
            # Its identity is asked for before it is opened: if it is replaced meanwhile, it is opened once more.
            identity = ledger.identity()
            if self._ledger is not None and identity != self._identity:
                self._ledger.close()
                self._ledger = None
                ledger = self._found()
            if identity is None:
                raise Transient(f"{ledger.name} does not exist yet; start the worker")
            if self._ledger is None:
                self._ledger, self._identity = _required(ledger), identity
            return self._ledger

    def close(self) -> None:
        """Close the ledger if it is open."""
        with self._lock:
            if self._ledger is not None:
                self._ledger.close()
                self._ledger = None

    def _found(self) -> Ledger:
        """Return the open ledger, else one to open; raises Transient where there is a second one in a file."""
        try:
            if self._ledger is not None:
                self._ledger.require_no_file(self._settings.site.spool)
            return self._ledger or connect(self._settings)
        except Configuration as error:
            raise Transient(str(error)) from error


def _required(ledger: Ledger) -> Ledger:
    try:
        ledger.require_tables()
    except (Configuration, Transient) as error:
        ledger.close()
        raise Transient(str(error)) from error
    return ledger


class _OrderEnds:
    """Tell waiting clients when their orders end: one short question for all of them, however many they are."""

    def __init__(self, ledger: Callable[[], Ledger]) -> None:
        self._ledger = ledger
        self._waiting: dict[asyncio.Future[None], int] = {}
        self._looking: asyncio.Task[None] | None = None

    async def wait(self, number: int, seconds: float) -> None:
        """Return when the order has ended, at the latest after `seconds`."""
        told = asyncio.get_running_loop().create_future()
        self._waiting[told] = number
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            await asyncio.wait([told], timeout=seconds)
        finally:
            del self._waiting[told]

    async def _look(self) -> None:
        with contextlib.suppress(Transient):  # Who waits looks at the order after `seconds`, and reports that.
            while numbers := set(self._waiting.values()):
                ended = await run_in_threadpool(self._ended, numbers)
                for told, number in self._waiting.items():
                    if number in ended and not told.done():
                        told.set_result(None)
                await asyncio.sleep(LOOK_SECONDS)

    def _ended(self, numbers: Collection[int]) -> set[int]:
        with self._ledger().reading() as connection:
            return order_queries.ended(connection, numbers)


async def ask(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `function` in another thread; errors of the ledger become HttpError, with details in the log only."""
    try:
        return await run_in_threadpool(function, *args, **kwargs)
    except Transient as error:
        alarm(Event.HELD, what="shim", reason=error)
        detail = "the gateway cannot use its ledger now"
        raise HttpError(kind_of(OrderError.RECEIVER_NOT_READY), detail) from error


class OrderService:
    """The orders of one site. The worker makes the ledger; until then no order can be placed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.spool = settings.spool
        self._present = CurrentLedger(settings)
        self._ends = _OrderEnds(self.ledger)
        self._limit = OrderLimit(tuple(map(str, Verb)), settings.shim.max_concurrent)

    def ledger(self) -> Ledger:
        """Return the current ledger in the spool; raises Transient before the worker has made it."""
        return self._present.open()

    def close(self) -> None:
        """Close the ledger, after the last request."""
        self._present.close()

    def place(self, wish: OrderRequest, *, for_the_rest: bool = False) -> PlacedOrder:
        """Place an order, or find the one that serves the same request; raises HttpError.

        A client that asks `for_the_rest` of a file has a part of it, and is served by any order whose file is
        kept.
        """
        ledger = self.ledger()
        self._require_worker(ledger, "nothing was ordered")
        try:
            placed = orders.place(
                ledger,
                _remembering_longer(self.settings) if for_the_rest else self.settings,
                verb=str(wish.verb),
                accessions=wish.accessions,
                destination=wish.destination,
                modalities=wish.modalities,
                container=wish.container,
                missing_allowed=wish.missing_allowed,
                incomplete_allowed=wish.incomplete_allowed,
                again=wish.again,
                allow_identity=wish.allow_identity,
                limit=self._limit,
            )
        except Usage as error:
            raise HttpError(INVALID_PARAMETER, str(error)) from error
        except TooManyOrders as error:
            raise HttpError(TOO_MANY, str(error)) from error
        except Configuration as error:
            raise HttpError(kind_of(OrderError.NOT_CONFIGURED), str(error)) from error
        if self.ledger() is not ledger:
            raise Transient("the ledger was set aside while an order was placed in it; it may be in neither")
        return placed

    def _require_worker(self, ledger: Ledger, effect: str) -> None:
        try:
            require_worker(self.settings, ledger)
        except WorkerNotHeard as error:
            raise HttpError(kind_of(OrderError.RECEIVER_NOT_READY), f"{error}; {effect}") from error

    def known(self, wish: OrderRequest, *, for_the_rest: bool = False) -> OrderView | None:
        """Return the order that `place` would find for a request, None if it would place a new one."""
        with self.ledger().reading() as connection:
            number = orders.known(
                connection,
                _remembering_longer(self.settings) if for_the_rest else self.settings,
                verb=str(wish.verb),
                accessions=wish.accessions,
                destination=wish.destination,
                modalities=wish.modalities,
                container=wish.container,
            )
            return None if number is None else orders.view(connection, number, is_new=False)

    def look(self, number: int, *, is_new: bool = True) -> OrderView | None:
        """Return the state of an order."""
        with self.ledger().reading() as connection:
            return orders.view(connection, number, is_new=is_new)

    def named(self, reference: str, *, is_new: bool = True) -> OrderView | None:
        """Return the order with this reference (`reference_of`), None if there is none."""
        number, _, _ = reference.partition("-")
        if not (number.isascii() and number.isdigit() and len(number) <= 15):
            return None
        view = self.look(int(number), is_new=is_new)
        if view is None or view.verb not in set(Verb):
            return None
        return view if hmac.compare_digest(reference_of(view).encode(), reference.encode()) else None

    def made_one_file(self, number: int) -> bool:
        """Say whether only one file was ever made for the request of this order."""
        with self.ledger().reading() as connection:
            return order_queries.files_made_for(connection, number) == 1

    def files_of(self, number: int) -> Iterator[Path]:
        """Yield the files an order retrieved, as far as they are kept."""
        wanted = (
            select(instance.c.arrival, instance.c.file)
            .join(retrieved, retrieved.c.instance == instance.c.id)
            .join(order_study, order_study.c.retrieval == retrieved.c.retrieval)
            .where(order_study.c.order_id == number)
            .limit(MOST_FILES)
        )
        with self.ledger().reading() as connection:
            rows: list[Any] = list(connection.execute(wanted))
        for row in rows:
            if path := self.spool.find(row.arrival, row.file):
                yield path

    def stands(self, placed: PlacedOrder, wish: OrderRequest) -> OrderView:
        """Return the state of the order that was placed for a request.

        Raises HttpError if the ledger no longer has the order: a rebuilt ledger counts orders from 1 again, and
        the order that has the number now may be another patient's.
        """
        view = self.look(placed.order_id, is_new=placed.is_new)
        if view is None or not _serves(view, wish):
            detail = "the gateway has lost its ledger, and this order with it; ask again"
            raise HttpError(kind_of(OrderError.RECEIVER_NOT_READY), detail)
        if view.state == OrderState.OPEN:
            self._require_worker(self.ledger(), "the order stays, and goes on when the worker does")
        return view

    async def ended(
        self, placed: PlacedOrder, wish: OrderRequest, is_gone: Callable[[], Awaitable[bool]]
    ) -> OrderView | None:
        """Wait for the end of an order and return it, None if the client left first; the order goes on."""
        while not await is_gone():
            view = await ask(self.stands, placed, wish)
            if view.state != OrderState.OPEN:
                return view
            await self._ends.wait(placed.order_id, LONGEST_WAIT)
        return None


def _remembering_longer(settings: Settings) -> Settings:
    longer = max(settings.shim.same_link, settings.site.keep_results)
    return settings.model_copy(update={"shim": settings.shim.model_copy(update={"same_link": longer})})


def _serves(view: OrderView, wish: OrderRequest) -> bool:
    """Tell whether an order was placed for this request, comparing the same values as `orders.place`."""
    return (
        view.verb == wish.verb
        and set(view.accessions) == set(wish.accessions)
        and set(view.modalities) == set(wish.modalities)
        and view.destination == wish.destination
        and view.container == wish.container
    )


def reference_of(view: OrderView) -> str:
    """Return the name of an order in addresses: it reveals nothing, cannot be guessed, and is unique."""
    about = (view.id, view.created_at, view.verb, *view.accessions)
    return f"{view.id}-{hashlib.sha256(repr(about).encode()).hexdigest()[:16]}"
