"""kind = "cstore": what is sent, file by file and context by context; check and configuration."""

from dataclasses import replace

import pytest
from support.peers.storage_peer import (
    TABLE,
    Abort,
    Silence,
    data_set_bytes,
    deliver,
    destination,
    rejection,
    states,
    storage_peer,
)
from support.studies.small_studies import Attempts, make_item, make_study, pinned, uids_of

from pipeline.cstore import send_instances
from pipeline.destinations import from_table
from pipeline.errors import Transient

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT, IMPLICIT, J2K = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.90"

# --- what is sent ----------------------------------------------------------------------------------


def test_every_instance_gets_its_own_status_and_its_very_bytes(tmp_path):
    items = make_study(tmp_path, 3, padding=50_000)
    attempts = Attempts()
    with storage_peer() as peer:
        receipts, _, error = deliver(peer.port, items, attempts)
    assert error is None
    assert states(receipts) == ["stored"] * 3
    assert {(r.code, r.verified, r.message) for r in receipts.values()} == {("0x0000", True, "")}
    assert attempts.uids == uids_of(items) == peer.uids
    assert [one.data for one in peer.received] == [data_set_bytes(item) for item in items]
    assert len(peer.requests) == peer.released == 1
    assert peer.aborted == 0


def test_the_request_says_who_calls_whom(tmp_path):
    with storage_peer() as peer:
        deliver(peer.port, make_study(tmp_path, 1), max_pdu=32768)
    [request] = peer.requests
    assert (request.called_ae_title.strip(), request.calling_ae_title.strip()) == ("PUBLISHER", "STORESTOW")
    assert request.user_information.maximum_length == 32768
    assert str(request.user_information.implementation_class_uid).startswith("2.25.")
    [one] = peer.received
    assert (one.command.AffectedSOPClassUID, one.command.Priority) == (CT, 0)


@pytest.mark.parametrize("longest", [0, 4096, 16384, 1 << 20])
def test_no_pdu_is_longer_than_the_peer_takes(tmp_path, longest):
    items = make_study(tmp_path, 2, padding=300_001)
    with storage_peer(longest_pdu=longest) as peer:  # which asserts it
        receipts, _, _ = deliver(peer.port, items)
    assert states(receipts) == ["stored"] * 2
    assert [one.data for one in peer.received] == [data_set_bytes(item) for item in items]


def test_large_instances_are_streamed_and_small_ones_read_ahead_with_the_same_bytes(tmp_path, monkeypatch):
    items = [
        make_item(tmp_path, n, padding=padding) for n, padding in enumerate([200_000, 1_000, 200_000, 50, 60])
    ]
    monkeypatch.setattr(send_instances, "LARGEST_READ_AHEAD", 100_000)
    with storage_peer() as peer:
        receipts, _, _ = deliver(peer.port, items)
    assert states(receipts) == ["stored"] * 5
    assert [one.data for one in peer.received] == [data_set_bytes(item) for item in items]


def test_zeros_that_pad_a_file_do_not_leave_and_zeros_that_are_pixels_do(tmp_path):
    item = make_item(tmp_path, 1)
    whole = data_set_bytes(item)
    item.path.write_bytes(item.path.read_bytes() + bytes(2048))
    black = make_item(tmp_path, 2, BitsAllocated=8, PixelData=bytes(64))
    padded = replace(pinned(item.path, item.key))
    with storage_peer() as peer:
        receipts, _, _ = deliver(peer.port, [padded, black])
    assert states(receipts) == ["stored", "stored"]
    assert peer.received[0].data == whole
    assert peer.received[1].data == data_set_bytes(black)


def test_each_context_has_one_transfer_syntax_and_only_what_the_consignment_holds_is_proposed(tmp_path):
    ct = make_item(tmp_path, 1)
    mr = replace(make_item(tmp_path, 2), sop_class_uid="1.2.840.10008.5.1.4.1.1.4", transfer_syntax_uid=J2K)
    video = replace(make_item(tmp_path, 3), transfer_syntax_uid="1.2.840.10008.1.2.4.103")
    with storage_peer() as peer:
        deliver(peer.port, [ct, mr, video, replace(ct, key=make_item(tmp_path, 4).key)])
    assert peer.proposals == [
        [
            (CT, [EXPLICIT]),
            (CT, [IMPLICIT]),
            (mr.sop_class_uid, [J2K]),
            (mr.sop_class_uid, [EXPLICIT]),
            (mr.sop_class_uid, [IMPLICIT]),
            (CT, ["1.2.840.10008.1.2.4.103"]),
        ]
    ]
    assert [one.transfer_syntax for one in peer.received] == [EXPLICIT, J2K, "1.2.840.10008.1.2.4.103", EXPLICIT]


