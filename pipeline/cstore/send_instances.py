"""Send a consignment by C-STORE, instance by instance, and record the peer's response to each."""

import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from pipeline.cstore.contexts import AssociationGroup, ChosenContext, NoContext, groups_of, name_of
from pipeline.cstore.data_set_stream import DataSetStream, LoadedDataSet, NotAsPinned, outgoing
from pipeline.cstore.message import judged
from pipeline.cstore.pdu_connection import ConnectionLost, Peer
from pipeline.cstore.requestor import Association
from pipeline.cstore.uncompressed import DecodingProcess
from pipeline.dicom.reasons import NextStep
from pipeline.errors import PeerUnavailable, Permanent, Transient
from pipeline.model import ARRIVED, InstanceKey, Item, Receipt, ReceiptState

MOST_AHEAD = 32  # Instances, and bytes, marked as attempted at once: a killed worker may send these once more.
MOST_BYTES_AHEAD = 16 << 20
TRIES = 3  # Attempts for an instance that the peer fails at while it accepts others.
PATIENCE = 8  # Associations lost in a row without one answer, after which sending ends.
COST_OF_SILENCE = 4  # A time-out counts as so many lost associations, because it takes much longer.
LARGEST_READ_AHEAD = 8 << 20  # Bytes of a file that is read ahead and held in memory.
FULL = 3  # Responses "out of resources" in a row, after which the cause is the peer and not an instance.

_PADDED = "its data set had an odd length: padded by one byte (PS3.5 7.1)"

Ready = tuple[Item, ChosenContext]


