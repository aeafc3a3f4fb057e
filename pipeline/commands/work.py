"""`storestow work`: the worker in the foreground, until it is told to end."""

import os
import signal
import sys
import time

from pipeline.errors import StorestowError
from pipeline.events import Event, alarm
from pipeline.processes.service_manager import STOPPING, notify
from pipeline.processes.signals import end_by
from pipeline.site.opening import opened
from pipeline.site.settings import Settings
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


def _run(worker: Worker) -> int:
    """Return the exit code: what ends the worker by itself, a new start can mend."""
    try:
        worker.run()
    except StorestowError as error:
        worker.stop()
        alarm(Event.WORKER_STOPPED, reason=error)
        return error.exit_code
    return 0
