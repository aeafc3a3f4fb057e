"""Who may come in, how many at once, and in which of the standard's words the others are told."""

import socket
import threading
import time

import pytest

from pipeline.config.receiver_tables import ReceiverTable
from pipeline.receiving import reject_association
from pipeline.receiving.association_limits import MORE_AT_THE_DOOR, AssociationLimits, AssociationRefused
from pipeline.receiving.peek import AssociateRequest

CT = AssociateRequest("CT1", "STORESTOW", ())


def entrance(*, full: bool = False, **keys: object) -> AssociationLimits:
    receiver = ReceiverTable(name="r", ae_title="STORESTOW", port=11112, mode="association", **keys)
    return AssociationLimits(receiver, lambda: full)


def turned_away(call) -> tuple[str, tuple[int, int, int] | None]:
    with pytest.raises(AssociationRefused) as turned:
        call()
    answer = turned.value.rejection
    return str(turned.value), tuple(answer) if answer else None


def test_whoever_nothing_is_said_about_may_come_in():
    entrance().reserve("192.0.2.1").accept(AssociateRequest("ANYBODY", "ANYTHING", ()))


@pytest.mark.parametrize(
    ("proposal", "answer"),
    [(AssociateRequest("", "STORESTOW", ()), (1, 1, 3)), (AssociateRequest("CT1", "", ()), (1, 1, 7))],
)
def test_a_blank_ae_title_is_rejected_whoever_may_come_in(proposal, answer):
    visit = entrance().reserve("192.0.2.1")
    why, rejected = turned_away(lambda: visit.accept(proposal))
    assert (rejected, "blank" in why) == (answer, True)


@pytest.mark.parametrize("peer", ["192.0.2.1", "192.0.2.255", "2001:db8::7"])
def test_an_address_of_an_allowed_network_may_knock(peer):
    entrance(allow_peers=["192.0.2.0/24", "2001:db8::7"]).reserve(peer)


@pytest.mark.parametrize("peer", ["192.0.3.1", "2001:db8::8", "127.0.0.1"])
def test_another_address_is_closed_without_an_answer(peer):
    door = entrance(allow_peers=["192.0.2.0/24", "2001:db8::7"])
    assert turned_away(lambda: door.reserve(peer)) == ("its address is not in allow_peers", None)


@pytest.mark.parametrize(
    ("keys", "full", "answer"),
    [
        ({"allow_calling_ae_titles": ["MR*", "CT2"]}, False, (1, 1, 3)),
        ({"allow_calling_ae_titles": ["ct1"]}, False, (1, 1, 3)),
        ({"allow_called_ae_titles": ["OTHER"]}, False, (1, 1, 7)),
        ({"allow_calling_ae_titles": ["CT?"], "allow_called_ae_titles": ["STORESTOW"]}, True, (2, 3, 2)),
    ],
)
def test_a_proposal_that_does_not_fit_is_rejected_with_its_reason(keys, full, answer):
    visit = entrance(full=full, **keys).reserve("192.0.2.1")
    assert turned_away(lambda: visit.accept(CT))[1] == answer


def test_names_that_fit_come_in():
    entrance(allow_calling_ae_titles=["MR", "CT*"], allow_called_ae_titles=["STORESTOW"]).reserve(
        "192.0.2.1"
    ).accept(CT)


def test_one_peer_has_so_many_seats_and_no_more_and_another_peer_has_his_own():
    door = entrance(max_associations_per_peer=2)
    visits = [door.reserve("192.0.2.1") for _ in range(3)]
    visits[0].accept(CT)
    visits[1].accept(CT)
    why, answer = turned_away(lambda: visits[2].accept(CT))
    assert (answer, "max_associations_per_peer" in why) == ((2, 3, 2), True)
    door.reserve("192.0.2.2").accept(CT)
    visits[0].end()
    visits[2].accept(CT)


def test_there_are_so_many_seats_in_all():
    door = entrance(max_associations=2)
    visits = [door.reserve(f"192.0.2.{number}") for number in range(3)]
    visits[0].accept(CT)
    visits[1].accept(CT)
    why, answer = turned_away(lambda: visits[2].accept(CT))
    assert (answer, "max_associations)" in why) == ((2, 3, 1), True)
    visits[1].end()
    visits[2].accept(CT)


