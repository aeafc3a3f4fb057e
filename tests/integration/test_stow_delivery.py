"""The stow destination against an archive that answers in every way the facts know of."""

import os

import pytest
from support.peers.fake_dcm4chee import STACK_TRACE, STORED_NOTHING, Answer, FakeDcm4chee
from support.peers.stow_outcomes import Collected, assert_archived, stow
from support.studies.small_studies import STUDY, Attempts, make_item, make_study, pinned, uids_of

from pipeline.errors import PeerUnavailable, Transient
from pipeline.model import Item, ReceiptState


@pytest.fixture
def archive():
    with FakeDcm4chee() as running:
        yield running


def test_every_instance_arrives_byte_for_byte_and_is_seen_by_qido(archive, tmp_path):
    items = make_study(tmp_path, 25, padding=3000)
    attempts = Attempts()
    done = Collected(stow(archive.url, batch_bytes="20 kB"), items, attempts=attempts)
    assert done.error is None
    assert done.all_verified(items)
    assert_archived(archive, items)
    assert sorted(attempts.uids) == sorted(uids_of(items))
    assert len(archive.stores) == 5
    assert archive.duplicates == []


def test_one_small_instance_is_asked_about_sent_and_looked_up_on_one_connection(archive, tmp_path, monkeypatch):
    opened: list[object] = []
    accept = archive._server.get_request

    def counted():
        opened.append(None)
        return accept()

    monkeypatch.setattr(archive._server, "get_request", counted)
    items = make_study(tmp_path, 1)
    done = Collected(stow(archive.url), items)
    assert done.error is None
    assert done.all_verified(items)
    assert len(opened) == 1


@pytest.mark.parametrize("changed", [(2,), (1, 3)], ids=["the third", "the second and the fourth"])
def test_a_file_with_one_flipped_byte_does_not_leave_and_the_others_do(archive, tmp_path, changed):
    items = make_study(tmp_path, 5, padding=600_000)
    for number in changed:
        path, times = items[number].path, items[number].path.stat()
        content = bytearray(path.read_bytes())
        content[-1000] ^= 1
        path.write_bytes(content)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert path.stat().st_size == times.st_size
    bad = {items[number].key.sop_instance_uid for number in changed}
    pins = {item.key.sop_instance_uid: item.sha256 for item in items}
    done = Collected(stow(archive.url, connections=1), items)
    assert isinstance(done.error, Transient)
    assert all(pins[uid] == sha256 for uid, sha256 in archive.received)
    assert set(archive.stored) == pins.keys() - bad
    for uid, receipt in done.last.items():
        assert (receipt.state, receipt.verified) == (
            (ReceiptState.PENDING, False) if uid in bad else (ReceiptState.STORED, True)
        )
    assert all("changed since it was pinned" in done.last[uid].message for uid in bad)


def test_a_request_is_written_as_strict_parsers_want_it(archive, tmp_path):
    Collected(stow(archive.url), make_study(tmp_path, 2))
    [request] = archive.stores
    assert request.query == {}
    assert int(request.headers["Content-Length"]) == request.bytes
    assert "Transfer-Encoding" not in request.headers
    assert "Content-Encoding" not in request.headers
    assert request.headers["Accept"] == "application/dicom+json"
    kind, _, boundary = request.headers["Content-Type"].partition("; boundary=")
    assert kind == 'multipart/related; type="application/dicom"'
    assert 60 <= len(boundary) <= 70


def test_what_is_there_and_was_never_tried_is_present_and_not_sent(archive, tmp_path):
    items = make_study(tmp_path, 3)
    key = items[1].key
    theirs = items[1].path.read_bytes()
    archive.add(key.study_instance_uid, key.series_instance_uid, key.sop_instance_uid, theirs)
    done = Collected(stow(archive.url), items)
    assert done.error is None
    assert [done.last[uid].state for uid in uids_of(items)] == [
        ReceiptState.STORED,
        ReceiptState.PRESENT,
        ReceiptState.STORED,
    ]
    assert all(receipt.verified for receipt in done.last.values())
    assert key.sop_instance_uid not in {uid for store in archive.stores for uid in store.uids}
    assert archive.duplicates == []


def test_what_an_earlier_attempt_left_there_is_stored_and_not_sent_again(archive, tmp_path):
    item = make_item(tmp_path, 1, attempted=True)
    archive.add(*_key(item))
    done = Collected(stow(archive.url), [item])
    assert done.all_verified([item])
    assert archive.stores == []


def test_the_same_uid_in_another_series_is_not_ours(archive, tmp_path):
    item = make_item(tmp_path, 1)
    archive.add(STUDY, "1.2.3.another", item.key.sop_instance_uid)
    done = Collected(stow(archive.url), [item])
    assert done.states() == [ReceiptState.PENDING]  # reported as stored, ignored, and not listed where it belongs
    assert isinstance(done.error, Transient)
    assert "QIDO-RS does not list it" in str(done.error)


def test_a_refused_instance_is_refused_alone_with_the_reason_in_words(archive, tmp_path):
    items = make_study(tmp_path, 4)
    bad = items[2].key.sop_instance_uid
    archive.failing[bad] = 0xA778
    done = Collected(stow(archive.url), items)
    assert done.error is None
    assert done.last[bad].state is ReceiptState.REFUSED
    assert done.last[bad].code == "0xA778"
    assert "Patient ID differs" in done.last[bad].message
    assert sum(r.state is ReceiptState.STORED and r.verified for r in done.last.values()) == 3
    assert len(archive.stores) == 1


def test_no_message_carries_what_the_archive_wrote_about_the_patient(archive, tmp_path):
    items = make_study(tmp_path, 2)
    archive.failing = dict.fromkeys(uids_of(items), 0xA77A)
    done = Collected(stow(archive.url), items)
    assert "SECRET" not in repr(done.receipts) + str(done.error)


