"""The A-ASSOCIATE-RQ as it comes from a stranger: read, never believed, never taken from the socket."""

import socket
import struct
import threading
import time

import pytest
from support.peers.association_requests import context, item, request

from pipeline.receiving.peek import (
    HUNG_UP,
    LONGEST,
    AssociateRequest,
    NotAnAssociation,
    SaidNothing,
    parse,
    peek,
)

CT = b"1.2.840.10008.5.1.4.1.1.2"


def test_titles_and_abstract_syntaxes_are_read_in_order_and_once():
    pdu = request(b"MODALITY", b"STORESTOW", context(1, CT), context(3, b"1.2.3"), context(5, CT))
    assert parse(pdu) == AssociateRequest("MODALITY", "STORESTOW", (CT.decode(), "1.2.3"))


def test_a_request_of_pynetdicom_is_read():
    from pynetdicom.pdu import A_ASSOCIATE_RQ
    from pynetdicom.pdu_primitives import A_ASSOCIATE
    from pynetdicom.presentation import build_context

    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "PYNET", "STORESTOW"
    contexts = [build_context(uid) for uid in (CT.decode(), "1.2.840.10008.1.1")]
    for number, one in enumerate(contexts):
        one.context_id = 2 * number + 1
    primitive.presentation_context_definition_list = contexts
    primitive.user_information = []
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    assert parse(pdu.encode()) == AssociateRequest("PYNET", "STORESTOW", (CT.decode(), "1.2.840.10008.1.1"))


@pytest.mark.parametrize("uid", [b"", b"1.2\n[x]", b"1.2\\Any", b"1.2;x", b"1" * 65, b"1.2.\xc3\xbc"])
def test_what_is_no_uid_never_gets_into_a_profile(uid):
    assert parse(request(b"A", b"B", context(1, uid), context(3, b"1.2.3"))).abstract_syntaxes == ("1.2.3",)


@pytest.mark.parametrize("padding", [b"\0", b" "])
def test_a_padded_uid_is_read_without_its_padding(padding):
    assert parse(request(b"A", b"B", context(1, b"1.2.3" + padding))).abstract_syntaxes == ("1.2.3",)


def test_an_item_that_claims_more_than_there_is_ends_the_list():
    pdu = request(b"A", b"B", context(1, b"1.2.3"), b"\x20\0\xff\xff\1\0\0\0")
    assert parse(pdu).abstract_syntaxes == ("1.2.3",)


def test_items_of_other_kinds_are_passed_over():
    pdu = request(
        b"A", b"B", item(0x10, b"1.2.840.10008.3.1.1.1"), context(1, b"1.2.3"), item(0x50, b"\x51\0\0\4max!")
    )
    assert parse(pdu).abstract_syntaxes == ("1.2.3",)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\1\0\0",
        b"GET / HTTP/1.1\r\n",
        b"\2\0\0\0\0\x44" + b"\0" * 68,
        b"\1\0" + struct.pack(">I", 67) + b"\0" * 67,
        b"\1\0" + struct.pack(">I", LONGEST + 1),
        b"\1\0" + struct.pack(">I", 100) + b"\0" * 99,
        request(b"A", b"B") + b"\0",
    ],
)
def test_anything_else_is_no_association(data):
    with pytest.raises(NotAnAssociation):
        parse(data)


@pytest.fixture
def wire():
    """Return both ends of a TCP connection: ours and the peer's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    with ours, peer:
        yield ours, peer


def test_peeking_leaves_every_byte_for_storescp(wire):
    ours, peer = wire
    pdu = request(b"A", b"B", context(1, CT))
    peer.sendall(pdu + b"more")
    assert peek(ours) == parse(pdu)
    ours.settimeout(5)
    assert ours.recv(len(pdu) + 4, socket.MSG_WAITALL) == pdu + b"more"


def test_a_request_in_pieces_is_put_together(wire):
    ours, peer = wire
    pdu = request(b"A", b"B", context(1, CT))

    def dribble():
        for start in range(0, len(pdu), 40):
            peer.sendall(pdu[start : start + 40])
            time.sleep(0.01)

    sender = threading.Thread(target=dribble)
    sender.start()
    assert peek(ours) == parse(pdu)
    sender.join()


def test_the_longest_request_fits_through_the_window(wire):
    ours, peer = wire
    contexts = [
        context(1, b"1.2.3." + str(n).encode(), *[b"1.2.840.10008.1.2.4." + b"9" * 40] * 30) for n in range(110)
    ]
    pdu = request(b"A", b"B", *contexts)
    assert 200_000 < len(pdu) < LONGEST
    sender = threading.Thread(target=peer.sendall, args=(pdu,))
    sender.start()
    assert len(peek(ours, patience=10).abstract_syntaxes) == 110
    ours.settimeout(5)
    received = 0
    while received < len(pdu):
        received += len(ours.recv(65536))
    sender.join()


@pytest.mark.parametrize("start", [b"", b"\1", b"\1\0\0\0\0\xcd", request(b"A", b"B", context(1, CT))[:-1]])
def test_a_peer_that_falls_silent_is_given_up_in_time(wire, start):
    ours, peer = wire
    peer.sendall(start)
    began = time.monotonic()
    with pytest.raises(NotAnAssociation, match="in time"):
        peek(ours, patience=0.2)
    assert time.monotonic() - began < 2


def test_a_peer_that_closes_at_once_said_nothing(wire):
    ours, peer = wire
    peer.close()
    with pytest.raises(SaidNothing):
        peek(ours)


def test_a_peer_that_closes_in_the_middle_is_given_up_in_time(wire):
    ours, peer = wire
    peer.sendall(request(b"A", b"B", context(1, CT))[:-1])
    peer.shutdown(socket.SHUT_WR)
    with pytest.raises(NotAnAssociation):
        peek(ours, patience=0.2)


def test_a_connection_that_breaks_is_no_association(wire):
    ours, peer = wire
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    with pytest.raises(NotAnAssociation):
        peek(ours, patience=1)


@pytest.mark.skipif(not HUNG_UP, reason="only Linux tells")
def test_a_peer_that_hangs_up_in_the_middle_of_its_request_is_not_waited_for():
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            theirs.sendall(request(b"A", b"B")[:-1])
        began = time.monotonic()
        with pytest.raises(NotAnAssociation, match="in the middle"):
            peek(ours, patience=30)
        assert time.monotonic() - began < 5
