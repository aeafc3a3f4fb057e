"""A worker that is dead, or whose loop stands still, is told from one that works by everybody who waits."""

import contextlib
import os
import socket
import sys
import threading
import time

import pytest
from support.machine.dicom_programs import wait_until
from support.sites.beating import beat_once
from support.sites.line_site import working
from support.sites.shim_site import running_shim, settings_of

from pipeline.commands.check import findings
from pipeline.commands.up import SiteProcess
from pipeline.dicom.accession import AccessionNumber
from pipeline.errors import Configuration
from pipeline.ledger import FILE_NAME, Ledger, open_ledger
from pipeline.operate.status import status
from pipeline.orders import place, retrieve
from pipeline.processes.service_manager import ALIVE, READY, Listener, kept_waiting, notify
from pipeline.site import worker_state
from pipeline.site.worker_state import WorkerNotHeard, WorkerState, require_worker, sole_worker, worker_status
from pipeline.spool.spool import Spool
from pipeline.worker import heartbeat


@pytest.fixture
def settings(tmp_path):
    found = settings_of(tmp_path)
    Spool(found.site.spool).prepare()
    open_ledger(found.site.spool)[0].close()
    return found


@pytest.fixture
def spool(settings):
    return Spool(settings.site.spool)


@pytest.fixture
def ledger(settings):
    with contextlib.closing(Ledger(settings.site.spool / FILE_NAME)) as ledger:
        yield ledger


def about_worker(settings):
    (found,) = [finding for finding in findings(settings) if finding.about == "worker"]
    return found


def test_before_its_first_start_it_is_down_and_was_never_heard_of(settings, spool, ledger):
    found = worker_status(settings, ledger)
    assert (found.state, found.seconds, str(found)) == (WorkerState.DOWN, None, "is not running")
    with pytest.raises(WorkerNotHeard, match="the worker is not running"):
        require_worker(settings, ledger)


def test_it_is_up_while_it_holds_the_spool_and_its_loop_beats(settings, spool, ledger):
    with working(settings) as (_, worker):
        worker.round()
        assert worker_status(settings, ledger).state is WorkerState.UP
        assert status(settings, ledger)["worker"]["state"] == "up"
        assert about_worker(settings).level == "ok"
        require_worker(settings, ledger)
    found = worker_status(settings, ledger)
    assert found.state is WorkerState.DOWN
    assert found.is_heard  # it may just be started again
    assert about_worker(settings).level == "note"


def test_one_whose_loop_stands_still_is_stale_although_its_process_is_there(settings, spool, ledger):
    with sole_worker(spool):
        beat_once(spool.root, seconds_ago=worker_state.STALE_SECONDS + 5)
        found = worker_status(settings, ledger)
        assert found.state is WorkerState.STALE
        assert found.seconds >= worker_state.STALE_SECONDS + 5
        assert str(found) == f"does not respond; it was last heard of {found.seconds:.0f} s ago"
        told = status(settings, ledger)["worker"]
        assert told["state"] == "stale"
        assert told["seconds"] >= worker_state.STALE_SECONDS + 5
        assert about_worker(settings).level == "error"
        with pytest.raises(WorkerNotHeard, match="does not respond"):
            require_worker(settings, ledger)


def test_a_clock_that_was_set_back_makes_no_worker_stale(settings, spool, ledger):
    with sole_worker(spool):
        beat_once(spool.root, seconds_ago=-3600)
        assert worker_status(settings, ledger).state is WorkerState.UP


def test_a_loop_beats_no_more_often_than_it_must(settings, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 3600.0)
    with working(settings) as (site, worker):
        counted = []
        real = site.ledger.transaction

        def transaction(*, flushed=True, **how):
            counted.append(flushed)
            return real(flushed=flushed, **how)

        counting = {"transaction": staticmethod(transaction), "history": staticmethod(site.ledger.history)}
        worker._heartbeat._ledger = type("Counting", (), counting)()
        for _ in range(20):
            worker.round()
        assert counted == [False]


