"""The port of a receiver: whether it is free, which process has it, which peers are connected; to cut them off."""

import contextlib
import ctypes
import errno
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from pipeline.config.numeric_addresses import numeric
from pipeline.config.receiver_tables import ReceiverTable
from pipeline.errors import Configuration

KERNEL_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
LISTENING = "0A"
OPEN = {"01", "08"}  # TCP states: established, or closed by the peer only.
BACKLOG = 128
FIRST_FREE_PORT = 1024
_ESTABLISHED, _CLOSE_WAIT, _LISTENS = 1, 8, 10  # The states of TCP as Linux numbers them.
_STATES = {
    psutil.CONN_ESTABLISHED: _ESTABLISHED,
    psutil.CONN_CLOSE_WAIT: _CLOSE_WAIT,
    psutil.CONN_LISTEN: _LISTENS,
}
_PIDFD_GETFD = 438  # The number of the system call on every architecture; Python has no name for it.
PATIENCE_SECONDS = 3  # A hook of an earlier storescp inherits its socket and may live a moment longer.


class _Socket(NamedTuple):
    """A socket of a process: its state, and its peer's address and port, if it has one."""

    state: int
    peer: tuple[str, int]


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
    return found is not None and any(one.state == _ESTABLISHED for one in _listed(found, port))


def listens(process: psutil.Process, port: int) -> bool:
    """Say whether the process itself listens on the port."""
    return any(found.state == _LISTENS for found in _sockets(process, port))


def connected_peers(process: psutil.Process, port: int) -> frozenset[tuple[str, int]]:
    """Return address and port of each peer whose connection the process has accepted on the port."""
    return frozenset(found.peer for found in _sockets(process, port) if found.state == _ESTABLISHED)


def connected_peer(process: psutil.Process, port: int) -> str | None:
    """Return the numeric address of a peer whose connection the process has not closed, None if there is none."""
    return next((numeric(found.peer[0]) for found in _sockets(process, port) if found.state != _LISTENS), None)


def _is_accepted(row: list[str], port: int) -> bool:
    """Say whether a row of the kernel's table is an accepted connection on the port: such a row has an inode."""
    return row[3] in OPEN and _port_of(row) == port and row[9] != "0"


def _port_of(row: list[str]) -> int:
    return int(row[1].rpartition(":")[2], 16)


def cut_off(process: psutil.Process, port: int) -> bool:
    """Shut down the connections that the process has accepted on the port; return whether this was possible.

    storescp itself waits for three minutes. When an association has ended or was refused, it waits until the peer
    closes its connection, in spite of `-ta`, `-td` and `-ts`; in study mode every other peer waits with it. Ending
    storescp would disconnect the waiting peers, too. The process must be a child of ours. This needs Linux.
    """
    is_done = False
    with contextlib.suppress(OSError):
        for connection in _borrowed(process, port):
            if _state(connection) == _ESTABLISHED:
                with contextlib.suppress(OSError):  # The peer may be gone by now.
                    connection.shutdown(socket.SHUT_RDWR)
                is_done = True
    return is_done


def _sockets(process: psutil.Process, port: int) -> list[_Socket]:
    """Return the sockets of the process on the port; none once it has ended.

    On Linux the sockets of a child of ours are asked themselves. The kernel's table of all sockets, which psutil
    reads, takes 8 ms of processor time, and would be read for every association and every second.
    """
    try:
        found = [_Socket(_state(one), _peer(one)) for one in _borrowed(process, port)]
        return [one for one in found if one.state in _STATES.values()]
    except OSError:  # Not Linux, or not allowed.
        return list(_listed(process, port))


def _borrowed(process: psutil.Process, port: int) -> Iterator[socket.socket]:
    """Yield each socket of the process on the port, shared for a moment: pidfd_getfd(2), Linux since 5.6.

    Raises OSError if this is not possible.
    """
    if not hasattr(os, "pidfd_open"):
        raise OSError(errno.ENOSYS, "pidfd_open")
    libc = ctypes.CDLL(None, use_errno=True)
    of_process = os.pidfd_open(process.pid)
    try:
        for entry in Path(f"/proc/{process.pid}/fd").iterdir():
            if not _is_socket(entry):
                continue
            ours = libc.syscall(_PIDFD_GETFD, of_process, int(entry.name), 0)
            if ours < 0 and ctypes.get_errno() == errno.EBADF:  # The process has closed it meanwhile.
                continue
            if ours < 0:
                raise OSError(ctypes.get_errno(), "pidfd_getfd")
            with socket.socket(fileno=ours) as found:
                if found.family in {socket.AF_INET, socket.AF_INET6} and found.getsockname()[1] == port:
                    yield found
    finally:
        os.close(of_process)


def _is_socket(entry: Path) -> bool:
    try:
        return str(entry.readlink()).startswith("socket:")
    except FileNotFoundError:  # The process has closed it meanwhile.
        return False


def _peer(found: socket.socket) -> tuple[str, int]:
    try:
        address, port = found.getpeername()[:2]
    except OSError:  # It listens, or its peer has gone.
        return "", 0
    return address, port


def _state(found: socket.socket) -> int:
    """Return the state of a TCP socket, as tcp(7) numbers it: the first byte of TCP_INFO."""
    return int(found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0])


def _listed(process: psutil.Process, port: int) -> Iterator[_Socket]:
    try:
        connections = process.net_connections("tcp")
    except psutil.Error:  # The process has ended meanwhile.
        return
    for found in connections:
        if found.laddr and found.laddr.port == port and found.status in _STATES:
            peer = (found.raddr.ip, found.raddr.port) if found.raddr else ("", 0)
            yield _Socket(_STATES[found.status], peer)


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
