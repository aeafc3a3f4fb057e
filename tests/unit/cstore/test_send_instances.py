"""kind = "cstore": what each status, rejection and break of an association leads to, and what is sent again."""

import struct
from dataclasses import replace

import pytest
from support.peers.storage_peer import (
    Abort,
    Answer,
    Close,
    Release,
    Silence,
    StoragePeer,
    Trickle,
    Words,
    deliver,
    destination,
    rejection,
    states,
    storage_peer,
)
from support.studies.small_studies import Attempts, consign, make_item, make_study, uids_of

from pipeline.cstore import send_instances
from pipeline.errors import PeerUnavailable, Permanent, Transient
from pipeline.model import ReceiptState

# --- what each status means (PS3.4 B.2.3, PS3.7 annex C) -------------------------------------------

OUTCOMES = [
    (0x0000, "stored", True, None),
    (0xB000, "warned", True, None),
    (0xB006, "warned", True, None),
    (0xB007, "warned", True, None),
    (0xB123, "warned", True, None),
    (0x0111, "duplicate", True, None),
    (0xA700, "pending", False, PeerUnavailable),
    (0xA7FF, "pending", False, PeerUnavailable),
    (0x0213, "pending", False, PeerUnavailable),
    (0xA777, "refused", False, None),  # dcm4chee's: no Patient ID
    (0xA900, "refused", False, None),
    (0xA9FF, "refused", False, None),
    (0xC000, "refused", False, None),
    (0xCFFF, "refused", False, None),
    (0xC122, "refused", False, None),
    (0x0122, "refused", False, None),
    (0x0124, "refused", False, None),
    (0x0117, "refused", False, None),
    (0x0210, "refused", False, None),
    (0x0211, "refused", False, None),
    (0x0212, "refused", False, None),
    (0x0110, "pending", False, Transient),
    (0x1234, "pending", False, Transient),
    (0xFFFF, "pending", False, Transient),
]


@pytest.mark.parametrize(
    ("status", "state", "verified", "error"), OUTCOMES, ids=lambda v: f"{v:04X}" if v.__class__ is int else None
)
def test_each_status_has_its_outcome(tmp_path, status, state, verified, error):
    with storage_peer(answer=lambda _one: status) as peer:
        receipts, _, raised = deliver(peer.port, make_study(tmp_path, 1))
    [receipt] = receipts.values()
    assert (receipt.state.value, receipt.code, receipt.verified) == (state, f"0x{status:04X}", verified)
    assert receipt.message or status == 0
    assert (type(raised) if raised else None) is error
    assert peer.released == len(peer.requests)


def test_one_refused_instance_leaves_the_others_alone(tmp_path):
    items = make_study(tmp_path, 4)
    with storage_peer(answer=lambda one: 0xA900 if one.number == 2 else 0) as peer:
        receipts, _, error = deliver(peer.port, items)
    assert error is None
    assert states(receipts) == ["stored", "refused", "stored", "stored"]
    assert len(peer.requests) == 1


def test_the_elements_a_peer_complains_of_are_named_and_its_comment_is_not_repeated(tmp_path):
    comment = b"Doe^Jane is no patient"
    more = struct.pack("<HHLHH", 0, 0x0901, 4, 0x0010, 0x0020) + struct.pack("<HHL", 0, 0x0902, 22) + comment
    with storage_peer(answer=lambda _one: Answer(0xA900, more=more)) as peer:
        receipts, _, _ = deliver(peer.port, make_study(tmp_path, 1))
    [receipt] = receipts.values()
    assert "(0010,0020)" in receipt.message
    assert "Doe" not in receipt.message


def test_a_peer_out_of_resources_is_left_alone_after_a_few_answers(tmp_path):
    attempts = Attempts()
    with storage_peer(answer=lambda _one: 0xA700) as peer:
        receipts, _, error = deliver(peer.port, make_study(tmp_path, 40), attempts)
    assert isinstance(error, PeerUnavailable)
    assert "out of resources" in str(error)
    assert len(peer.received) == len(receipts) == 3
    assert len(attempts.uids) == 32


