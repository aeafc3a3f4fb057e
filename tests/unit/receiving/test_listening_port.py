"""The sockets of a program of ours: what they tell themselves, and what the kernel's table tells of them."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest
from support.machine.dicom_programs import free_port, wait_until

from pipeline.receiving import listening_port

SERVES = (
    "import socket, sys\n"
    "listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
    "connection, _ = listener.accept()\n"
    "connection.recv(1)\n"
    "listener.accept()"
)


@pytest.fixture
def served() -> Iterator[tuple[psutil.Process, int]]:
    """Yield a child process that accepts two connections, and its port."""
    port = free_port()
    with subprocess.Popen([sys.executable, "-I", "-c", SERVES, str(port)]) as child:
        process = psutil.Process(child.pid)
        wait_until(lambda: listening_port.listens(process, port), what="a listener")
        yield process, port
        child.kill()
    assert not listening_port.listens(process, port)  # It has ended.


@pytest.fixture(params=["asked themselves", "as psutil lists them"])
def way(request, monkeypatch) -> None:
    if request.param == "as psutil lists them":
        monkeypatch.delattr(os, "pidfd_open", raising=False)


@pytest.mark.usefixtures("way")
def test_the_sockets_of_a_child_tell_who_is_connected(served):
    process, port = served
    assert listening_port.connected_peers(process, port) == frozenset()
    assert listening_port.connected_peer(process, port) is None
    with socket.create_connection(("127.0.0.1", port)) as peer:
        wait_until(lambda: listening_port.connected_peers(process, port), what="an accepted connection")
        assert listening_port.connected_peers(process, port) == {peer.getsockname()}
        assert listening_port.connected_peer(process, port) == "127.0.0.1"
        assert not listening_port.listens(process, port + 1)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux only")
def test_a_peer_is_cut_off_and_the_port_stays_open(served):
    process, port = served
    assert not listening_port.cut_off(process, port)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as peer:
        wait_until(lambda: listening_port.connected_peers(process, port), what="an accepted connection")
        assert listening_port.cut_off(process, port)
        assert peer.recv(1) == b""
        assert listening_port.listens(process, port)


def test_where_sockets_cannot_be_shared_nobody_is_cut_off(served, monkeypatch):
    process, port = served
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    with socket.create_connection(("127.0.0.1", port)):
        wait_until(lambda: listening_port.connected_peers(process, port), what="an accepted connection")
        assert not listening_port.cut_off(process, port)
