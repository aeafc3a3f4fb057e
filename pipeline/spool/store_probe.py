"""Ask a store that nodes share whether it can be used now, and wait no longer than a person does."""

import os
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from pipeline.spool.durable import flush
from pipeline.spool.spool import MARK, Spool

PROBE_SECONDS = 5.0
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class StoreState:
    """What was found: free bytes, the identity of the store, and what is wrong, each None if there is none."""

    free: int | None = None
    mark: str | None = None
    problem: str | None = None


def probe(spool: Spool, seconds: float = PROBE_SECONDS) -> StoreState:
    """Write, flush and read in the store; a file system that does not answer in `seconds` is a problem, too."""
    try:
        return within(seconds, partial(_asked, spool))
    except TimeoutError:
        return StoreState(problem=f"{spool.store} does not answer for {seconds:.0f} s")


def within(seconds: float, ask: Callable[[], Answer]) -> Answer:
    """Return what `ask` returns, or raise what it raises; raises TimeoutError after so many seconds.

    A thread that hangs in a file system is left behind: the system gives no way to end it.
    """
    answered: Future[Answer] = Future()

    def run() -> None:
        try:
            answered.set_result(ask())
        except BaseException as error:  # noqa: BLE001  # whoever waits for the answer gets it
            answered.set_exception(error)

    threading.Thread(target=run, name="within", daemon=True).start()
    return answered.result(seconds)


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
