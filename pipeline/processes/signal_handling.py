"""Let signals end a command in good order, and let nothing be left half done because of one.

For commands alone: what they have begun is undone on the way out. Services end by
`pipeline.processes.end_on_signal`.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Have the first of these signals end the block by SystemExit, with 128 and its number as shells have it.

    Further ones are passed over for good, so that whatever the block has begun is undone in peace. What was
    ignored from the beginning, as by nohup, stays ignored. To be called from the main thread.
    """
    came: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        for one in before:
            signal.signal(one, signal.SIG_IGN)
        came.append(number)
        raise SystemExit(128 + number)

    before = {one: was for one in ENDING if (was := signal.getsignal(one)) is not signal.SIG_IGN}
    try:
        for number in before:
            signal.signal(number, end)
        yield
    finally:
        if came:  # whatever the ending has led to: a terminal that is gone takes no last words
            raise SystemExit(128 + came[0])
        for one, was in before.items():
            signal.signal(one, was)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Let these signals wait until the block is done; each comes then, once.

    Not by a signal mask: where there are other threads, the system has one of those take the signal.
    """
    if threading.current_thread() is not threading.main_thread():  # nothing interrupts it
        yield
        return
    came: set[int] = set()
    before = {one: was for one in ENDING if callable(was := signal.getsignal(one))}
    for number in before:
        signal.signal(number, lambda number, _frame: came.add(number))
    try:
        yield
    finally:
        for one, was in before.items():
            signal.signal(one, was)
        for waiting in sorted(came):
            signal.raise_signal(waiting)
