"""Disconnect one peer from a storescp that serves others too; storescp itself does so only after three minutes.

When an association has ended or was refused, storescp waits until the peer closes its connection, in spite of
`-ta`, `-td` and `-ts`; in study mode every other peer waits with it. Ending storescp would disconnect the waiting
peers, too.
"""

import contextlib
import ctypes
import os
import socket
from dataclasses import dataclass

import psutil

from pipeline.receiving import listening_port

PATIENCE_SECONDS = 5.0  # Seconds for a peer to open an association, and to close its connection after one.
_PIDFD_GETFD = 438  # The number of the system call on every architecture; Python has no name for it.


@dataclass(slots=True)
class WithoutAssociation:
    """Remember since when a peer has been connected without an open association."""

    _peers: frozenset[tuple[str, int]] = frozenset()
    _since: float = 0.0

    def look(self, now: float, peers: frozenset[tuple[str, int]], *, is_open: bool) -> bool:
        """Say whether the peers have been without association for too long at monotonic time `now`.

        `peers` are those connected now; `is_open` says that an association is open.
        """
        if is_open or peers != self._peers:
            self._peers, self._since = peers, now
        return bool(peers) and now - self._since >= PATIENCE_SECONDS


def cut_off(process: psutil.Process, port: int) -> bool:
    """Shut down the connections that the process has accepted on the port; return whether this was possible.

    The process must be a child of ours. This needs Linux (pidfd_getfd(2), since 5.6).
    """
    if not hasattr(os, "pidfd_open"):
        return False
    accepted = listening_port.accepted(process, port)
    try:
        for connection in accepted:
            _shut_down(process.pid, connection.fd)
    except OSError:
        return False
    return bool(accepted)


def _shut_down(pid: int, descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    of_process = os.pidfd_open(pid)
    try:
        ours = libc.syscall(_PIDFD_GETFD, of_process, descriptor, 0)
        if ours < 0:
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
    finally:
        os.close(of_process)
    with socket.socket(fileno=ours) as connection, contextlib.suppress(OSError):  # The peer may be gone by now.
        connection.shutdown(socket.SHUT_RDWR)
