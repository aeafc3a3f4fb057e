"""Notices between nodes: what is written when, of which tables, and what is refused."""

import contextlib
import functools
import logging
import threading
from contextlib import closing

import pytest
from procrastinate.worker import Worker
from psycopg_pool import AsyncConnectionPool
from support.machine.dicom_programs import wait_until
from support.sites import ledger_place
from support.sites.notices import Notices, rung

from pipeline.engine import intake
from pipeline.engine import procrastinate as bells
from pipeline.engine.alone import Alone
from pipeline.engine.procrastinate import Procrastinate
from pipeline.errors import Configuration, Transient
from pipeline.ledger import Ledger, Server, nodes, open_ledger
from pipeline.ledger.nodes import NodeReport
from pipeline.ledger.postgresql import arguments_of

pytestmark = pytest.mark.programs
NAMES = ("a", "b", "a-host-whose-name-is-as-long-as-the-configuration-lets-it-be-63")


@pytest.fixture
def url(postgresql_server):
    with ledger_place.on(postgresql_server) as address:
        yield address


@pytest.fixture
def notices(url):
    return Notices(url)


def engine_at(url: str, own: str = "") -> Procrastinate:
    return Procrastinate(lambda: arguments_of(Server(url)), own)


@pytest.fixture
def ledger(url, tmp_path):
    """The ledger as the worker of node A has it."""
    ledger, _ = open_ledger(tmp_path, Server(url), engine_at(url, "a"))
    with closing(ledger):
        with ledger.transaction() as change:
            for name in NAMES:
                nodes.report(change, NodeReport(name, name, "1.0", (), 0, ""))
        yield ledger


def test_each_other_node_is_told_once_a_lane_and_its_own_is_not(ledger, notices, url):
    for _ in range(2):
        for receiver in ("ct", "mr"):
            rung(ledger, intake(receiver))
    told = ["intake/ct", "intake/mr"]
    assert [sorted(notices.of(name)) for name in NAMES] == [[], told, told]
    with closing(Ledger(Server(url), engine_at(url))) as of_a_command:
        rung(of_a_command, intake("ct"))
    assert notices.of("a") == ["intake/ct"]


def test_a_node_that_is_lost_is_told_nothing(ledger, notices):
    with ledger.transaction() as change:
        nodes.lose(change, "b", 0.0)
    rung(ledger, intake("ct"))
    assert [notices.of(name) for name in NAMES] == [[], [], ["intake/ct"]]


def test_what_is_rolled_back_tells_nobody(ledger, notices):
    def fails() -> None:
        with ledger.transaction() as change:
            ledger.engine.ring(change, intake("ct"))
            raise Transient("the disk is full")

    with pytest.raises(Transient):
        fails()
    assert notices.of("b") == []


def test_a_notice_that_waits_is_not_heard_before_the_change_it_tells_of_is_committed(
    ledger, url, notices, monkeypatch
):
    # Nothing else has the worker look: no tick, and none of its own looks, which it takes every five seconds.
    monkeypatch.setattr(bells, "_EVERY_TWO_SECONDS", "0 0 1 1 *")
    patient = functools.partialmethod(Worker.__init__, fetch_job_polling_interval=3600.0)
    monkeypatch.setattr(Worker, "__init__", patient)
    rung(ledger, intake("ct"))
    listens, heard = threading.Event(), threading.Event()

    def wake(lane: str) -> None:
        (heard if lane == intake("ct") else listens).set()

    with contextlib.ExitStack() as stack:
        with ledger.transaction() as change:
            ledger.engine.ring(change, intake("ct"))
            stack.enter_context(engine_at(url, "b").listening(wake, lambda: None))
            wait_until(listens.is_set, seconds=30, what="it listens")
            assert not heard.wait(1.0)
            assert notices.of("b") == ["intake/ct"]
        wait_until(heard.is_set, seconds=30, what="it is announced at the commit")


def test_the_tables_of_another_release_are_replaced_only_by_migrate(ledger, url, tmp_path, notices):
    comment = "COMMENT ON SCHEMA procrastinate IS 'storestow: procrastinate 3.9.0, schema 0'"
    notices.execute(comment)
    with pytest.raises(Configuration, match="storestow migrate"):
        open_ledger(tmp_path, Server(url), engine_at(url, "a"))
    ledger.create(has_copy=True)
    rung(ledger, intake("ct"))
    assert notices.of("b") == ["intake/ct"]
    open_ledger(tmp_path, Server(url), engine_at(url, "a"))[0].close()
    assert notices.of("b") == ["intake/ct"], "those of this release stay"


def test_a_schema_that_is_somebody_elses_is_never_replaced(url, tmp_path, notices):
    notices.execute("CREATE SCHEMA procrastinate")
    with closing(Ledger(Server(url), engine_at(url))) as ledger, pytest.raises(Configuration, match="of its own"):
        ledger.create(has_copy=True)


def test_a_command_needs_the_tables_and_not_the_package(url, tmp_path, monkeypatch):
    open_ledger(tmp_path, Server(url), Alone())[0].close()
    with closing(Ledger(Server(url), engine_at(url))) as ledger:
        with pytest.raises(Configuration, match="start a worker of this release first"):
            ledger.require_tables()
        ledger.create()
        monkeypatch.setattr(bells, "import_module", missing)
        ledger.require_tables()
        rung(ledger, intake("ct"))


def missing(name: str) -> None:
    raise ImportError(name)


def test_a_worker_without_the_package_says_what_to_install(url, tmp_path, monkeypatch):
    monkeypatch.setattr(bells, "import_module", missing)
    with pytest.raises(Configuration, match=r"pip install 'storestow\[cluster\]'"):
        open_ledger(tmp_path, Server(url), engine_at(url, "a"))


def test_what_a_dead_worker_had_and_what_nobody_fetches_is_deleted(ledger, notices):
    rung(ledger, intake("ct"))
    rung(ledger, intake("mr"))
    jobs = "procrastinate.procrastinate_jobs"
    notices.execute(f"UPDATE {jobs} SET status = 'doing' WHERE args ->> 'lane' = 'intake/ct'")
    events = "UPDATE procrastinate.procrastinate_events SET at = now() - interval '{}'"
    clear = f"SET search_path TO procrastinate; {bells._CLEAR}"
    notices.execute(events.format("3 minutes"))
    notices.execute(clear)
    assert (notices.of("b", "doing"), notices.of("b")) == ([], ["intake/mr"])
    notices.execute(events.format("2 hours"))
    notices.execute(clear)
    assert notices.of("b") == []


def test_a_server_that_is_not_there_is_said_once_and_ends_nothing(caplog, monkeypatch):
    impatient = functools.partialmethod(AsyncConnectionPool.open, timeout=2)  # Of 30 s.
    monkeypatch.setattr(AsyncConnectionPool, "open", impatient)
    with caplog.at_level(logging.INFO):
        away = Procrastinate(lambda: arguments_of(Server("postgresql:///no?host=/nowhere")), "a")
        with away.listening(lambda _: None, lambda: None):
            wait_until(lambda: "notices-lost" in caplog.text, seconds=60, what="it says so")
        assert caplog.text.count("notices-lost") == 1
        assert "notices" not in {thread.name for thread in threading.enumerate()}
