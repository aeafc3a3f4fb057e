"""What a worker that lives writes into the ledger, for tests that play the worker themselves."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.ledger import FILE_NAME, Ledger, heartbeats
from pipeline.ledger.claims import WORKER


def beat_once(spool: Path, *, seconds_ago: float = 0.0) -> None:
    ledger = Ledger(spool / FILE_NAME)
    with contextlib.closing(ledger), ledger.transaction(flushed=False) as change:
        heartbeats.beat(change, WORKER, time.time(), time.time() - seconds_ago)


@contextlib.contextmanager
def beating(spool: Path) -> Iterator[None]:
    """Let a worker be heard of within the block."""
    ended = threading.Event()
    beat_once(spool)

    def go_on() -> None:
        while not ended.wait(5):
            with contextlib.suppress(Exception):  # the ledger may be what the test takes away
                beat_once(spool)

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
