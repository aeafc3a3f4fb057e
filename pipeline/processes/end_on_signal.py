"""End a service when a signal asks for it."""

import signal
import threading
from collections.abc import Callable
from queue import SimpleQueue


def end_by(function: Callable[[], None], *numbers: signal.Signals) -> None:
    """Call `function` at the first of these signals, once, in a thread of its own.

    The signal handler must not call it: a handler interrupts the main thread, which may hold the very lock that
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
