"""A TCP proxy before a peer that cuts, delays, resets and falls silent: connection by connection, as it is told.

with flaky_proxy(archive.port) as proxy:
    proxy.faults.extend([Cut("down", 50), Slow(0.02)])  # the next two connections; those after it are whole
    send(f"http://127.0.0.1:{proxy.port}/...")
    assert proxy.struck == 1
"""

import contextlib
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

BLOCK = 4096


@dataclass(frozen=True)
class Cut:
    """End both sides once so many bytes have passed towards the peer (`up`) or back (`down`)."""

    direction: Literal["up", "down"]
    after_bytes: int
    is_reset: bool = False


@dataclass(frozen=True)
class Silence:
    """Pass so many bytes, then nothing more in either direction, and keep both connections open."""

    direction: Literal["up", "down"]
    after_bytes: int


@dataclass(frozen=True)
class Slow:
    """Wait before every block of either direction, and make the blocks small."""

    seconds: float
    block: int = 512


Fault = Cut | Silence | Slow


@dataclass
class FlakyProxy:
    """`faults` are taken one a connection, `every` holds for those after; `struck` counts what was done."""

    target: int
    port: int = 0
    source: str = "127.0.0.1"  # the address the peer sees; a loopback host has all of 127/8
    faults: deque[Fault] = field(default_factory=deque)
    every: Fault | None = None
    connections: int = 0
    struck: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def serve(self, client: socket.socket) -> None:
        """Carry one connection to its end, or to its fault's."""
        fault = self.faults.popleft() if self.faults else self.every
        self.connections += 1
        with client, contextlib.suppress(OSError):
            if isinstance(fault, Cut) and not fault.after_bytes and fault.direction == "up":
                self._end(fault, client)  # accepted, and that is all
                return
            with socket.create_connection(("127.0.0.1", self.target), source_address=(self.source, 0)) as peer:
                self._carry(client, peer, fault)

    def _carry(self, client: socket.socket, peer: socket.socket, fault: Fault | None) -> None:
        passed = {"up": 0, "down": 0}
        block = fault.block if isinstance(fault, Slow) else BLOCK
        while not self.over.is_set():
            for ready in select.select([client, peer], [], [], 0.2)[0]:
                direction = "up" if ready is client else "down"
                data = ready.recv(block)
                if isinstance(fault, Slow):
                    self.struck += not any(passed.values())
                    time.sleep(fault.seconds)
                elif fault is not None and fault.direction == direction:
                    data = data[: fault.after_bytes - passed[direction]] or data[:0]
                to = peer if ready is client else client
                to.sendall(data)
                passed[direction] += len(data)
                if isinstance(fault, Cut | Silence) and passed[fault.direction] >= fault.after_bytes:
                    self._end(fault, client, peer)
                    return
                if not data:
                    return

    def _end(self, fault: Cut | Silence, *ends: socket.socket) -> None:
        self.struck += 1
        if isinstance(fault, Silence):
            self.over.wait(60)
        elif fault.is_reset:
            for one in ends:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextlib.contextmanager
def flaky_proxy(target: int, *, source: str = "127.0.0.1") -> Iterator[FlakyProxy]:
    """Listen on a free loopback port until the block ends, and call the peer from the address `source`."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        proxy = FlakyProxy(target, listener.getsockname()[1], source)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=proxy.serve, args=(client,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
