"""Start the storescp of an association, and keep one that waits for the next association.

A start takes 9 ms of processor time, nearly all of it the dynamic linker's, and the peer waits. One that was
started ahead has this behind it: it waits for its profile, which it reads from a pipe before it reads its socket.
Nobody can give a running process another socket. Its socket therefore leads to us, and two threads move the
bytes between it and the peer's by splice(2), which copies none of them.
"""

import contextlib
import itertools
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import dcmtk
from pipeline.config.receiver_tables import ReceiverTable
from pipeline.errors import Transient
from pipeline.receiving.tls_termination import connected_pair

WAITING_SECONDS = 10.0  # A storescp that has waited so long for an association is ended: it holds 4 MB.
LAST_SECONDS = 5.0  # Seconds for the peer to receive storescp's last bytes.
_MOVED_AT_ONCE = 1 << 20


class Relay:
    """Move the bytes of an association both ways, until storescp has ended."""

    def __init__(self, near: socket.socket) -> None:
        self._near = near  # Our end of the socket that storescp reads.
        self._peer: socket.socket | None = None
        self._threads: list[threading.Thread] = []

    def begin(self, peer: socket.socket) -> None:
        """Move bytes from now on; takes over `peer`. Raises Transient if the machine has no thread to spare."""
        peer.setblocking(True)
        self._peer = peer.dup()
        ways = ((self._near, self._peer), (self._peer, self._near))
        self._threads = [threading.Thread(target=_moved, args=way, daemon=True) for way in ways]
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as error:
            raise Transient(f"no thread for an association: {error}") from error

    def end(self) -> None:
        """Close both sockets once the peer has storescp's last bytes, at the latest after LAST_SECONDS."""
        outward = next(iter(self._threads), None)
        if outward is not None and outward.ident is not None:
            outward.join(LAST_SECONDS)
        for end in filter(None, (self._peer, self._near)):
            with contextlib.suppress(OSError):  # It has gone already.
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            if thread.ident is not None:  # It has been started.
                thread.join()
        for end in filter(None, (self._peer, self._near)):
            end.close()


def _moved(source: socket.socket, target: socket.socket) -> None:
    """Move bytes until one side has ended or is broken, then end `target` in this direction.

    The other direction goes on: what storescp said before it ended is for the peer, even if the peer still sends.
    """
    with contextlib.suppress(OSError), contextlib.ExitStack() as pipe:
        hears, tells = _pipe(pipe, pipe)
        while count := os.splice(source.fileno(), tells, _MOVED_AT_ONCE):
            while count:
                count -= os.splice(hears, target.fileno(), count)
    with contextlib.suppress(OSError):  # It is not connected any more.
        target.shutdown(socket.SHUT_WR)


@dataclass(slots=True)
class StartedStorescp:
    """A storescp that waits for its profile, to receive into `folder`; `output` is what it says.

    `folder` must exist when the profile is written. The caller must `close` it in every case.
    """

    folder: Path
    process: subprocess.Popen[bytes]
    output: int
    _profile: int
    _relay: Relay | None = None
    _since: float = 0.0

    def proceed(self, connection: socket.socket, profile: str) -> None:
        """Let it read the request, which is unread on `connection`, and close `connection`.

        Raises Transient if it has ended already, or the machine has no thread to spare.
        """
        pipe, self._profile = self._profile, -1
        try:
            with os.fdopen(pipe, "wb") as file:
                file.write(profile.encode("ascii"))
        except OSError as error:
            raise Transient(f"storescp has ended before its association: {error}") from error
        if self._relay:
            self._relay.begin(connection)
        connection.close()

    def has_waited(self, seconds: float) -> bool:
        """Say whether it has been waiting for longer than that."""
        return time.monotonic() - self._since > seconds

    def is_alive(self) -> bool:
        """Say whether the process runs."""
        return self.process.poll() is None

    def end(self) -> None:
        """Kill the process; return when it has ended."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End the process, let the peer receive its last bytes, and close everything that belongs to it."""
        self.end()
        if self._relay:
            self._relay.end()
        for descriptor in (self.output, self._profile):
            if descriptor >= 0:
                os.close(descriptor)
        self.output = self._profile = -1


@dataclass(slots=True)
class StorescpStarter:
    """Start the storescp processes of one receiver, each for a folder of its own.

    `lock` is the file descriptor that every storescp inherits. If `keeps_one`, one waits for the next association
    while associations come; this needs splice(2), which only Linux has.
    """

    receiver: ReceiverTable
    incoming: Path
    program: Path
    environment: Mapping[str, str]
    lock: int
    keeps_one: bool = False
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _waiting: StartedStorescp | None = None
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def started(self, connection: socket.socket) -> StartedStorescp:
        """Return the storescp that waits, or a new one for `connection`.

        Raises Transient if none can be started.
        """
        with self._guard:
            waiting, self._waiting = self._waiting, None
        if waiting and waiting.is_alive():
            return waiting
        if waiting:
            waiting.close()
        connection.setblocking(True)
        return self._start(connection)

    def keep_one(self) -> None:
        """Start the storescp of the next association, unless one waits already."""
        with self._guard:
            if self._waiting or not (self.keeps_one and hasattr(os, "splice")):
                return
            with contextlib.suppress(Transient, OSError):  # The next association tells what is wrong.
                near, far = connected_pair()
                with far:
                    far.setblocking(True)
                    near.setblocking(True)
                    try:
                        self._waiting = self._start(far, Relay(near))
                    except BaseException:
                        near.close()
                        raise

    def end_idle(self) -> None:
        """End the storescp that has waited for WAITING_SECONDS."""
        with self._guard:
            if not self._waiting or not self._waiting.has_waited(WAITING_SECONDS):
                return
            idle, self._waiting = self._waiting, None
        idle.close()

    def close(self) -> None:
        """End the storescp that waits, and keep none any more."""
        with self._guard:
            self.keeps_one = False
            waiting, self._waiting = self._waiting, None
        if waiting:
            waiting.close()

    def _start(self, connection: socket.socket, relay: Relay | None = None) -> StartedStorescp:
        folder = self.incoming / f"A_{time.time_ns()}_{next(self._numbers)}"
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            try:
                output, tells = _pipe(ours, theirs)
                profile, profile_end = _pipe(theirs, ours)
                log, log_end = _pipe(theirs, theirs)
            except OSError as error:
                raise Transient(f"no pipe for storescp: {error}") from error
            os.write(log_end, dcmtk.log_configuration(_name(tells)).encode("ascii"))
            process = dcmtk.start(
                dcmtk.storescp_inetd_argv(
                    self.program,
                    self.receiver,
                    folder=folder,
                    profile=_name(profile),
                    log_configuration=_name(log),
                ),
                self.environment,
                stdin=connection.fileno(),
                output=tells,
                inherited=(self.lock, tells, profile, log),
            )
            ours.pop_all()
        return StartedStorescp(folder, process, output, profile_end, relay, time.monotonic())


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    """Return the two ends of a pipe, each closed by its stack. Raises OSError."""
    hears, tells = os.pipe()
    reader.callback(os.close, hears)
    writer.callback(os.close, tells)
    return hears, tells


def _name(descriptor: int) -> str:
    """Return the file name under which a child opens this inherited descriptor."""
    return f"/dev/fd/{descriptor}"
