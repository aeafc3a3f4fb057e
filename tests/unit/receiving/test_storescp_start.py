"""The way of an association's bytes through the receiver, where storescp was started ahead."""

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Iterator

import pytest

from pipeline.receiving import storescp_start
from pipeline.receiving.storescp_start import Relay
from pipeline.receiving.tls_termination import connected_pair

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has splice(2)")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Relay, socket.socket]]:
    """Yield the peer's end, the relay, and storescp's end."""
    peer, ours = connected_pair()
    near, storescp = connected_pair()
    for end in (peer, storescp):
        end.settimeout(20)
    near.setblocking(True)
    relay = Relay(near)
    with peer, ours, storescp:
        relay.begin(ours)
        ours.close()
        yield peer, relay, storescp
        storescp.close()
        relay.end()


def received(end: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count and (chunk := end.recv(count - len(found))):
        found += chunk
    return found


def test_every_byte_arrives_in_both_directions_at_once(ends):
    peer, _, storescp = ends
    there, back = os.urandom(5_000_000), os.urandom(3_000_000)
    senders = [threading.Thread(target=peer.sendall, args=(there,))]
    senders += [threading.Thread(target=storescp.sendall, args=(back,))]
    for sender in senders:
        sender.start()
    answers: list[bytes] = []
    reader = threading.Thread(target=lambda: answers.append(received(peer, len(back))))
    reader.start()
    assert received(storescp, len(there)) == there
    for thread in (*senders, reader):
        thread.join(20)
    assert answers == [back]


def test_the_end_of_one_side_is_the_end_of_the_other(ends):
    peer, _, storescp = ends
    peer.sendall(b"the last")
    peer.shutdown(socket.SHUT_WR)
    assert received(storescp, 9) == b"the last"
    storescp.sendall(b"bye")
    storescp.close()
    assert received(peer, 4) == b"bye"


def test_what_storescp_said_last_reaches_a_peer_that_still_sends(ends):
    peer, _, storescp = ends
    storescp.sendall(b"abort")
    storescp.close()
    for _ in range(3):
        peer.sendall(bytes(1 << 16))
    assert received(peer, 5) == b"abort"


def test_a_connection_that_breaks_ends_storescps_socket(ends):
    peer, _, storescp = ends
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()  # It resets the connection.
    assert received(storescp, 1) == b""


def test_a_peer_that_reads_nothing_is_waited_for_until_the_last_moment(ends, monkeypatch):
    monkeypatch.setattr(storescp_start, "LAST_SECONDS", 0.2)
    peer, relay, storescp = ends
    storescp.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while storescp.send(bytes(1 << 20)):
            pass
    storescp.close()
    relay.end()
    peer.settimeout(20)
    while peer.recv(1 << 20):
        pass  # What was sent may still be read; then the connection has ended.
