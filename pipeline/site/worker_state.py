"""Whether the worker of this machine is running: it holds the lock, and its loop reported a moment ago."""

import contextlib
import fcntl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from pipeline.errors import Transient
from pipeline.ledger import Ledger, heartbeats
from pipeline.site.node import NodeState, claimant_of, node_statuses
from pipeline.site.settings import Settings
from pipeline.site.worker_refusal import AnotherWorks
from pipeline.spool.spool import Spool

BEAT_SECONDS = 5.0
STALE_SECONDS = 20.0
_LOCK_NAME = "worker.lock"
_LOCK_TRIES, _LOCK_PAUSE = 10, 0.1  # A process that only tests the lock holds it for a moment.


class WorkerState(StrEnum):
    """`up`; `stale`: the process exists, but its loop stands still; `down`: there is no process."""

    UP = "up"
    STALE = "stale"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """The worker's state, and the seconds since its last report (None: it never reported)."""

    state: WorkerState
    seconds: float | None

    @property
    def is_heard(self) -> bool:
        """Say whether an order placed now is handled soon; a restarting worker counts."""
        return self.seconds is not None and self.seconds < STALE_SECONDS

    def __str__(self) -> str:
        """Return the state in words."""
        if self.state is WorkerState.UP:
            return "is running"
        since = "" if self.seconds is None else f"; it was last heard of {self.seconds:.0f} s ago"
        return f"{'does not respond' if self.state is WorkerState.STALE else 'is not running'}{since}"


class WorkerNotHeard(Transient):
    """Say that no worker is running that could do the request."""


def worker_status(settings: Settings, ledger: Ledger) -> WorkerStatus:
    """Return the state of this machine's worker; raises Transient if the ledger cannot be read now."""
    with ledger.reading() as connection:
        seconds = heartbeats.seconds_since(connection, claimant_of(settings).worker, time.time())
    if not _is_held(settings.spool):
        return WorkerStatus(WorkerState.DOWN, seconds)
    is_fresh = seconds is not None and seconds < STALE_SECONDS
    return WorkerStatus(WorkerState.UP if is_fresh else WorkerState.STALE, seconds)


def require_worker(settings: Settings, ledger: Ledger) -> None:
    """Raise WorkerNotHeard if no worker reported within `STALE_SECONDS`: a request to it would only wait.

    In a cluster that of any node does, unless the node drains.
    """
    status = worker_status(settings, ledger)
    if status.is_heard:
        return
    if settings.cluster is None:
        raise WorkerNotHeard(f"the worker {status}")
    others = [node for node in node_statuses(settings, ledger) if node.name != settings.cluster.name]
    if not any(node.state is NodeState.UP and node.seen_seconds < STALE_SECONDS for node in others):
        raise WorkerNotHeard(f"the worker {status}; no other node works")


@contextlib.contextmanager
def sole_worker(spool: Spool) -> Iterator[None]:
    """Hold the spool's worker lock during the block; the kernel releases it however this process ends.

    Raises AnotherWorks if another worker holds it.
    """
    with (spool.run / _LOCK_NAME).open("a+b") as lock:
        for left in reversed(range(_LOCK_TRIES)):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if not left:
                    raise AnotherWorks(f"another worker is running on {spool.root}; stop it first") from error
                time.sleep(_LOCK_PAUSE)
        yield


def _is_held(spool: Spool) -> bool:
    try:
        with (spool.run / _LOCK_NAME).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
