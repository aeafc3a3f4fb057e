"""The small parts of a receiver: its output as events, its port, its signals, its addresses."""

import logging
import os
import signal
import socket
import threading
import time

import pytest
from support.machine.dicom_programs import free_port

from pipeline.config.receiver_tables import ReceiverTable
from pipeline.errors import Configuration
from pipeline.receiving import listening_port
from pipeline.receiving.association_receiver import open_listener, peer_of
from pipeline.receiving.program_log import LONGEST_LINE, ProgramLog
from pipeline.receiving.signal_socket import Signals


def receiver(port: int, **more: object) -> ReceiverTable:
    return ReceiverTable(name="ct", ae_title="STORESTOW", port=port, **more)


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.DEBUG, "storestow")
    return caplog


def test_every_line_is_one_event_however_it_was_cut(said):
    output = ProgramLog("ct")
    for chunk in (b"W: one\nE: t", b"", b"wo\n\nthree"):
        if chunk:
            output.hear(chunk)
    output.hear(b"")
    assert said.messages == [
        'program program=storescp receiver=ct says="W: one"',
        'program program=storescp receiver=ct says="E: two"',
        "program program=storescp receiver=ct says=three",
    ]
    assert [record.levelno for record in said.records] == [logging.WARNING, logging.ERROR, logging.WARNING]


def test_a_line_without_end_is_bounded(said):
    output = ProgramLog("ct")
    for _ in range(10):
        output.hear(b"x" * LONGEST_LINE)
    output.hear(b"")
    assert len(said.messages) >= 10
    assert max(map(len, said.messages)) < 2 * LONGEST_LINE


def test_what_a_peer_made_storescp_say_stays_on_its_line(said):
    output = ProgramLog("ct")
    output.hear(b'E: \x1b[31m\r"forged"\xff study=1.2\n')
    (message,) = said.messages
    assert message.isprintable()
    assert message.isascii()


def test_a_free_port_is_fine_and_a_taken_one_names_its_holder(monkeypatch):
    monkeypatch.setattr(listening_port, "PATIENCE_SECONDS", 0.1)
    port = free_port()
    listening_port.require_free_port(receiver(port))
    with (
        socket.create_server(("", port)),
        pytest.raises(Configuration, match=rf'receiver "ct".port = {port} is in use by .*process {os.getpid()}\)'),
    ):
        listening_port.require_free_port(receiver(port))
    listening_port.require_free_port(receiver(port))


def test_a_port_that_becomes_free_in_time_is_fine():
    port = free_port()
    taken = socket.create_server(("", port))  # as the hook of an earlier storescp holds it for a moment
    threading.Timer(0.2, taken.close).start()
    listening_port.require_free_port(receiver(port))


def test_a_port_without_the_privilege_names_the_capability(monkeypatch):
    def refuse(_self, _address):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(listening_port.socket.socket, "bind", refuse)
    with pytest.raises(Configuration, match=r'receiver "ct".port = 104 needs a privilege: .*CAP_NET_BIND_SERVICE'):
        open_listener(receiver(104, mode="association"))


def test_a_port_storescp_refuses_to_all_but_root_names_the_mode_that_can(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Configuration, match=r'port = 104: storescp refuses .* use mode = "association"'):
        listening_port.require_free_port(receiver(104))


def speaks_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


ipv6 = pytest.mark.skipif(not speaks_ipv6(), reason="this machine has no IPv6")


@pytest.mark.parametrize(
    ("bind", "call"),
    [
        ("127.0.0.1", "127.0.0.1"),
        pytest.param("::1", "::1", marks=ipv6),
        pytest.param("::", "127.0.0.1", marks=ipv6),
    ],
)
def test_the_acceptor_listens_where_it_is_told_and_knows_its_peer(bind, call):
    port = free_port()
    with (
        open_listener(receiver(port, mode="association", bind=bind)) as listener,
        socket.create_connection((call, port), timeout=5),
    ):
        connection, address = listener.accept()
        connection.close()
    assert peer_of(address) == call


def test_a_bind_address_of_another_machine_is_a_configuration_error():
    with pytest.raises(
        Configuration, match=r'on "192.0.2.77" cannot be opened: .*choose an address of this machine'
    ):
        open_listener(receiver(free_port(), mode="association", bind="192.0.2.77"))


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        (("192.0.2.7", 1), "192.0.2.7"),
        (("::ffff:192.0.2.7", 1, 0, 0), "192.0.2.7"),
        (("fe80::1%eth0", 1, 0, 2), "fe80::1"),
        (("2001:db8::7", 1, 0, 0), "2001:db8::7"),
    ],
)
def test_a_peer_is_the_number_people_know(address, peer):
    assert peer_of(address) == peer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_wait_ends_when_asked_to_stop_and_handlers_come_back(number):
    before = signal.getsignal(number)
    with Signals() as signals:
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        began = time.monotonic()
        signals.wait(30)
        assert signals.stop
        signals.wait(30)
        signals.pause(30)
        assert time.monotonic() - began < 10
    assert signal.getsignal(number) is before


def test_a_pause_goes_on_when_a_child_ends_and_a_wait_does_not():
    with Signals() as signals:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGCHLD)).start()
        began = time.monotonic()
        signals.wait(30)
        assert time.monotonic() - began < 10
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGCHLD)).start()
        began = time.monotonic()
        signals.pause(0.3)
        assert time.monotonic() - began >= 0.3
        assert not signals.stop


def test_a_wait_tells_when_a_socket_can_be_read():
    one, other = socket.socketpair()
    with one, other, Signals() as signals:
        assert not signals.wait(0.01, [one])
        other.sendall(b"x")
        assert signals.wait(30, [one])