def test_an_unparsable_part_is_found_although_the_archive_invents_its_uid(archive, tmp_path):
    items = list(make_study(tmp_path, 5))
    items[3].path.write_bytes(b"x" * items[3].size)
    items[3] = pinned(items[3].path, items[3].key)
    done = Collected(stow(archive.url), items)
    assert done.last[items[3].key.sop_instance_uid].state is ReceiptState.REFUSED
    assert done.states().count(ReceiptState.STORED) == 4
    assert done.error is None


def test_an_archive_out_of_resources_is_unavailable_and_what_it_took_counts(archive, tmp_path):
    items = make_study(tmp_path, 6, padding=2000)
    archive.failing[items[1].key.sop_instance_uid] = 0xA700
    done = Collected(stow(archive.url, batch_bytes="6 kB", connections=1), items)
    assert isinstance(done.error, PeerUnavailable)
    assert len(archive.stores) == 1  # it is not hammered with the rest
    assert done.last[items[0].key.sop_instance_uid].state is ReceiptState.STORED
    assert done.last[items[1].key.sop_instance_uid].state is ReceiptState.PENDING


def test_a_mishap_is_tried_again_and_forgotten(archive, tmp_path):
    items = make_study(tmp_path, 3)
    uid = items[0].key.sop_instance_uid
    archive.failing[uid], archive.fail_times[uid] = 0x0110, 2
    done = Collected(stow(archive.url), items)
    assert done.error is None
    assert done.all_verified(items)


def test_an_instance_the_archive_always_fails_at_is_refused_if_it_takes_others(archive, tmp_path):
    items = make_study(tmp_path, 3)
    uid = items[0].key.sop_instance_uid
    archive.failing[uid] = 0x0110
    done = Collected(stow(archive.url), items)
    assert done.error is None
    assert done.last[uid].state is ReceiptState.REFUSED
    assert sum(uid in request.uids for request in archive.stores) == 3


def test_an_archive_that_fails_at_everything_refuses_nothing(archive, tmp_path):
    items = make_study(tmp_path, 3)
    archive.failing = dict.fromkeys(uids_of(items), 0x0110)
    done = Collected(stow(archive.url), items)
    assert isinstance(done.error, Transient)
    assert set(done.states()) == {ReceiptState.PENDING}


def test_a_warning_reason_is_kept(archive, tmp_path):
    item = make_item(tmp_path, 1)
    archive.warning[item.key.sop_instance_uid] = 0xB000
    [receipt] = Collected(stow(archive.url), [item]).last.values()
    assert (receipt.state, receipt.code, receipt.verified) == (ReceiptState.WARNED, "0xB000", True)


def test_numbers_written_as_text_are_numbers(archive, tmp_path):
    item = make_item(tmp_path, 1)
    archive.numbers_as_text = True
    archive.failing[item.key.sop_instance_uid] = 0xC122
    [receipt] = Collected(stow(archive.url), [item]).last.values()
    assert (receipt.state, receipt.code) == (ReceiptState.REFUSED, "0xC122")
    assert "transfer syntax" in receipt.message


def test_a_200_is_not_believed_when_nothing_was_stored(archive, tmp_path):
    items = make_study(tmp_path, 40, padding=500)
    archive.every_store = STORED_NOTHING
    done = Collected(stow(archive.url), items)
    assert isinstance(done.error, Transient)
    assert set(done.states()) <= {ReceiptState.PENDING}
    assert len(archive.stores) <= 30


@pytest.mark.parametrize("status", [200, 202, 400, 409])
def test_a_reply_without_a_body_is_settled_by_qido(archive, tmp_path, status):
    items = make_study(tmp_path, 3)
    archive.next_stores.append(Answer(status, store=None))
    done = Collected(stow(archive.url), items)
    assert done.error is None
    assert done.all_verified(items)
    assert len(archive.stores) == 1


def test_a_reply_that_lists_only_some_is_settled_by_qido_and_the_rest_sent_again(archive, tmp_path):
    items = make_study(tmp_path, 10)
    archive.next_stores.append(Answer(200, None, store=7))
    done = Collected(stow(archive.url), items)
    assert done.error is None
    assert done.all_verified(items)
    assert archive.duplicates == []


def test_a_stack_trace_after_earlier_parts_were_stored_costs_only_the_missing_ones(archive, tmp_path):
    items = make_study(tmp_path, 8)
    archive.next_stores.append(STACK_TRACE)
    done = Collected(stow(archive.url), items)
    assert done.all_verified(items)
    assert archive.duplicates == []


@pytest.mark.parametrize("too_large", [413, 500, None])
def test_batches_are_halved_until_the_archive_takes_them(archive, tmp_path, too_large):
    items = make_study(tmp_path, 32, padding=20_000)
    archive.max_post_bytes, archive.too_large = 100_000, too_large
    done = Collected(stow(archive.url, batch_bytes="1 MB"), items)
    assert done.error is None
    assert done.all_verified(items)
    assert_archived(archive, items)
    assert archive.duplicates == []
    assert len(archive.stores) < 32


def test_an_instance_too_large_alone_fails_alone(archive, tmp_path):
    items = (*make_study(tmp_path, 5), make_item(tmp_path, 99, padding=200_000))
    archive.max_post_bytes = 100_000
    done = Collected(stow(archive.url), items)
    assert done.error is None
    assert done.last[items[-1].key.sop_instance_uid].state is ReceiptState.REFUSED
    assert done.last[items[-1].key.sop_instance_uid].code == "HTTP 413"
    assert done.states().count(ReceiptState.STORED) == 5


def _key(item: Item):
    return item.key.study_instance_uid, item.key.series_instance_uid, item.key.sop_instance_uid
