"""Many writers of every kind on one ledger at once leave the state that one writer would have left.

Each writer has connections of its own, as a worker on another machine has.
"""

import threading
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from support.sites import ledger_place

from pipeline.ledger import Ledger, arrivals, claims, deliveries, orders, receipts, tallies
from pipeline.ledger.claims import Claimant
from pipeline.ledger.rows import ClaimedDeliveryRow
from pipeline.ledger.scope import LINE
from pipeline.ledger.tables import (
    METADATA,
    arrival,
    attempt,
    delivery,
    instance,
    receipt,
    tally,
)
from pipeline.ledger.tables import (
    orders as order_table,
)
from pipeline.ledger.tallies import TallyKind
from pipeline.model import DeliveryState, InstanceKey, InstanceState, OrderStage, OrderState, Receipt, ReceiptState

WRITERS = 3  # Of each kind.
SLOTS = 1
INSTANCES = 3  # Of each study.
DAY = 86_400.0
# What a writer, a moment or the order of the writers decides; all else must be the same.
FREE = {
    delivery: {"id", "claim", "worker"},
    receipt: {"delivery", "instance"},
    instance: {"id"},
    attempt: {"delivery", "node", "ended_at"},
    order_table: {"id"},
    tally: {"last_at"},
}


def test_the_tables_that_are_compared_are_tables_of_the_ledger():
    assert {table.name for table in FREE} <= METADATA.tables.keys()


class Writers:
    """Writers of one ledger; how many studies and orders each of them makes is known when they have ended."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self.studies = [0] * WRITERS
        self.orders = [0] * WRITERS
        self.most_in_hand = 0
        self._brought: list[list[int]] = [[] for _ in range(WRITERS)]
        self._may_wait = threading.Semaphore(60)  # Studies that may wait for their delivery.
        self._all_brought = threading.Event()
        self._all_consigned = threading.Event()
        self._over = threading.Event()
        self._errors: list[BaseException] = []

    def run(self, seconds: float) -> None:
        """Write for so long, then deliver what is left."""
        makers = [self._thread(self._bring, n) for n in range(WRITERS)]
        makers += [self._thread(self._order, n) for n in range(WRITERS)]
        consigners = [self._thread(self._consign, n) for n in range(WRITERS)]
        others = [self._thread(self._deliver, n) for n in range(WRITERS)]
        self._over.wait(seconds)  # Until then all write, unless one fails.
        self._over.set()
        for threads, ended in ((makers, self._all_brought), (consigners, self._all_consigned)):
            for thread in threads:
                thread.join(60)
                assert not thread.is_alive()
            ended.set()
        for thread in others:
            thread.join(120)
            assert not thread.is_alive()
        if self._errors:
            raise self._errors[0]

    def _thread(self, do: Callable[[Ledger, int], None], writer: int) -> threading.Thread:
        def work() -> None:
            try:
                with closing(ledger_place.ledger_of(self._spool)) as ledger:
                    do(ledger, writer)
            except BaseException as error:
                self._errors.append(error)
                self._over.set()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def _bring(self, ledger: Ledger, writer: int) -> None:
        for number in count():
            while not self._may_wait.acquire(timeout=0.1) and not self._over.is_set():
                pass
            if self._over.is_set():
                break
            bring(ledger, writer, number)
            self._brought[writer].append(number)
            self.studies[writer] += 1

    def _consign(self, ledger: Ledger, writer: int) -> None:
        done = 0
        while not (self._all_brought.is_set() and done == self.studies[writer]) and not self._errors:
            if done < len(self._brought[writer]):
                consign(ledger, writer, self._brought[writer][done])
                done += 1
            else:
                self._all_brought.wait(0.001)

    def _order(self, ledger: Ledger, writer: int) -> None:
        for number in count():
            if self._over.is_set():
                break
            order(ledger, writer, number)
            self.orders[writer] += 1
            with ledger.reading() as connection:
                self.most_in_hand = max(self.most_in_hand, deliveries.in_hand(connection, "archive"))

    def _deliver(self, ledger: Ledger, writer: int) -> None:
        by = Claimant(f"worker-{writer}", f"node-{writer}")
        while not self._errors:
            is_last_look = self._all_consigned.is_set()
            with ledger.reading() as connection:
                due = deliveries.due(connection, "archive", DAY, at_most=5)
                in_hand = deliveries.in_hand(connection, "archive")
            for number in due:
                if deliver(ledger, number, by):
                    self._may_wait.release()
            if is_last_look and not due and not in_hand:
                return


def study(writer: int, number: int) -> str:
    return f"1.2.{writer + 1}.{number + 1}"


def bring(ledger: Ledger, writer: int, number: int) -> None:
    """Admit one arrival and take its instances in, counted in an hour that others count in, too."""
    name = f"{number}-r{writer}-1"
    at = float(number % 7 * tallies.HOUR)
    with ledger.transaction() as connection:
        about = {"receiver": f"r{writer}", "admitted_at": at, "newest_file_at": at}
        arrivals.admit(connection, {"name": name, **about})
    rows = [
        {
            "arrival": name,
            "file": f"CT.{n}",
            "state": InstanceState.RECEIVED,
            "scope": LINE,
            "study_instance_uid": study(writer, number),
            "series_instance_uid": "1.3",
            "sop_instance_uid": f"{study(writer, number)}.{n}",
            "sop_class_uid": "1.4",
            "calling_ae_title": "CT",
            "called_ae_title": "ME",
            "size": 1000,
            "received_sha256": "a",
            "data_set_sha256": "b",
            "transfer_syntax_received": "1.5",
        }
        for n in range(INSTANCES)
    ]
    with ledger.transaction() as connection:
        arrivals.take_in(connection, name, rows)


def consign(ledger: Ledger, writer: int, number: int) -> None:
    """Prepare a study under a claim, and open its delivery."""
    by = Claimant(f"worker-{writer}")
    uid = study(writer, number)
    with ledger.transaction(flushed=False, alone=False) as connection:
        claim = claims.claim_study(connection, f"r{writer}", uid, by)
    assert claim is not None
    pin = {"path": "x", "sha256": "x", "size": 1000, "transfer_syntax_uid": "1.5", "encoding": "none"}
    with ledger.transaction() as connection:
        claims.require_study(connection, claim)
        found = connection.scalars(select(instance.c.id).where(instance.c.study_instance_uid == uid)).all()
        about = {"destination": "archive", "receiver": f"r{writer}", "study_instance_uid": uid}
        pins = [{"instance": identity, **pin} for identity in found]
        deliveries.consign(connection, {**about, "created_at": 0.0, "due_at": 0.0}, pins)
        connection.execute(
            instance.update().where(instance.c.study_instance_uid == uid).values(consigned=True, state="passed")
        )
        claims.release_study(connection, claim)


def deliver(ledger: Ledger, number: int, by: Claimant) -> bool:
    """Attempt a delivery once, and say whether it arrived; every third study is deferred at its first attempt."""
    with ledger.transaction() as connection:
        mine = deliveries.claim(connection, number, 1.0, by, slots=SLOTS)
    if mine is None:
        return False
    if mine.attempts == 1 and int(mine.study_instance_uid.rpartition(".")[2]) % 3 == 0:
        with ledger.transaction() as connection:
            claims.require_delivery(connection, mine)
            deliveries.finish(connection, number, DeliveryState.DEFERRED, "not now", due_at=2.0)
        return False
    for key, identity in items(ledger, mine):
        with ledger.transaction(flushed=False, alone=False) as connection:
            claims.require_delivery(connection, mine)
            answer = Receipt(key, ReceiptState.STORED, "0x0000", verified=True)
            receipts.record(connection, number, {identity: answer}, 3.0)
    with ledger.transaction() as connection:
        claims.require_delivery(connection, mine)
        deliveries.finish(connection, number, DeliveryState.DELIVERED, None, finished_at=4.0)
    return True


def items(ledger: Ledger, mine: ClaimedDeliveryRow) -> list[tuple[InstanceKey, int]]:
    with ledger.reading() as connection:
        found = connection.execute(
            select(instance)
            .join(receipt, receipt.c.instance == instance.c.id)
            .where(receipt.c.delivery == mine.id)
        ).all()
    return [
        (InstanceKey(row.study_instance_uid, row.series_instance_uid, row.sop_instance_uid), row.id)
        for row in found
    ]


def order(ledger: Ledger, writer: int, number: int) -> None:
    """Place an order, take it through a stage and end it, counted with those of the others."""
    about = {
        "key": f"{writer}/{number}",
        "verb": "print",
        "accessions": ["A1"],
        "modalities": [],
        "destination": "disc",
    }
    with ledger.transaction() as connection:
        placed = orders.enter(connection, now=0.0, **about)
    with ledger.transaction() as connection:
        assert orders.set_stage(connection, placed, OrderStage.RECEIVING)
    with ledger.transaction() as connection:
        orders.change_row(connection, placed, state=OrderState.DONE, ended_at=1.0)
        tallies.add(connection, 0.0, TallyKind.ORDER, "disc", OrderState.DONE)


def end_state(ledger: Ledger) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of the compared tables, without what writers and moments decide."""
    found = {}
    with ledger.reading() as connection:
        for table in (arrival, *FREE):
            columns = [column for column in table.c if column.name not in FREE.get(table, set())]
            rows = connection.execute(select(*columns)).all()
            found[table.name] = sorted((tuple(row) for row in rows), key=repr)
    return found


