"""Ask a store that nodes share whether it can be used now, and wait no longer than a person does."""

import os
import tempfile
import threading
from dataclasses import dataclass

from pipeline.spool.durable import flush
from pipeline.spool.spool import MARK, Spool

PROBE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class StoreState:
    """What was found: free bytes, the identity of the store, and what is wrong, each None if there is none."""

    free: int | None = None
    mark: str | None = None
    problem: str | None = None


def probe(spool: Spool, seconds: float = PROBE_SECONDS) -> StoreState:
    """Write, flush and read in the store; a file system that does not answer in `seconds` is a problem, too.

    A thread that hangs in the file system is left behind: the system gives no way to end it.
    """
    found = [StoreState(problem=f"{spool.store} does not answer for {seconds:.0f} s")]
    asking = threading.Thread(target=lambda: found.append(_asked(spool)), name="store-probe", daemon=True)
    asking.start()
    asking.join(seconds)
    return found[-1]


def _asked(spool: Spool) -> StoreState:
    try:
        mark = (spool.store / MARK).read_text() if (spool.store / MARK).exists() else None
        disk = os.statvfs(spool.store)
        free = disk.f_bavail * disk.f_frsize
        with tempfile.TemporaryFile(dir=spool.arrivals) as file:
            file.write(b"storestow")
            file.flush()
            flush(file.fileno())
    except OSError as error:
        return StoreState(problem=f"{spool.store} cannot be used now: {error.strerror}")
    return StoreState(free, mark)
