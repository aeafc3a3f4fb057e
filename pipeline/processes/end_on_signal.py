"""End a part of the site when a signal asks for it."""

import signal
import threading
from collections.abc import Callable
from queue import SimpleQueue


def end_by(function: Callable[[], None], *numbers: signal.Signals) -> None:
    """Have `function` called at the first of these signals, once, by a thread of its own.

    Not by the signal's handler: that interrupts the main thread, which may hold the very lock that setting an
    event takes, and then both wait for ever. Two signals in quick succession, as from a terminal and from whoever
    started us, did that once in a hundred stops. To be called from the main thread.
    """
    asked: SimpleQueue[int] = SimpleQueue()  # the one queue whose `put` may interrupt itself

    def wait() -> None:
        asked.get()
        function()

    for number in numbers:
        signal.signal(number, lambda number, _frame: asked.put(number))
    threading.Thread(target=wait, name="signals", daemon=True).start()
