"""`storestow work`: the worker in the foreground, until it is told to end."""

import os
import signal
import sys
import threading
import time

from pipeline.errors import StorestowError
from pipeline.events import Event, alarm
from pipeline.ledger import FILE_NAME, Ledger, arrivals, orders
from pipeline.model import OrderState
from pipeline.processes.end_on_signal import end_by
from pipeline.processes.service_manager import STOPPING, notify
from pipeline.site.open_site import opened
from pipeline.site.settings import Settings
from pipeline.site.worker_state import AnotherWorks
from pipeline.spool.spool import Spool
from pipeline.worker.worker import Worker

GRACE_SECONDS = 20.0  # for what is being sent, so that less has to be asked about after the next start


def work(settings: Settings) -> None:
    """Run the worker until SIGTERM or SIGINT, then end within the grace whatever is still in hand.

    Ending the process outright is safe because a kill at any moment is: the next start goes on from the
    rooms and the ledger.
    """
    with opened(settings) as site:
        worker = Worker(site)
        end_by(worker.stop, signal.SIGTERM, signal.SIGINT)
        code = _run(worker)
        notify(STOPPING)
        deadline = time.monotonic() + GRACE_SECONDS
        while not worker.is_idle() and time.monotonic() < deadline:
            time.sleep(0.05)
    sys.stderr.flush()
    os._exit(code)  # threads that wait for a peer would keep the interpreter from ending


def work_until_idle(settings: Settings) -> None:
    """Run the worker until nothing is due within a minute; return at once where another one works.

    What came after its last look has found the spool taken and started nobody, so it looks once more afterwards.
    """
    code = 0
    is_told_to_end = threading.Event()
    workers: list[Worker] = []

    def end() -> None:
        is_told_to_end.set()
        for worker in workers:
            worker.stop()

    end_by(end, signal.SIGTERM, signal.SIGINT)
    while not code and not is_told_to_end.is_set():
        try:
            with opened(settings) as site:
                workers.append(Worker(site))
                code = _run(workers[-1], until_idle=True)
        except AnotherWorks:
            break
        if not _has_something_new(settings):
            break
    sys.stderr.flush()
    os._exit(code)


def _has_something_new(settings: Settings) -> bool:
    """Say whether an arrival has come, or an order was placed, that no worker has seen."""
    spool = Spool(settings.site.spool)
    ledger = Ledger(spool.root / FILE_NAME)
    try:
        with ledger.reading() as look:
            states = arrivals.states(look)
            has_orders = bool(orders.by_state(look).get(OrderState.OPEN))
    finally:
        ledger.close()
    names = {entry.name for entry in spool.arrivals.iterdir() if entry.is_dir()}
    return has_orders or bool(names - states.keys())


def _run(worker: Worker, *, until_idle: bool = False) -> int:
    """Return the exit code: what ends the worker by itself, a new start can mend."""
    try:
        worker.run(until_idle=until_idle)
    except StorestowError as error:
        worker.stop()
        alarm(Event.WORKER_STOPPED, reason=error)
        return error.exit_code
    return 0