@pytest.mark.both_databases
@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=pytest.mark.long)])
def test_writers_at_once_leave_what_one_writer_leaves(seconds: float, tmp_path: Path) -> None:
    at_once, alone = tmp_path / "at-once", tmp_path / "alone"
    for spool in (at_once, alone):
        spool.mkdir()
    ledger, _ = ledger_place.opened(at_once)
    writers = Writers(at_once)
    with closing(ledger):
        writers.run(seconds)
        found = end_state(ledger)
    print(f"{writers.studies} studies, {writers.orders} orders, {len(found['attempt'])} attempts in {seconds} s")
    assert all(writers.studies)
    assert all(writers.orders)
    assert 0 < writers.most_in_hand <= SLOTS
    ledger_place.lose(at_once)
    ledger, _ = ledger_place.opened(alone)
    with closing(ledger):
        write_alone(ledger, writers)
        expected = end_state(ledger)
    for name, rows in expected.items():
        assert found[name] == rows, name


def write_alone(ledger: Ledger, writers: Writers) -> None:
    """Write what the writers have written, one after the other."""
    for writer in range(WRITERS):
        for number in range(writers.studies[writer]):
            bring(ledger, writer, number)
            consign(ledger, writer, number)
        for number in range(writers.orders[writer]):
            order(ledger, writer, number)
    with ledger.reading() as connection:
        opened = connection.scalars(select(delivery.c.id)).all()
    for number in opened:
        for _ in range(2):
            deliver(ledger, number, Claimant())