def test_peers_that_say_nothing_stand_at_the_door_and_take_no_seat():
    door = entrance(max_associations=4, max_associations_per_peer=1)
    silent = [door.reserve("192.0.2.1") for _ in range(1 + MORE_AT_THE_DOOR)]
    why, _ = turned_away(lambda: door.reserve("192.0.2.1"))
    assert why.endswith("and its request is not read")
    door.reserve("192.0.2.2").accept(CT)
    for visit in silent:
        visit.end()
    door.reserve("192.0.2.1").accept(CT)


def test_silent_connections_of_two_addresses_shut_out_no_third():
    door = entrance()
    silent = [door.reserve(f"192.0.2.{number % 2}") for number in range(64 + MORE_AT_THE_DOOR)]
    newcomer = door.reserve("192.0.2.7")
    assert [visit.gave_way for visit in silent] == [True] + [False] * 79
    newcomer.accept(CT)
    for visit in silent:
        visit.end()
    assert (
        len([door.reserve("192.0.2.9") for _ in range(32 + MORE_AT_THE_DOOR)]) == 48
    )  # every place was given back


def test_nobody_gives_way_to_an_address_that_has_as_many_silent_connections():
    door = entrance(max_associations=2, max_associations_per_peer=20)
    silent = [door.reserve(f"192.0.2.{number % 3}") for number in range(2 + MORE_AT_THE_DOOR)]
    assert "its request is not read" in turned_away(lambda: door.reserve("192.0.2.1"))[0]
    assert not [visit for visit in silent if visit.gave_way]


def test_a_connection_that_gives_way_is_hung_up_on():
    door = entrance(max_associations=1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname(), timeout=10)
        connection, _ = listener.accept()
        with peer, connection:
            visit = door.reserve("192.0.2.1", connection)
            for _ in range(MORE_AT_THE_DOOR):
                door.reserve("192.0.2.1")
            door.reserve("192.0.2.2")
            assert visit.gave_way
            assert (peer.recv(1), connection.recv(1)) == (b"", b"")
            visit.end()


def test_the_bounds_hold_when_all_come_at_once():
    door = entrance(max_associations=5, max_associations_per_peer=1000)
    seated, start = [], threading.Barrier(20)

    def come() -> None:
        visit = door.reserve("192.0.2.1")
        start.wait()
        try:
            visit.accept(CT)
            seated.append(visit)
        except AssociationRefused:
            visit.end()

    threads = [threading.Thread(target=come) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seated) == 5


def test_a_rejection_is_the_ten_bytes_of_the_standard():
    assert (
        reject_association.pdu(reject_association.CALLING_AE_TITLE_NOT_RECOGNIZED)
        == b"\x03\0\0\0\0\x04\0\x01\x01\x03"
    )
    assert reject_association.pdu(reject_association.LOCAL_LIMIT_EXCEEDED) == b"\x03\0\0\0\0\x04\0\x02\x03\x02"


def test_the_peer_reads_the_rejection_although_its_request_was_never_taken():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname(), timeout=10)
        connection, _ = listener.accept()
        with peer, connection:
            peer.sendall(b"x" * 100_000)
            closing = threading.Timer(0.2, peer.shutdown, (socket.SHUT_WR,))
            closing.start()
            reject_association.reject(connection, reject_association.TEMPORARY_CONGESTION)
            connection.close()
            assert peer.recv(100) == reject_association.pdu(reject_association.TEMPORARY_CONGESTION)


def test_a_peer_that_neither_reads_nor_closes_is_left_in_time(monkeypatch):
    monkeypatch.setattr(reject_association, "PATIENCE_SECONDS", 0.2)
    ours, theirs = socket.socketpair()
    began = time.monotonic()
    with ours, theirs:
        reject_association.reject(ours, reject_association.TEMPORARY_CONGESTION)
    assert time.monotonic() - began < 5
