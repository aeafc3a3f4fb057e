"""Whether the parts of the site run on this machine: worker, receivers, HTTP. No peer is asked."""

import socket
from typing import NamedTuple

from pipeline.ledger import Ledger
from pipeline.receiving.lock import is_up
from pipeline.site.settings import Settings
from pipeline.site.worker_state import WorkerState, worker_status

_CONNECT_SECONDS = 5.0


class OwnPart(NamedTuple):
    """A part by its name, whether it runs, and in words what else is known."""

    name: str
    runs: bool
    detail: str


def parts_of(settings: Settings, ledger: Ledger) -> list[OwnPart]:
    """Return every part that should run; raises Transient if the ledger cannot be read."""
    spool, shim = settings.spool, settings.shim
    worker = worker_status(settings, ledger)
    parts = [OwnPart("worker", worker.state is WorkerState.UP, str(worker))]
    parts += [
        OwnPart(f"receiver {receiver.name}", is_up(spool, receiver), f"port {receiver.port}")
        for receiver in settings.receiver
    ]
    if settings.has_shim:
        parts.append(OwnPart("shim", _accepts(shim.host, shim.port), f"port {shim.port}"))
    return parts


def _accepts(host: str, port: int) -> bool:
    """Say whether something accepts connections there; Linux takes the address of all as its own."""
    try:
        with socket.create_connection((host, port), _CONNECT_SECONDS):
            return True
    except OSError:
        return False
