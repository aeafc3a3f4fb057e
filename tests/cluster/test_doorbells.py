"""Notices between two nodes: what one changes the other sees at once; one that is lost costs seconds, and no more.

Workers are real processes, as the database and the peer are.
"""

import contextlib
import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from sqlalchemy import select, update
from support.machine.dicom_programs import free_port, listens, wait_until
from support.machine.postgresql import PostgresqlServer, postgresql
from support.peers.storage_peer import Received, StoragePeer, storage_peer
from support.sites import ledger_place
from support.sites.acceptance import report, size
from support.sites.cluster_site import ClusterNode, ClusterSite
from support.sites.line_site import instance
from support.sites.notices import Notices, rung
from support.sites.running_nodes import Running, log_of, running

from pipeline import engine
from pipeline.errors import Transient, Usage
from pipeline.ledger import Ledger
from pipeline.ledger.tables import attempt, delivery
from pipeline.ledger.tables import orders as order
from pipeline.model import DeliveryState, OrderStage
from pipeline.operate.drain import drain
from pipeline.operate.pause import pause, resume
from pipeline.operate.retry import retry
from pipeline.orders.finish import cancel
from pipeline.schedule import LONGEST_WAIT
from pipeline.site.settings import Settings, load
from pipeline.site.site_ledger import connect

pytestmark = pytest.mark.programs
SLOTS = 4
SOON = 5.0  # Seconds within which a node must see what another one or a person has changed.
LATER = LONGEST_WAIT - 60  # What is put off for longer than a back-off lasts counts as due: a clock was set back.
KEY = "a-key-nobody-would-guess"
ORDERS = """
[[receiver]]
name = "orders"
ae_title = "ORDERS"
port = {receiver}
mode = "association"
coerce = false
to = []
[pacs]
ae_title = "PACS"
host = "127.0.0.1"
port = {pacs}
calling_ae_title = "ORDERS"
receiver = "orders"
[shim]
port = {shim}
download = "disc"
api_key = "a-key-nobody-would-guess"
"""


@dataclass
class Pair:
    """Two nodes at work with one destination, `pacs`; `ledger` is opened as a command on node A does."""

    a: ClusterNode
    b: ClusterNode
    commands: Running
    peer: StoragePeer
    notices: Notices
    settings: Settings
    ledger: Ledger
    workers: dict[str, Any] = field(default_factory=dict)

    def start(self, one: ClusterNode) -> None:
        """Start a worker, and wait until it has reported; its tables were made by then."""
        log_of(one).write_text("")
        self.workers[one.name] = self.commands.start(one, "work")
        wait_until(lambda: "worker-started" in log_of(one).read_text(), seconds=60, what=f"node {one.name}")

    def ask(self, wanted: Any) -> list[Any]:
        with self.ledger.reading() as look:
            return list(look.scalars(wanted).all())

    def change(self, numbers: list[int], **values: Any) -> None:
        """Change deliveries, of which nobody is told."""
        with self.ledger.transaction() as change:
            change.execute(update(delivery).where(delivery.c.id.in_(numbers)).values(**values))

    def studies(self, folder: Path, count: int) -> list[int]:
        """Let so many studies come to node A and wait for the peer, which is paused; return their deliveries."""
        pause(self.settings, self.ledger, "pacs", "they come first")
        folder.mkdir(exist_ok=True)
        for number in range(count):
            self.a.arrive(instance(folder, f"f{number}", StudyInstanceUID=f"1.2.3.{number}"))
        numbers = select(delivery.c.id).where(delivery.c.state == DeliveryState.WAITING)
        wait_until(lambda: len(self.ask(numbers)) == count, seconds=120, what="all are prepared")
        return sorted(self.ask(numbers))

    def began(self, number: int, since: float) -> float:
        """Return when a delivery was next attempted."""
        later = select(attempt.c.began_at).where(attempt.c.delivery == number, attempt.c.began_at >= since)
        return min(wait_until(lambda: self.ask(later), seconds=60, what=f"delivery {number} is attempted"))

    def state(self, number: int) -> str:
        return str(self.ask(select(delivery.c.state).where(delivery.c.id == number))[0])

    def until_delivered(self, numbers: list[int]) -> None:
        def are_there() -> bool:
            return {self.state(number) for number in numbers} == {DeliveryState.DELIVERED}

        wait_until(are_there, seconds=120, what="all is delivered")


