"""Let signals end a command or a service in good order, so that no step stays incomplete.

`ended_by_signals` and `held_back` are for commands, which undo their steps at the end; `end_by` is for services.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
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
        for handled in before:
            signal.signal(handled, signal.SIG_IGN)
        came.append(number)
        raise SystemExit(128 + number)

    before = {number: was for number in ENDING if (was := signal.getsignal(number)) is not signal.SIG_IGN}
    try:
        for number in before:
            signal.signal(number, end)
        yield
    finally:
        if came:  # The cleanup may raise other errors, for example because the terminal is gone.
            raise SystemExit(128 + came[0])
        for number, was in before.items():
            signal.signal(number, was)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Delay these signals until the block is done; each is then delivered once.

    A signal mask is not enough: with several threads, the system delivers the signal to another thread.
    """
    if threading.current_thread() is not threading.main_thread():  # Signals interrupt the main thread only.
        yield
        return
    came: set[int] = set()
    before = {number: was for number in ENDING if callable(was := signal.getsignal(number))}
    for number in before:
        signal.signal(number, lambda number, _frame: came.add(number))
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)
        for waiting in sorted(came):
            signal.raise_signal(waiting)


def end_by(function: Callable[[], None], *numbers: signal.Signals) -> None:
    """Call `function` at the first of these signals, once, in a thread of its own.

    The signal handler itself must not call it: a handler interrupts the main thread, which may hold the lock that
    setting an event needs, and then both wait for ever. Two signals in quick succession, from a terminal and from
    the parent process, caused that once in a hundred stops. Call this from the main thread.
    """
    asked: SimpleQueue[int] = SimpleQueue()  # This queue's `put` may interrupt itself.

    def wait() -> None:
        asked.get()
        function()

    for number in numbers:
        signal.signal(number, lambda number, _frame: asked.put(number))
    threading.Thread(target=wait, name="signals", daemon=True).start()