def test_more_sop_classes_than_an_association_holds_go_over_several(tmp_path):
    items = [replace(make_item(tmp_path, n), sop_class_uid=f"1.2.826.0.1.3680043.9.7777.{n}") for n in range(140)]
    attempts = Attempts()
    with storage_peer() as peer:
        receipts, _, error = deliver(peer.port, items, attempts)
    assert error is None
    assert set(states(receipts)) == {"stored"}
    assert len(receipts) == 140
    assert len(peer.requests) == peer.released == 3  # two contexts a class
    assert max(len(proposed) for proposed in peer.proposals) == 128
    assert sorted(peer.uids) == sorted(uids_of(items))
    assert {one.uid: one.abstract_syntax for one in peer.received} == {
        item.key.sop_instance_uid: item.sop_class_uid for item in items
    }


# --- files that are not what was pinned ------------------------------------------------------------


@pytest.mark.parametrize("read_ahead", [0, 8 << 20])
def test_a_file_that_is_not_what_was_pinned_never_gets_through(tmp_path, monkeypatch, read_ahead):
    monkeypatch.setattr(send_instances, "LARGEST_READ_AHEAD", read_ahead)
    items = make_study(tmp_path, 5, padding=400_000)
    changed, gone, cut = items[1], items[2], items[3]
    content = changed.path.read_bytes()
    changed.path.write_bytes(content[:-20] + b"x" + content[-19:])
    gone.path.unlink()
    cut.path.write_bytes(cut.path.read_bytes()[:-1000])
    with storage_peer() as peer:
        receipts, _, error = deliver(peer.port, items)
    assert type(error) is Transient
    assert states(receipts) == ["stored", "pending", "pending", "pending", "stored"]
    assert [one.data for one in peer.received] == [data_set_bytes(items[0]), data_set_bytes(items[4])]


def test_a_file_that_is_no_dicom_or_empty_is_not_sent(tmp_path):
    items = make_study(tmp_path, 3)
    items[0].path.write_bytes(b"")
    items[1].path.write_bytes(bytes(128) + b"DICM\x02\x00")
    items = [pinned(item.path, item.key) for item in items]
    with storage_peer() as peer:
        receipts, _, error = deliver(peer.port, items)
    assert type(error) is Transient
    assert states(receipts) == ["pending", "pending", "stored"]


# --- check -----------------------------------------------------------------------------------------


def test_a_peer_that_answers_a_c_echo_is_no_problem():
    with storage_peer() as peer:
        assert list(destination(peer.port).problems()) == []
    assert peer.proposals == [[("1.2.840.10008.1.1", [IMPLICIT])]]
    assert peer.received[0].command.CommandField == 0x0030
    assert peer.released == 1


def test_a_peer_that_opens_an_association_but_takes_no_c_echo_is_no_problem_either():
    with storage_peer(accept=lambda _abstract, _syntaxes: (3, "")) as peer:
        assert list(destination(peer.port).problems()) == []


PROBLEMS = [
    ({"greet": lambda _n: rejection(1, 1, 7)}, "does not go by that AE title"),
    ({"greet": lambda _n: rejection(1, 1, 3)}, "does not know our AE title"),
    ({"greet": lambda _n: Silence()}, "not answered in time"),
    ({"answer": lambda _one: 0x0122}, "0x0122"),
    ({"answer": lambda _one: Abort()}, "aborted"),
    ({"answer": lambda _one: Silence()}, "not answered in time"),
]


@pytest.mark.parametrize(("behaviour", "words"), PROBLEMS)
def test_what_is_in_the_way_is_said_in_words(behaviour, words):
    with storage_peer(**behaviour) as peer:
        [problem] = destination(peer.port).problems()
    assert problem.startswith("destination publisher: ")
    assert words in problem


# --- the configuration -----------------------------------------------------------------------------

BAD_KEYS = [
    ("ae_title", ""),
    ("ae_title", "SEVENTEEN-LETTERS"),
    ("calling_ae_title", "a\\b"),
    ("port", 0),
    ("port", 70_000),
    ("host", ""),
    ("max_pdu", 100),
    ("max_pdu", 1 << 20),
    ("response_timeout", "0s"),
    ("connect_timeout", "soon"),
    ("respond_timeout", "5s"),
]


@pytest.mark.parametrize(("key", "value"), BAD_KEYS)
def test_a_wrong_key_is_named_when_the_configuration_is_read(key, value):
    with pytest.raises(ValueError, match=key):
        from_table({**TABLE, "port": 104, key: value})