@contextlib.contextmanager
def pair(
    server: PostgresqlServer, folder: Path, *, answer: Callable[[Received], Any] = lambda _: 0, slots: int = SLOTS
) -> Iterator[Pair]:
    with (
        ledger_place.on(server) as address,
        storage_peer(answer=answer) as peer,
        running() as commands,
        contextlib.ExitStack() as stack,
    ):
        site = ClusterSite(folder / "site")
        pacs = {"name": "pacs", "kind": "cstore", "ae_title": "PACS", "host": "127.0.0.1", "port": peer.port}
        pacs |= {"calling_ae_title": "STORESTOW", "slots": slots}
        (folder / "shelf").mkdir()
        disc = {"name": "disc", "kind": "iso", "folder": str(folder / "shelf")}
        about_orders = ORDERS.format(receiver=free_port(), pacs=free_port(), shim=free_port())
        a, b = (site.node(name, destinations=[pacs, disc], more=about_orders) for name in ("a", "b"))
        for one in (a, b):
            one.file.write_text(one.file.read_text().replace('to = ["pacs", "disc"]', 'to = ["pacs"]'))
        settings = load(a.file)
        ledger = connect(settings)
        stack.callback(ledger.close)
        found = Pair(a, b, commands, peer, Notices(address), settings, ledger)
        found.start(b)
        found.start(a)
        yield found


def seconds(found: list[float]) -> str:
    return f"median {statistics.median(found):.2f} s, most {max(found):.2f} s of {len(found)}"


def test_what_is_due_starts_at_once_beside_what_is_put_off_for_hours(postgresql_server, tmp_path):
    count = size(6, 40)
    with pair(postgresql_server, tmp_path) as nodes:
        put_off, *due = nodes.studies(tmp_path / "files", count)
        moment = time.time() + 4
        since = time.time() - 6 * 3600
        values = {"first_attempt_at": since, "attempts": 20, "due_at": time.time() + LATER}
        nodes.change([put_off], state=DeliveryState.DEFERRED, **values)
        nodes.change(due, due_at=moment)
        resume(nodes.settings, nodes.ledger, "pacs")
        nodes.until_delivered(due)
        with nodes.ledger.reading() as look:
            tried = look.execute(select(attempt.c.began_at, attempt.c.ended_at)).all()
        assert nodes.state(put_off) == DeliveryState.DEFERRED
        assert Counter(nodes.peer.uids).most_common(1)[0][1] == 1
        began, ended = (sorted(moments) for moments in zip(*tried, strict=True))
        assert len(began) == len(due)
        free = [moment] * SLOTS + ended[: len(began) - SLOTS]  # Each has its slot when one more has ended.
        late = [at - max(moment, since) for at, since in zip(began, free, strict=True)]
        what = f"one has failed for 6 h and is put off for 59 min; {len(due)} others to it, due at once"
        report(8, f"{what}: each begins after it is due and has a slot by", seconds(late))
        report(8, f"{what}: the last of them begins, {SLOTS} at a time, after", f"{began[-1] - moment:.2f} s")
        assert max(late) < SOON


@pytest.mark.parametrize("are_heard", [True, False], ids=["heard", "lost"])
def test_what_a_person_says_at_one_node_the_other_does(postgresql_server, tmp_path, are_heard):
    rounds = size(2, 10)
    with pair(postgresql_server, tmp_path) as nodes:
        numbers = nodes.studies(tmp_path / "files", 2 * rounds)
        nodes.change(numbers, due_at=time.time() + LATER)
        drain(nodes.settings, nodes.ledger, "a")
        time_of: dict[str, list[float]] = {"resume": [], "retry": []}
        lost = contextlib.nullcontext() if are_heard else nodes.notices.lost()
        with lost:
            for resumed, retried in zip(numbers[::2], numbers[1::2], strict=True):
                nodes.change([resumed], due_at=0.0)
                began = time.time()
                resume(nodes.settings, nodes.ledger, "pacs")
                time_of["resume"].append(nodes.began(resumed, began) - began)
                nodes.until_delivered([resumed])
                nodes.change([retried], state=DeliveryState.REFUSED)
                began = time.time()
                study = nodes.ask(select(delivery.c.study_instance_uid).where(delivery.c.id == retried))
                retry(nodes.ledger, study[0], "pacs", release_guard=False)
                time_of["retry"].append(nodes.began(retried, began) - began)
                nodes.until_delivered([retried])
                pause(nodes.settings, nodes.ledger, "pacs", "again")
        by = nodes.ask(select(attempt.c.node))
        assert set(by) == {"b"}
        assert Counter(nodes.peer.uids).most_common(1)[0][1] == 1
        for what, took in time_of.items():
            how = "heard" if are_heard else "lost: the loop's own look"
            report(8, f"{what} at A is acted upon by B, notices {how}", seconds(took))
            assert not are_heard or max(took) < SOON / 2
            assert max(took) < 2 * SOON  # Lost ones cost the loop's pause, and what else the machine does.