def test_who_looks_whether_it_runs_does_not_keep_it_from_starting(settings, spool, ledger):
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            worker_status(settings, ledger)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            with sole_worker(spool):
                pass
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def test_a_second_worker_is_refused(spool):
    with (
        sole_worker(spool),
        pytest.raises(Configuration, match="another worker is running"),
        sole_worker(spool),
    ):
        pass


# --- who waits ------------------------------------------------------------------------------------------------


def test_a_link_is_answered_at_once_where_no_worker_was_heard_of(tmp_path, monkeypatch):
    with running_shim(tmp_path, monkeypatch) as shim:
        beat_once(shim.settings.site.spool, seconds_ago=60)
        began = time.monotonic()
        said = shim.get("/mkiso.php?accession_number=A1")
        assert said.status_code == 503
        assert said.json()["error"] == "receiver not ready"
        assert "nothing was ordered" in said.json()["detail"]
        assert time.monotonic() - began < 5
        assert not shim.orders.asked


def test_a_link_that_waits_is_answered_when_the_worker_falls_silent(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_state, "STALE_SECONDS", 1.0)
    with running_shim(tmp_path, monkeypatch) as shim:  # it is heard of each five seconds
        shim.orders.plan = {}
        said = shim.get("/mkiso.php?accession_number=A1")
    assert said.status_code == 503
    assert "goes on when the worker does" in said.json()["detail"]


def test_retrieve_ends_when_the_worker_falls_silent_and_its_order_stays(settings, spool, ledger):
    placed = place(
        ledger, settings, verb="retrieve", accessions=[AccessionNumber.parse("A1")], destination="publisher"
    )
    beat_once(spool.root, seconds_ago=60)
    with pytest.raises(WorkerNotHeard) as raised:
        retrieve.follow(ledger, placed, lambda _: None, lambda: require_worker(settings, ledger))
    assert raised.value.exit_code == 75
    assert retrieve.look(ledger, placed).ended_at is None


# --- the service manager --------------------------------------------------------------------------------------


@pytest.fixture(params=["a path", "an abstract name"])
def manager(request, tmp_path_factory, monkeypatch):
    """The other end of $NOTIFY_SOCKET, as systemd has it."""
    name = f"{tmp_path_factory.mktemp('n')}/s" if request.param == "a path" else f"\0storestow-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(name)
        end.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name.replace("\0", "@"))
        yield end


def test_the_service_manager_hears_that_the_spool_is_held_and_that_the_loop_lives(manager, settings):
    with working(settings) as (_, worker):
        assert manager.recv(100) == READY.encode()
        worker._heartbeat.beat()
        heard = [manager.recv(100).split(b"\n")[0] for _ in range(2)]  # opening, and the loop
        assert heard == [ALIVE.encode()] * 2


def test_a_long_step_says_that_it_lives_until_it_ends(manager):
    with kept_waiting(60):
        assert manager.recv(100).startswith(ALIVE.encode())
    manager.settimeout(0.2)
    with pytest.raises(TimeoutError):
        manager.recv(100)


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "x" * 300])
def test_a_manager_that_is_not_there_hurts_nobody(address, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify(READY)


SAYS_ONCE = (
    "import sys, time\nfrom pipeline.processes.service_manager import notify\nnotify('WATCHDOG=1')\ntime.sleep(60)"
)


def test_up_starts_a_worker_again_whose_loop_stands_still(capfd):
    listener = Listener()
    part = SiteProcess("worker", (sys.executable, "-c", SAYS_ONCE), listener=listener)
    try:
        part.keep_running(0.0)
        first = part.process
        wait_until(lambda: (part.keep_running(1.0), part.heard_at)[1], what="it says that it lives")
        part.keep_running(60.0)
        assert first.poll() is None
        part.keep_running(62.0)
        assert first.wait(5) == -9
        part.keep_running(63.0)
        part.keep_running(70.0)
        assert part.process is not first
        assert part.process.poll() is None
    finally:
        part.process.kill()
        part.process.wait()
        listener.close()