def test_one_instance_too_large_for_the_peer_does_not_hold_back_the_others(tmp_path):
    with storage_peer(answer=lambda one: 0xA700 if one.number == 1 else 0) as peer:
        receipts, _, error = deliver(peer.port, make_study(tmp_path, 4))
    assert type(error) is Transient
    assert states(receipts) == ["pending", "stored", "stored", "stored"]


def test_an_instance_the_peer_fails_at_is_tried_three_times_and_blamed_if_others_went(tmp_path):
    items = make_study(tmp_path, 3)
    bad = items[0].key.sop_instance_uid
    with storage_peer(answer=lambda one: 0x0110 if one.uid == bad else 0) as peer:
        receipts, _, error = deliver(peer.port, items)
    assert error is None
    assert states(receipts) == ["refused", "stored", "stored"]
    assert receipts[bad].code == "0x0110"
    assert peer.uids.count(bad) == 3
    assert len(peer.uids) == 5


def test_an_instance_that_goes_the_second_time_is_stored(tmp_path):
    with storage_peer(answer=lambda one: 0x0110 if one.number == 1 else 0) as peer:
        receipts, _, error = deliver(peer.port, make_study(tmp_path, 2))
    assert error is None
    assert states(receipts) == ["stored", "stored"]


# --- associations that do not come about (PS3.8 9.3.4) ---------------------------------------------

REJECTIONS = [
    ((1, 1, 1), Permanent, "no reason given"),
    ((1, 1, 2), Permanent, "application context"),
    ((1, 1, 3), Permanent, "calling_ae_title"),
    ((1, 1, 7), Permanent, "ae_title"),
    ((1, 2, 2), Permanent, "protocol version"),
    ((2, 1, 1), PeerUnavailable, "for now"),
    ((2, 3, 1), PeerUnavailable, "temporary congestion"),
    ((2, 3, 2), PeerUnavailable, "local limit exceeded"),
    ((9, 9, 9), PeerUnavailable, "reason 9"),
]


@pytest.mark.parametrize(("numbers", "kind", "words"), REJECTIONS)
def test_a_rejected_association_is_final_only_where_the_peer_says_so(tmp_path, numbers, kind, words):
    attempts = Attempts()
    with storage_peer(greet=lambda _n: rejection(*numbers)) as peer:
        receipts, _, error = deliver(peer.port, make_study(tmp_path, 2), attempts)
    assert type(error) is kind
    assert words in str(error)
    assert "PUBLISHER at 127.0.0.1" in str(error)
    assert receipts == {}
    assert attempts.uids == []


