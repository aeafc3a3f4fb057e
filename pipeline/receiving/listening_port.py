"""The port of a receiver: whether it is free, which process has it, which peers are connected; to cut them off."""

import contextlib
import ctypes
import errno
import ipaddress
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from pipeline.config.numeric_addresses import numeric
from pipeline.config.receiver_tables import ReceiverTable
from pipeline.errors import Configuration

KERNEL_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
LISTENING = "0A"
OPEN = {"01", "08"}  # TCP states: established, or closed by the peer only.
BACKLOG = 128
FIRST_FREE_PORT = 1024
_PIDFD_GETFD = 438  # The number of the system call on every architecture; Python has no name for it.
PATIENCE_SECONDS = 3  # A hook of an earlier storescp inherits its socket and may live a moment longer.


def require_free_port(receiver: ReceiverTable) -> None:
    """Return when the receiver's port is free; raises Configuration, which says what to do, if it is not."""
    if receiver.mode == "study" and receiver.port < FIRST_FREE_PORT and os.geteuid() != 0:
        raise Configuration(
            f'receiver "{receiver.name}".port = {receiver.port}: storescp refuses ports below {FIRST_FREE_PORT} '
            'to anybody but root, whatever capabilities it has; use mode = "association", or a higher port'
        )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (error := _trial(receiver)) is not None:
        if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
            raise unusable(receiver, error) from error
        time.sleep(0.05)


def unusable(receiver: ReceiverTable, error: OSError) -> Configuration:
    """Return the error that names the receiver's port or address, the program that uses it, and the remedy."""
    key = f'receiver "{receiver.name}".port = {receiver.port}'
    if error.errno == errno.EADDRINUSE:
        return Configuration(f"{key} is in use{_by_whom(receiver.port)}; stop that program or choose another port")
    if error.errno in {errno.EACCES, errno.EPERM}:
        return Configuration(
            f"{key} needs a privilege: give the service CAP_NET_BIND_SERVICE, or choose a port above 1023"
        )
    return Configuration(
        f'{key} on "{receiver.bind}" cannot be opened: {error}; choose an address of this machine'
    )


def _trial(receiver: ReceiverTable) -> OSError | None:
    try:
        listen(receiver).close()
    except OSError as error:
        return error
    return None


def listen(receiver: ReceiverTable) -> socket.socket:
    """Return a socket that listens on the receiver's addresses: on all in study mode, as storescp does.

    Raises OSError.
    """
    address = receiver.bind if receiver.mode == "association" else ""
    return socket.create_server(
        (address, receiver.port),
        family=socket.AF_INET6 if ":" in address else socket.AF_INET,
        backlog=BACKLOG,
        dualstack_ipv6=address == "::" and socket.has_dualstack_ipv6(),
    )


def _by_whom(port: int) -> str:
    found = owner(port)
    try:
        return f" by {found.name()} (process {found.pid})" if found else ""
    except psutil.Error:
        return ""


def owner(port: int) -> psutil.Process | None:
    """Return the process that listens on the port, None if there is none or it cannot be seen."""
    try:
        listening = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.pid]
        return next((psutil.Process(c.pid) for c in listening if c.laddr and c.laddr.port == port), None)
    except psutil.Error:
        return None


def is_listened(port: int) -> bool:
    """Say whether a process listens on the port, without connecting, which storescp would notice."""
    if KERNEL_TABLES[0].exists():
        return any(row[3] == LISTENING and _port_of(row) == port for row in _rows())
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def is_connected(port: int) -> bool:
    """Say whether any process has an open connection that was made to the port."""
    if KERNEL_TABLES[0].exists():
        return any(_is_accepted(row, port) for row in _rows())
    found = owner(port)
    return found is not None and bool(accepted(found, port))


def listens(process: psutil.Process, port: int) -> bool:
    """Say whether the process itself listens on the port."""
    return bool(_connections(process, port, psutil.CONN_LISTEN))


def connected_peers(process: psutil.Process, port: int) -> frozenset[tuple[str, int]]:
    """Return address and port of each peer whose connection the process has accepted on the port."""
    return frozenset((c.raddr.ip, c.raddr.port) for c in accepted(process, port))


def connected_peer(process: psutil.Process, port: int) -> str | None:
    """Return the numeric address of the peer that is connected to the process on the port, None if it has gone.

    On Linux this reads the kernel's table, which takes a tenth of the time: an association may be short.
    """
    found = next((row[2] for row in _rows() if _is_accepted(row, port)), None)
    if found:
        return numeric(_address(found.partition(":")[0]))
    return next((numeric(c.raddr.ip) for c in accepted(process, port)), None)


def _is_accepted(row: list[str], port: int) -> bool:
    """Say whether a row of the kernel's table is an accepted connection on the port: such a row has an inode."""
    return row[3] in OPEN and _port_of(row) == port and row[9] != "0"


def _port_of(row: list[str]) -> int:
    return int(row[1].rpartition(":")[2], 16)


def _address(text: str) -> str:
    """Return the address in proc_net_tcp(5): words of four bytes, each in the byte order of this machine."""
    words = [int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8)]
    return str(ipaddress.ip_address(b"".join(words)))


def accepted(process: psutil.Process, port: int) -> list[Any]:
    """Return the connections that the process has accepted on the port and not closed, as psutil has them."""
    return [c for c in _connections(process, port, psutil.CONN_ESTABLISHED) if c.raddr]


def cut_off(process: psutil.Process, port: int) -> bool:
    """Shut down the connections that the process has accepted on the port; return whether this was possible.

    storescp itself waits for three minutes. When an association has ended or was refused, it waits until the peer
    closes its connection, in spite of `-ta`, `-td` and `-ts`; in study mode every other peer waits with it. Ending
    storescp would disconnect the waiting peers, too. The process must be a child of ours. This needs Linux
    (pidfd_getfd(2), since 5.6).
    """
    if not hasattr(os, "pidfd_open"):
        return False
    connections = accepted(process, port)
    try:
        for connection in connections:
            _shut_down(process.pid, connection.fd)
    except OSError:
        return False
    return bool(connections)


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


def _connections(process: psutil.Process, port: int, status: str) -> list[Any]:
    try:
        connections = process.net_connections("tcp")
    except psutil.Error:  # The process has ended meanwhile.
        return []
    return [c for c in connections if c.status == status and c.laddr and c.laddr.port == port]


def processor_seconds(process: psutil.Process) -> float:
    """Return the processor time the process has used, 0 once it has ended."""
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def waiting(port: int) -> int:
    """Return the number of connections not yet accepted; known on Linux only, otherwise 0.

    The kernel shows a listening socket's queue as its receive queue (proc_net_tcp(5)).
    """
    return sum(_queue(row, port) for row in _rows())


def _rows() -> list[list[str]]:
    return [line.split() for file in KERNEL_TABLES for line in _lines(file)]


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return []


def _queue(row: list[str], port: int) -> int:
    return int(row[4].rpartition(":")[2], 16) if row[3] == LISTENING and _port_of(row) == port else 0