def test_a_pause_at_one_node_stops_all(postgresql_server, tmp_path):
    def slow(_received: Received) -> int:
        threading.Event().wait(0.2)
        return 0

    count = size(20, 60)
    with pair(postgresql_server, tmp_path, answer=slow, slots=2) as nodes:
        numbers = nodes.studies(tmp_path / "files", count)
        resume(nodes.settings, nodes.ledger, "pacs")
        wait_until(lambda: len(nodes.peer.uids) >= count // 4, seconds=60, what="they are under way")
        paused = time.time()
        pause(nodes.settings, nodes.ledger, "pacs", "enough")
        sending = select(delivery.c.id).where(delivery.c.state == DeliveryState.SENDING)
        wait_until(lambda: not nodes.ask(sending), seconds=30, what="those in hand end")
        rung(nodes.ledger, engine.deliver("pacs"))
        with contextlib.suppress(AssertionError):
            wait_until(lambda: nodes.ask(sending), seconds=SOON, what="what must not happen")
        last = max(nodes.ask(select(attempt.c.began_at)))
        left = [number for number in numbers if nodes.state(number) == DeliveryState.WAITING]
        assert len(left) > count // 4
        assert last - paused < SOON
        report(8, "pause at A: the last delivery of any node begins after it", f"{max(0.0, last - paused):.2f} s")
        resume(nodes.settings, nodes.ledger, "pacs")
        nodes.until_delivered(numbers)
        assert Counter(nodes.peer.uids).most_common(1)[0][1] == 1


def test_an_order_placed_at_the_shim_of_one_node_is_begun_by_the_node_that_has_the_orders(
    postgresql_server, tmp_path
):
    with pair(postgresql_server, tmp_path) as nodes:
        nodes.commands.start(nodes.a, "serve")
        port = nodes.settings.shim.port
        wait_until(lambda: listens(port), seconds=60, what="the shim")
        took = []
        for number in range(1, 1 + size(2, 10)):
            where = f"http://127.0.0.1:{port}/api/iso/download?accession_number=A{number}"
            with contextlib.suppress(requests.ReadTimeout):  # The answer comes at the order's end.
                requests.get(where, headers={"X-API-Key": KEY}, timeout=0.2)
            (created,) = wait_until(
                lambda number=number: nodes.ask(select(order.c.created_at).where(order.c.id == number)),
                seconds=30,
                what="it is placed",
            )
            is_begun = select(order.c.id).where(order.c.id == number, order.c.stage != OrderStage.PLACED)
            wait_until(lambda is_begun=is_begun: nodes.ask(is_begun), seconds=30, what="it is begun")
            took.append(time.time() - created)
            wait_until(
                lambda number=number: f"order={number}" in log_of(nodes.b).read_text(),
                seconds=60,
                what="B says so",
            )
            with contextlib.suppress(Usage):
                cancel(nodes.ledger, number, "nobody needs it")
        report(8, "an order placed at A's shim is begun by B", seconds(took))
        assert max(took) < 1.0


def test_notices_that_are_doubled_or_late_or_of_nothing_change_nothing(postgresql_server, tmp_path):
    with pair(postgresql_server, tmp_path) as nodes:
        numbers = nodes.studies(tmp_path / "files", 3)
        resume(nodes.settings, nodes.ledger, "pacs")
        nodes.until_delivered(numbers)
        lanes = (engine.deliver("pacs"), engine.ORDERS, engine.NODES, engine.SETTLE, "no such lane")
        for lane in lanes:
            nodes.notices.write("b", lane, 20)
        wait_until(lambda: not nodes.notices.of("b"), seconds=30, what="they are heard")
        wait_until(lambda: not nodes.notices.of("b", "doing"), seconds=30, what="they are deleted")
        assert Counter(nodes.peer.uids).most_common(1)[0][1] == 1
        assert {nodes.state(number) for number in numbers} == {DeliveryState.DELIVERED}
        for one in (nodes.a, nodes.b):
            assert "Traceback" not in log_of(one).read_text()


def test_a_node_that_is_killed_with_a_notice_in_hand_hears_the_next_one(postgresql_server, tmp_path):
    with pair(postgresql_server, tmp_path) as nodes:
        (number,) = nodes.studies(tmp_path / "files", 1)
        nodes.change([number], due_at=time.time() + LATER)
        drain(nodes.settings, nodes.ledger, "a")
        lane = engine.deliver("pacs")
        with nodes.notices.kept_in_hand():
            rung(nodes.ledger, lane)
            wait_until(lambda: lane in nodes.notices.of("b", "doing"), seconds=30, what="it is in hand")
            nodes.workers["b"].kill()
            nodes.workers["b"].wait()
        nodes.start(nodes.b)
        assert lane in nodes.notices.of("b", "doing"), "it is left as the dead worker had it"
        nodes.change([number], due_at=0.0)
        began = time.time()
        resume(nodes.settings, nodes.ledger, "pacs")
        took = nodes.began(number, began) - began
        assert took < SOON / 2
        report(
            8,
            "B heard a notice and was killed -9: after its start it hears the next one of the lane",
            f"{took:.2f} s",
        )


def test_a_database_that_ends_at_once_silences_nobody_for_long(tmp_path):
    with postgresql() as server, pair(server, tmp_path) as nodes:
        numbers = nodes.studies(tmp_path / "files", 1 + size(1, 5))
        nodes.change(numbers, due_at=time.time() + LATER)
        drain(nodes.settings, nodes.ledger, "a")
        workers = {name: psutil.Process(one.pid) for name, one in nodes.workers.items()}
        back, heard = [], []
        for number in numbers[1:]:
            for one in (nodes.a, nodes.b):
                log_of(one).write_text("")
            server.stop("immediate")
            for one in (nodes.a, nodes.b):
                wait_until(
                    lambda one=one: "notices-lost" in log_of(one).read_text(), seconds=60, what="it says so"
                )
            server.start()
            started = time.time()
            for one in (nodes.a, nodes.b):
                wait_until(
                    lambda one=one: "notices-back" in log_of(one).read_text(), seconds=60, what="it is back"
                )
            back.append(time.time() - started)
            assert [log_of(one).read_text().count("notices-lost") for one in (nodes.a, nodes.b)] == [1, 1]
            nodes.change([number], due_at=0.0)
            began = time.time()
            resume(nodes.settings, nodes.ledger, "pacs")
            heard.append(nodes.began(number, began) - began)
            nodes.until_delivered([number])
            pause(nodes.settings, nodes.ledger, "pacs", "again")
        assert all(process.is_running() for process in workers.values())
        assert max(heard) < SOON / 2
        report(8, "PostgreSQL ended by immediate: both nodes hear again after its start", seconds(back))
        report(8, "resume at A is then acted upon by B", seconds(heard))


def test_nothing_is_told_of_what_was_rolled_back(postgresql_server, tmp_path):
    with pair(postgresql_server, tmp_path) as nodes:
        for worker in nodes.workers.values():
            worker.send_signal(signal.SIGSTOP)
        with contextlib.suppress(Transient), nodes.ledger.transaction() as change:
            nodes.ledger.engine.ring(change, engine.intake("modalities"))
            raise Transient("the disk is full")
        assert nodes.notices.of("b") == []
        for _ in range(3):
            rung(nodes.ledger, engine.intake("modalities"))
        assert nodes.notices.of("b") == ["intake/modalities"] == nodes.notices.of("a")
        for worker in nodes.workers.values():
            worker.send_signal(signal.SIGCONT)
        wait_until(lambda: not nodes.notices.of("b"), seconds=30, what="it is heard")