class StorageScu:
    """The C-STORE SCU: send instances and yield a receipt for each.

    `attempt` is called with a batch of instances before the first byte of them is sent. A broken association
    affects only the current instance: the others continue over a new association, and that instance comes last.
    """

    def __init__(self, peer: Peer, attempt: Callable[[Sequence[Item]], None]) -> None:
        self._peer, self._attempt = peer, attempt
        self._decoding = DecodingProcess()
        self._again: list[Item] = []
        self._tries: Counter[InstanceKey] = Counter()
        self._pending: dict[InstanceKey, str] = {}  # Reasons, by instance, why it cannot be finished now.
        self._ahead: tuple[InstanceKey, LoadedDataSet] | None = None
        self._taken = 0
        self._lost = 0
        self._full = 0

    def send(self, items: Sequence[Item]) -> Iterator[Receipt]:
        """Send `items` and yield a receipt for each attempt; never attempted instances come first.

        An instance that breaks every association then follows the others. Raises as `Destination.deliver` does.
        """
        waiting = sorted(items, key=lambda item: item.attempted)
        with self._decoding:
            while waiting:
                for group in groups_of(waiting):
                    yield from self._send_group(group)
                waiting, self._again = self._again, []
        if self._pending:
            self._give_up(len(items))

    def _give_up(self, count: int) -> None:
        why = next(iter(self._pending.values()))
        if self._full and not self._taken:
            raise PeerUnavailable(f"{self._peer}: {why}")
        raise Transient(f"{self._peer}: {len(self._pending)} of {count} instances are not through: {why}")

    def _send_group(self, group: AssociationGroup) -> Iterator[Receipt]:
        """Send instances over as many associations as needed, one after the other."""
        left = deque(group.items)
        while left:
            with Association.open(self._peer, group.proposals) as association:
                choices = [(item, group.context_for(item, association.answers)) for item in left]
                ready = deque((item, choice) for item, choice in choices if isinstance(choice, ChosenContext))
                for item, choice in choices:
                    if isinstance(choice, NoContext):
                        yield self._no_context(item, choice)
                yield from self._send_all(ready, association)
            left = deque(item for item, _ in ready)

    def _send_all(self, ready: deque[Ready], association: Association) -> Iterator[Receipt]:
        """Send instances while the association is open, and remove each from `ready` when it is attempted."""
        ahead = 0
        while ready and association.is_open:
            if not ahead:
                ahead = self._announce(ready)
            ahead -= 1
            item, choice = ready.popleft()
            yield self._send_one(item, choice, association, ready[0] if ready else None)
            self._check_patience()

    def _announce(self, ready: deque[Ready]) -> int:
        batch: list[Item] = []
        size = 0
        for item, _ in ready:
            size += item.size
            if batch and (size > MOST_BYTES_AHEAD or len(batch) == MOST_AHEAD):
                break
            batch.append(item)
        self._attempt(batch)
        return len(batch)

    def _send_one(
        self, item: Item, choice: ChosenContext, association: Association, following: Ready | None
    ) -> Receipt:
        """Send one instance and return its receipt; the file of `following` is read while the peer works."""
        uid = item.key.sop_instance_uid
        try:
            with self._data_set(item, choice) as (data, note):
                response = association.store(
                    choice.context, item.sop_class_uid, uid, data, lambda: self._read_ahead(following)
                )
        except NotAsPinned:
            return self._set_aside(item, "", "its file is gone or has changed since it was pinned")
        except Permanent as error:
            return Receipt(item.key, ReceiptState.REFUSED, "", str(error))
        except Transient as error:
            return self._set_aside(item, "", str(error))
        except ConnectionLost as lost:
            self._lost += COST_OF_SILENCE if lost.timed_out else 1
            return self._once_more(Receipt(item.key, ReceiptState.PENDING, "", f"the peer {lost}"), item)
        self._lost = 0
        return self._noted(item, *judged(item, response), note)

    @contextmanager
    def _data_set(self, item: Item, choice: ChosenContext) -> Iterator[tuple[DataSetStream, str]]:
        """Yield the data set to send, and a note for the receipt if it was changed for the peer."""
        ahead, self._ahead = self._ahead, None
        if choice.transfer_syntax == item.transfer_syntax_uid:
            if ahead and ahead[0] == item.key:
                yield ahead[1], _PADDED if ahead[1].is_padded else ""
                return
            with outgoing(item.path, item.sha256) as data:
                yield data, _PADDED if data.is_padded else ""
            return
        with self._decoding.outgoing(item, choice.transfer_syntax) as (data, is_lossy):
            sent, kept = name_of(choice.transfer_syntax), name_of(item.transfer_syntax_uid)
            marked = ", marked as lossy compressed before" if is_lossy else ""
            yield data, f"sent in {sent}{marked}: the peer does not take {kept}"

    def _read_ahead(self, following: Ready | None) -> None:
        if following is None:
            return
        item, choice = following
        if item.size <= LARGEST_READ_AHEAD and choice.transfer_syntax == item.transfer_syntax_uid:
            with contextlib.suppress(NotAsPinned, Permanent):  # The error is reported when this instance is sent.
                self._ahead = item.key, LoadedDataSet(item.path, item.sha256)

    def _noted(self, item: Item, receipt: Receipt, then: NextStep | None, note: str) -> Receipt:
        """Count a response and return its receipt, with `note` in it if the instance has arrived."""
        self._full = self._full + 1 if then is NextStep.PAUSES else 0
        if receipt.state in ARRIVED:
            self._taken += 1
        elif then is NextStep.AGAIN:
            return self._once_more(receipt, item)
        elif receipt.state is ReceiptState.PENDING:
            return self._set_aside(item, receipt.code, receipt.message)
        message = "; ".join(part for part in (receipt.message, note) if part)
        return Receipt(item.key, receipt.state, receipt.code, message, verified=receipt.verified)

    def _once_more(self, receipt: Receipt, item: Item) -> Receipt:
        """Queue an instance that failed once more; after TRIES failures, refuse it if the peer takes others."""
        self._tries[item.key] += 1
        if self._tries[item.key] < TRIES:
            self._again.append(item)
            return receipt
        if self._taken:
            why = f"{receipt.message}, {TRIES} times, while it takes others"
            return Receipt(item.key, ReceiptState.REFUSED, receipt.code, why)
        return self._set_aside(item, receipt.code, receipt.message)

    def _set_aside(self, item: Item, code: str, why: str) -> Receipt:
        self._pending[item.key] = why
        return Receipt(item.key, ReceiptState.PENDING, code, why)

    def _no_context(self, item: Item, choice: NoContext) -> Receipt:
        if choice.for_good:
            return Receipt(item.key, ReceiptState.REFUSED, choice.code, choice.message)
        return self._set_aside(item, choice.code, choice.message)

    def _check_patience(self) -> None:
        if self._full >= FULL:
            raise PeerUnavailable(f"{self._peer}: {next(reversed(self._pending.values()))}")
        if self._lost >= PATIENCE:
            raise Transient(f"{self._peer} breaks off association after association, and answers for no instance")
