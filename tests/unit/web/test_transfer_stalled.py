"""Clients that stall, and requests that are none."""

import select
import socket
import time

import pytest
from support.machine.dicom_programs import wait_until
from support.sites.shim_site import KEY, running_shim

from pipeline.model import OrderState
from pipeline.web.client_connection import ClientConnection

LINK = "/mkiso.php?accession_number=A1"
CONTENT = bytes(range(256)) * 40  # 10240 bytes


@pytest.fixture
def shim(shim):
    shim.orders.plan = {"state": OrderState.DONE, "result": shim.file(CONTENT)}
    return shim


class Impatient(ClientConnection):
    look_seconds = 0.05
    patience_seconds = 0.4
    saying_seconds = 0.4
    looks = 0  # at all of its connections

    def _look(self):
        Impatient.looks += 1
        super()._look()


LOOKS = 8  # at one connection, in either time


@pytest.fixture
def impatient(tmp_path, monkeypatch):
    with running_shim(tmp_path, monkeypatch, connection=Impatient) as running:
        running.orders.plan = {"state": OrderState.DONE, "result": running.file(bytes(32 << 20))}
        yield running


def connected(shim, *, window=1 << 15):
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    client.settimeout(10)
    client.connect(("127.0.0.1", int(shim.url.rpartition(":")[2])))
    return client


def ask(client):
    client.sendall(f"GET {LINK} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n\r\n".encode())


def taken_until_reset(client):
    """Return how many bytes came before the connection was reset; fails where it was closed in order."""
    taken = 0
    try:
        while piece := client.recv(1 << 20):
            taken += len(piece)
    except ConnectionError:
        return taken
    raise AssertionError("not reset")


def test_a_client_that_takes_nothing_is_dropped(impatient):
    with connected(impatient) as client:
        ask(client)
        client.recv(1000)
        broken = select.poll()
        broken.register(client, 0)  # it is told of an end alone: to read would be to take
        assert broken.poll(10_000), "not dropped"
        assert taken_until_reset(client) < 32 << 20


def test_a_slow_client_that_goes_on_taking_is_not_dropped(impatient):
    with connected(impatient) as client:
        ask(client)
        received, enough = 0, Impatient.looks + 3 * LOOKS
        while Impatient.looks < enough:
            received += len(client.recv(1 << 15))
            time.sleep(0.02)
        while received < (32 << 20):
            piece = client.recv(1 << 20)
            assert piece, "dropped although it was taking"
            received += len(piece)


def test_a_client_that_does_not_get_its_request_said_is_dropped(impatient):
    with connected(impatient) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        began = time.monotonic()
        assert taken_until_reset(client) == 0
        assert time.monotonic() - began < 5


def test_a_client_that_asks_again_and_again_on_one_connection_is_not_dropped(impatient):
    with connected(impatient) as client:
        enough = Impatient.looks + 4 * LOOKS
        while Impatient.looks < enough:
            client.sendall(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
            said = b""
            while not said.endswith(b"}"):
                piece = client.recv(1 << 16)
                assert piece, "dropped although it was asking"
                said += piece
            time.sleep(0.02)


def test_waiting_for_an_order_is_no_stalling(impatient):
    impatient.orders.plan = {}
    with connected(impatient) as client:
        ask(client)
        wait_until(lambda: impatient.orders.views, what="the order")
        enough = Impatient.looks + 2 * LOOKS
        wait_until(lambda: Impatient.looks >= enough, what="more looks than it would have had patience for")
        impatient.orders.change(1, state=OrderState.DONE, result=impatient.file(b"x"))
        assert b"200 OK" in client.recv(1000)


@pytest.mark.parametrize(
    "request_text",
    [
        b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-Long: " + b"a" * 20000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
def test_what_is_no_reasonable_request_is_refused_at_the_door(shim, request_text):
    with connected(shim) as client:
        client.sendall(request_text)
        assert client.recv(1000).startswith(b"HTTP/1.1 4")
    assert shim.get("/api/health").status_code in {200, 503}
