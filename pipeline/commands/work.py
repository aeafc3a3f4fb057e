"""`storestow work`: the worker in the foreground, until it is told to end."""

import os
import signal
import sys
import threading

from pipeline.errors import StorestowError
from pipeline.events import Event, alarm
from pipeline.ledger import arrivals, orders
from pipeline.model import OrderState
from pipeline.processes.service_manager import STOPPING, notify
from pipeline.processes.signal_handling import end_by
from pipeline.site.open_site import opened
from pipeline.site.settings import Settings
from pipeline.site.site_ledger import connect
from pipeline.site.worker_refusal import AnotherWorks
from pipeline.worker.worker import Worker

GRACE_SECONDS = 20.0  # Seconds for running transfers, so that less must be asked about after the next start.


def work(settings: Settings) -> None:
    """Run the worker until SIGTERM or SIGINT, then end within the grace period, whatever is still running.

    Ending the process at any moment is safe: the next start continues from the rooms and the ledger.
    """
    with opened(settings) as site:
        worker = Worker(site)
        end_by(worker.stop, signal.SIGTERM, signal.SIGINT)
        code = _run(worker)
        notify(STOPPING)
        worker.end(GRACE_SECONDS)
    sys.stderr.flush()
    os._exit(code)  # Threads that wait for a peer would keep the interpreter from ending.


def work_until_idle(settings: Settings) -> None:
    """Run the worker until nothing is due within a minute; return at once if another one works.

    A hook that came after the last look found the spool taken and started no worker, so this looks once more.
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
    spool = settings.spool
    names = {entry.name for entry in spool.arrivals.iterdir() if entry.is_dir()}
    ledger = connect(settings)
    try:
        with ledger.reading() as connection:
            states = arrivals.states_of(connection, names)
            has_orders = bool(orders.by_state(connection).get(OrderState.OPEN))
    finally:
        ledger.close()
    return has_orders or bool(names - states.keys())


def _run(worker: Worker, *, until_idle: bool = False) -> int:
    """Return the exit code: a new start can correct whatever ends the worker by itself."""
    try:
        worker.run(until_idle=until_idle)
    except StorestowError as error:
        worker.stop()
        alarm(Event.WORKER_STOPPED, reason=error)
        return error.exit_code
    return 0
