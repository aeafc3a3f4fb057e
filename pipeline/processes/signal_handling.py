"""Let signals end a command in good order, so that no step stays half done.

This is for commands, which undo their steps when they end. Services use `pipeline.processes.end_on_signal`.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """End the block by SystemExit at the first of these signals, with status 128 plus its number, as shells do.

    Further signals are ignored for good, so that the block's steps can be undone. A signal that was ignored from
    the beginning, as by nohup, stays ignored. Call this from the main thread.
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
        if came:  # The cleanup may raise anything; a terminal that is gone accepts no output.
            raise SystemExit(128 + came[0])
        for one, was in before.items():
            signal.signal(one, was)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Delay these signals until the block is done; each is then delivered once.

    A signal mask would not do: with several threads, the system delivers the signal to another thread.
    """
    if threading.current_thread() is not threading.main_thread():  # Signals interrupt the main thread only.
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
