"""Send one study's missing instances to one address, in batches and in parallel, with a receipt for each."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

from pipeline.dicomweb import http_status, instance_outcome
from pipeline.dicomweb.http_client import HttpClient, Reply
from pipeline.dicomweb.instance_outcome import InstanceOutcome, InstanceStep
from pipeline.dicomweb.multipart import (
    CHANGED,
    Body,
    DiffersFromPin,
    has_pinned_bytes,
    has_pinned_size,
    new_boundary,
)
from pipeline.dicomweb.qido import FEW, Qido
from pipeline.dicomweb.response import parse
from pipeline.dicomweb.transport_errors import NoReply
from pipeline.errors import PeerUnavailable, StorestowError
from pipeline.model import ARRIVED, InstanceKey, Item, Receipt, ReceiptState

MOST_IN_A_REQUEST = 1000  # Instances in one request; this bounds the reply.
_TRIES_ALONE = 3  # Attempts for an instance the archive failed at.
_TRIES_UNSAID = 2  # Attempts for an instance sent alone that the archive does not mention.
_FRUITLESS = 24  # Requests in a row without result: enough to halve any batch down to one instance.
_COST_OF_A_TIMEOUT = 8  # A time-out counts as so many requests without result, because it takes long.
_FEW = 8  # If at most this many of a batch are missing, they are sent one by one, to find the faulty one.
_SECONDS_AN_INSTANCE = 1.0  # Added to the time-out: the reply comes once the archive's database has all.
_MORE_SECONDS = 0.1  # Until an idle connection is offered again what has been added meanwhile.
_MOST_UNSEEN = (
    1000  # Stored instances not looked up yet; bounds what is sent to an archive that loses what it stores.
)

Batch = tuple[Item, ...]
Posted = Reply | NoReply | DiffersFromPin
More = tuple[Sequence[Item], Sequence[Receipt]]  # What else is to be sent, and receipts of what need not be.


@dataclass(frozen=True, slots=True)
class Pace:
    """The most parallel requests, and the most bytes of instances in one; a larger instance is sent alone."""

    connections: int
    batch_bytes: int


class Upload:
    """Send instances and yield a receipt for each; `attempt` is called before the first byte of a batch.

    Instances that the archive reports as stored are looked up by QIDO-RS, if a batch has more than FEW of them, on
    connections that have nothing to send, because the archive then has all sooner. A batch that fails as a whole
    is halved, and the smaller size stays. Instances that the reply does not mention are looked up by QIDO-RS, and
    only missing ones are sent again. A request breaks off at a file that is not as pinned, and the other instances
    are sent without it. Raises as `Destination.deliver` does, after the current requests have their receipts.
    """

    def __init__(
        self,
        door: HttpClient,
        url: str,
        qido: Qido,
        attempt: Callable[[Sequence[Item]], None],
        pace: Pace,
    ) -> None:
        self._door, self._url, self._qido, self._attempt = door, url, qido, attempt
        self._connections = pace.connections
        self._batch_bytes = pace.batch_bytes
        self._pieces: deque[Batch] = deque()  # Halves of failed batches, which are sent next.
        self._fresh: deque[Item] = deque()
        self._alone: deque[Item] = deque()  # Sent last, when it is known whether others were stored.
        self._tries: Counter[InstanceKey] = Counter()
        self._unseen: deque[list[Receipt]] = deque()  # Of each batch what is stored, and not looked up yet.
        self._stored = 0
        self._fruitless = 0

    def send(self, items: Sequence[Item], more: Callable[[], More]) -> Iterator[Receipt]:
        """Send `items`, all of one study, and yield receipts; the last receipt of an instance counts.

        As long as a connection has nothing to send, `more` is asked again and again what else there is.
        """
        flying: dict[Future[Posted], Batch] = {}
        asked: set[Future[list[Receipt]]] = set()
        stop: StorestowError | None = None
        yield from self._queue(items)
        with (
            ThreadPoolExecutor(self._connections, thread_name_prefix="stow") as pool,
            ThreadPoolExecutor(self._connections, thread_name_prefix="qido") as queries,
        ):
            while True:
                try:
                    if stop is None and len(flying) < self._connections:
                        yield from self._grown(more)
                except StorestowError as error:
                    stop = error
                while stop is None and len(flying) < self._connections and (batch := self._next()):
                    self._attempt(batch)
                    submit = _done if self._is_all(batch) and not flying else pool.submit
                    flying[submit(self._post, batch)] = batch
                while self._unseen and len(asked) < self._queries_beside(len(flying)):
                    asked.add(queries.submit(self._confirmed, self._unseen.popleft()))
                if not (flying or asked):
                    break
                under_way: set[Future[Any]] = {*flying, *asked}
                is_idle = stop is None and len(flying) < self._connections
                wait(under_way, _MORE_SECONDS if is_idle else None, FIRST_COMPLETED)
                yield from _ended(asked)
                for future in [future for future in flying if future.done()]:
                    try:
                        yield from self._answered(flying.pop(future), future.result())
                    except StorestowError as error:
                        stop = stop or error
        if stop:
            raise stop

    def _grown(self, more: Callable[[], More]) -> Iterator[Receipt]:
        """Queue what else there is to send, if no batch waits, and yield the receipts that are known of it."""
        if not (self._pieces or self._fresh):
            items, receipts = more()
            yield from receipts
            yield from self._queue(items)

    def _answered(self, batch: Batch, answer: Posted) -> Iterator[Receipt]:
        """Yield the receipts that are known after a request, and note which instances are to be looked up."""
        stored: list[Receipt] = []
        try:
            for receipt in self._account(batch, answer):
                stored += [receipt] if receipt.state in ARRIVED and not receipt.verified else []
                yield receipt
        finally:
            if len(stored) > FEW:
                self._unseen.append(stored)

    def _queue(self, items: Sequence[Item]) -> Iterator[Receipt]:
        for item in items:
            if has_pinned_size(item):
                self._fresh.append(item)
            else:
                yield instance_outcome.pending(item, "", CHANGED)

    def _next(self) -> Batch:
        """Return the next batch to send, () if nothing is left."""
        if self._pieces:
            return self._pieces.popleft()
        batch: list[Item] = []
        size = 0
        while self._fresh and len(batch) < MOST_IN_A_REQUEST:
            size += self._fresh[0].size
            if batch and size > self._batch_bytes:
                break
            batch.append(self._fresh.popleft())
        if not batch and self._alone:
            batch.append(self._alone.popleft())
        return tuple(batch)

    def _is_all(self, batch: Batch) -> bool:
        """Tell whether a batch is one small instance, and nothing else waits to be sent."""
        is_small = len(batch) == 1 and batch[0].size <= self._batch_bytes
        return is_small and not (self._pieces or self._fresh or self._alone)

    def _post(self, batch: Batch) -> Posted:
        body = Body(batch, new_boundary())
        try:
            return self._door.post(self._url, body, more_seconds=_SECONDS_AN_INSTANCE * len(batch))
        except (NoReply, DiffersFromPin) as error:
            return error

    def _queries_beside(self, flying: int) -> int:
        """Return how many queries there may be beside `flying` requests: one a connection with nothing to send.

        If much has been sent that nobody has looked up, there is one in any case.
        """
        too_many = sum(map(len, self._unseen)) >= _MOST_UNSEEN
        return max(self._connections - flying, int(too_many))

    def _confirmed(self, stored: Sequence[Receipt]) -> list[Receipt]:
        """Return verified receipts of the instances that QIDO-RS finds; the others are looked up at the end."""
        there = self._qido.confirmed(receipt.key for receipt in stored)
        return [replace(receipt, verified=True) for receipt in stored if receipt.key in there]

    def _account(self, batch: Batch, reply: Posted) -> Iterator[Receipt]:
        """Yield the receipts that are known after a request, and queue instances that must be sent again."""
        if isinstance(reply, DiffersFromPin):
            yield from self._without(reply, batch)
            return
        response = parse(reply.body) if isinstance(reply, Reply) else None
        if response is None and isinstance(reply, Reply):
            _raise_if_of_the_archive(reply, self._url)
        verdicts = [(item, instance_outcome.of(item, reply, response)) for item in batch]
        for item, found in verdicts:
            if found.then is not InstanceStep.ASK:
                yield self._noted(item, found)
        for _, found in verdicts:
            if found.then is InstanceStep.PAUSE:
                raise PeerUnavailable(f"{self._url}: {found.receipt.message} ({found.receipt.code})")
        unsaid = tuple(item for item, found in verdicts if found.then is InstanceStep.ASK)
        there = self._qido.among(unsaid, were_sent=True) if unsaid else set()
        self._stored += len(there)
        yield from (instance_outcome.seen(item, ReceiptState.STORED) for item in unsaid if item.key in there)
        missing = tuple(item for item in unsaid if item.key not in there)
        if len(batch) == 1:
            yield from (self._unsaid(item, reply, is_account=response is not None) for item in missing)
        elif missing:
            self._split(batch, missing, reply)
        self._count(reply, settled=len(batch) - len(missing))

    def _without(self, broken_off: DiffersFromPin, batch: Batch) -> Iterator[Receipt]:
        """Yield the receipt of the instance whose file is not as pinned, and queue the others whose files are.

        Instances before it are looked up first: an archive may have stored what was complete in the request.
        """
        yield instance_outcome.pending(broken_off.item, "", str(broken_off))
        number = batch.index(broken_off.item)
        there = self._qido.among(batch[:number], were_sent=True) if number else set()
        self._stored += len(there)
        yield from (instance_outcome.seen(item, ReceiptState.STORED) for item in batch if item.key in there)
        left = [item for item in batch if item is not broken_off.item and item.key not in there]
        proven = tuple(item for item in left if has_pinned_bytes(item))
        yield from (instance_outcome.pending(item, "", CHANGED) for item in left if item not in proven)
        if proven:
            self._pieces.append(proven)

    def _noted(self, item: Item, found: InstanceOutcome) -> Receipt:
        """Return the receipt, and queue the instance again if the archive failed at it."""
        self._stored += found.receipt.state in ARRIVED
        if found.then is InstanceStep.AGAIN:
            self._tries[item.key] += 1
            if self._tries[item.key] < _TRIES_ALONE:
                self._alone.append(item)
            elif self._stored:  # The archive stores others, so the fault is this instance.
                return instance_outcome.refused(item, found.receipt.code, found.receipt.message)
        return found.receipt

    def _unsaid(self, item: Item, reply: Reply | NoReply, *, is_account: bool) -> Receipt:
        """Return the receipt of an instance sent alone without success, and queue it for a second attempt."""
        self._tries[item.key] += 1
        final = instance_outcome.given_up(
            item, reply, is_account=is_account, others_were_stored=bool(self._stored)
        )
        if final.state is ReceiptState.PENDING and self._tries[item.key] < _TRIES_UNSAID:
            self._alone.append(item)
        return final

    def _split(self, batch: Batch, missing: Batch, reply: Reply | NoReply) -> None:
        """Queue missing instances in smaller requests: one by one if most were stored, otherwise in halves."""
        if len(missing) < len(batch) and len(missing) <= _FEW:
            self._pieces.extend((item,) for item in missing)
            return
        half = (len(missing) + 1) // 2
        self._pieces.extend(piece for piece in (missing[:half], missing[half:]) if piece)
        if isinstance(reply, NoReply) or reply.status in {413, 500}:  # The request may have been too large.
            self._batch_bytes = min(self._batch_bytes, sum(item.size for item in batch) // 2)

    def _count(self, reply: Reply | NoReply, *, settled: int) -> None:
        """Count requests in a row without result; raises PeerUnavailable after too many."""
        if settled:
            self._fruitless = 0
            return
        timed_out = isinstance(reply, NoReply) and reply.timed_out
        self._fruitless += _COST_OF_A_TIMEOUT if timed_out else 1
        if self._fruitless >= _FRUITLESS:
            last = str(reply) if isinstance(reply, NoReply) else f"the last answer was HTTP {reply.status}"
            raise PeerUnavailable(f"{self._url} takes nothing and gives no account; {last}")


def _done(post: Callable[[Batch], Posted], batch: Batch) -> Future[Posted]:
    """Send in this thread, on the connection that has asked: another thread would have to open its own."""
    future: Future[Posted] = Future()
    try:
        future.set_result(post(batch))
    except StorestowError as error:
        future.set_exception(error)
    return future


def _ended(asked: set[Future[list[Receipt]]]) -> Iterator[Receipt]:
    """Yield the receipts from queries that have ended, and remove these queries from `asked`."""
    for question in [question for question in asked if question.done()]:
        asked.remove(question)
        yield from question.result()


def _raise_if_of_the_archive(reply: Reply, url: str) -> None:
    if problem := http_status.of_the_archive(reply, url, time.time()):
        raise problem
