"""Wait for signals together with sockets, so that a SIGTERM ends every wait."""

import contextlib
import select
import signal
import socket
import time
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import Self


class Signals:
    """Within the `with` block SIGTERM and SIGINT set `stop`, and these signals and SIGCHLD end a `wait`."""

    def __init__(self) -> None:
        self.stop = False
        self._hears, self._tells = socket.socketpair()

    def __enter__(self) -> Self:
        self._hears.setblocking(False)
        self._tells.setblocking(False)
        handlers = {signal.SIGTERM: self._ask, signal.SIGINT: self._ask, signal.SIGCHLD: self._wake}
        self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        self._wakeup = signal.set_wakeup_fd(self._tells.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._hears.close()
        self._tells.close()

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.stop = True

    def _wake(self, _number: int, _frame: FrameType | None) -> None:
        pass

    def wait(self, seconds: float, others: Iterable[socket.socket] = ()) -> bool:
        """Return after `seconds`, at a signal, or when one of `others` is readable; tell whether one is."""
        if self.stop:
            return False
        ready, _, _ = select.select([self._hears, *others], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            self._hears.recv(4096)
        return any(one is not self._hears for one in ready)

    def pause(self, seconds: float) -> None:
        """Return after `seconds`, also if children end meanwhile, or when `stop` is set."""
        end = time.monotonic() + seconds
        while not self.stop and (left := end - time.monotonic()) > 0:
            self.wait(left)