GREETINGS = {
    "aborts": Abort(1),
    "closes": Close(),
    "is silent": Silence(),
    "speaks another protocol": Words(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "answers with a release": Release(),
    "cuts its answer": Words(struct.pack(">BxL", 2, 5000) + bytes(100)),
    "accepts with garbage": Words(struct.pack(">BxL", 2, 80) + bytes(67) + b"\xff" * 13),
    "answers with a huge PDU": Words(struct.pack(">BxL", 2, 0x7FFFFFFF)),
}


@pytest.mark.parametrize("greeting", GREETINGS.values(), ids=GREETINGS)
def test_a_peer_that_opens_no_association_is_unavailable_and_nothing_was_attempted(tmp_path, greeting):
    attempts = Attempts()
    with storage_peer(greet=lambda _n: greeting) as peer:
        receipts, _, error = deliver(peer.port, make_study(tmp_path, 2), attempts)
    assert type(error) is PeerUnavailable
    assert (receipts, attempts.uids) == ({}, [])


@pytest.mark.parametrize("name", ["speaks another protocol", "answers with a huge PDU"])
def test_what_is_no_answer_is_not_waited_for(tmp_path, name):
    with storage_peer(greet=lambda _n: GREETINGS[name]) as peer:
        _, _, error = deliver(peer.port, make_study(tmp_path, 1))
    assert "does not answer in DICOM" in str(error)


def test_a_peer_that_is_not_there_is_unavailable(tmp_path):
    with storage_peer() as peer:
        pass
    _, _, error = deliver(peer.port, make_study(tmp_path, 1))
    assert type(error) is PeerUnavailable
    assert "refused" in str(error)


def test_a_host_name_nobody_knows_is_unavailable(tmp_path):
    with pytest.raises(PeerUnavailable, match="cannot be reached"):
        list(destination(104, host="no.such.host.invalid").deliver(consign(make_study(tmp_path, 1))))


# --- associations that break -----------------------------------------------------------------------

BREAKS = {
    "an abort": (Abort(), "aborted the association"),
    "an abort with a reason": (Abort(6), "invalid PDU parameter value"),
    "a closed connection": (Close(), "closed the connection"),
    "a release": (Release(), "released"),
    "silence": (Silence(), "has not answered in time"),
    "a trickle": (Trickle(), "has not answered in time"),
    "another message's answer": (Answer(0, message=4711), "something else"),
    "another instance's answer": (Answer(0, uid="1.2.3.4"), "another SOP Instance"),
    "another command's answer": (Answer(0, command=0x8030), "something else"),
    "an answer in another context": (Answer(0, context=3), "another presentation context"),
    "garbage": (Words(b"\x04\0\0\0\0\x06\0\0\0\xff\x01\x03"), "cut"),
    "a PDU of no meaning": (Words(struct.pack(">BxL4x", 2, 4)), "no sense"),
    "a command set that is none": (Words(struct.pack(">BxLLBB", 4, 14, 10, 1, 3) + bytes(8)), "no response"),
}


@pytest.mark.parametrize(("said", "words"), BREAKS.values(), ids=BREAKS)
def test_an_association_that_breaks_costs_the_instance_that_was_under_way_and_no_other(tmp_path, said, words):
    items = make_study(tmp_path, 5)
    with storage_peer(answer=lambda one: said if one.number == 3 else 0) as peer:
        receipts, every, error = deliver(peer.port, items)
    assert error is None
    assert states(receipts) == ["stored"] * 5
    third = items[2].key
    assert [(r.state.value, r.verified) for r in every if r.key == third] == [("pending", False), ("stored", True)]
    assert words in next(r.message for r in every if r.key == third)
    assert peer.uids == [*uids_of(items), third.sop_instance_uid]  # the broken one again, last; no other twice
    assert len(peer.requests) == 3


def test_an_instance_that_breaks_every_association_does_not_hold_back_the_others(tmp_path):
    items = make_study(tmp_path, 6)
    bad = items[1].key.sop_instance_uid
    with storage_peer(answer=lambda one: Abort(2) if one.uid == bad else 0) as peer:
        receipts, _, error = deliver(peer.port, items)
    assert error is None
    assert states(receipts) == ["stored", "refused", "stored", "stored", "stored", "stored"]
    assert "while it takes others" in receipts[bad].message
    assert peer.uids.count(bad) == 3


def test_alone_it_is_not_blamed_but_tried_again_later(tmp_path):
    with storage_peer(answer=lambda _one: Abort(2)) as peer:
        receipts, _, error = deliver(peer.port, make_study(tmp_path, 1))
    assert type(error) is Transient
    assert states(receipts) == ["pending"]


def test_a_peer_that_answers_for_nothing_is_given_up_for_now(tmp_path):
    attempts = Attempts()
    with storage_peer(answer=lambda _one: Close()) as peer:
        receipts, _, error = deliver(peer.port, make_study(tmp_path, 40), attempts)
    assert type(error) is Transient
    assert len(peer.requests) == 8
    assert set(states(receipts)) == {"pending"}


def test_a_silent_peer_is_waited_for_twice_only(tmp_path):
    with storage_peer(answer=lambda _one: Silence()) as peer:
        _, _, error = deliver(peer.port, make_study(tmp_path, 9))
    assert type(error) is Transient
    assert len(peer.received) == 2


def test_a_peer_that_ends_each_association_after_ten_gets_everything_all_the_same(tmp_path):
    with storage_peer(answer=lambda one: Abort() if one.number % 10 == 0 else 0) as peer:
        receipts, _, error = deliver(peer.port, make_study(tmp_path, 95))
    assert error is None
    assert set(states(receipts)) == {"stored"}


def test_a_peer_that_goes_away_half_way_leaves_what_it_answered_and_the_rest_is_deferred(tmp_path):
    items = make_study(tmp_path, 6)

    def gone(number):
        return None if number == 1 else Close()

    with storage_peer(greet=gone, answer=lambda one: Close() if one.number == 4 else 0) as peer:
        receipts, _, error = deliver(peer.port, items)
    assert type(error) is PeerUnavailable
    assert {uid: r.state.value for uid, r in receipts.items()} == {
        **dict.fromkeys(uids_of(items[:3]), "stored"),
        items[3].key.sop_instance_uid: "pending",
    }


def test_an_abort_while_a_large_instance_is_on_its_way_is_told_as_what_it_was(tmp_path, monkeypatch):
    seen = []

    def impatient(self, connection):
        pdu = real(self, connection)
        if pdu[0] == 4 and not seen:
            seen.append(pdu)
            connection.sendall(Abort(5).pdu)
            while connection.recv(1 << 16):
                pass
        return pdu

    real = StoragePeer._pdu
    monkeypatch.setattr(StoragePeer, "_pdu", impatient)
    with storage_peer() as peer:
        receipts, every, error = deliver(peer.port, [make_item(tmp_path, 1, padding=30_000_000)])
    assert error is None
    assert states(receipts) == ["stored"]
    assert "the peer aborted the association: unexpected PDU parameter" in every[0].message


def test_a_worker_that_goes_away_aborts_and_what_it_announced_is_a_batch(tmp_path):
    items = make_study(tmp_path, 50)
    attempts = Attempts()
    with storage_peer() as peer:
        receipts = destination(peer.port).deliver(consign(items, attempts))
        first = [next(receipts) for _ in range(3)]
        receipts.close()
    assert {r.state for r in first} == {ReceiptState.STORED}
    assert (peer.aborted, peer.released) == (1, 0)
    assert attempts.uids == uids_of(items[:32])
    assert peer.uids == uids_of(items[:3])


def test_a_batch_is_bounded_in_bytes_too(tmp_path, monkeypatch):
    monkeypatch.setattr(send_instances, "MOST_BYTES_AHEAD", 25_000)
    items = make_study(tmp_path, 5, padding=10_000)
    announced = []
    with storage_peer() as peer:
        sending = destination(peer.port).deliver(
            replace(consign(items), attempt=lambda some: announced.append((len(some), len(peer.received))))
        )
        assert len(list(sending)) == 5
    assert announced == [(2, 0), (2, 2), (1, 4)]  # each batch when the one before has been answered


def test_what_was_attempted_before_goes_last(tmp_path):
    items = [make_item(tmp_path, n, attempted=n in {1, 2}) for n in range(1, 5)]
    with storage_peer() as peer:
        deliver(peer.port, items)
    assert peer.uids == uids_of([items[2], items[3], items[0], items[1]])


def test_a_consumer_in_no_hurry_loses_nothing(tmp_path):
    """The ledger is written between two receipts; the peer waits meanwhile."""
    with storage_peer() as peer:
        kinds = []
        for receipt in destination(peer.port).deliver(consign(make_study(tmp_path, 3))):
            kinds.append(receipt.state)
            assert len(peer.received) == len(kinds)
    assert len(kinds) == 3
