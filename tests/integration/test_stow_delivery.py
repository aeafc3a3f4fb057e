"""The stow destination against an archive that misbehaves in every way the facts know of."""

import os
import time
from dataclasses import replace

import pytest
from support.peers.fake_dcm4chee import (
    LOGIN_PAGE,
    STACK_TRACE,
    STORED_NOTHING,
    Answer,
    Cut,
    FakeDcm4chee,
    Hang,
    Pause,
    Stall,
)
from support.peers.stow_outcomes import Collected, assert_archived, stow
from support.studies.small_studies import STUDY, Attempts, make_item, make_study, pinned, uids_of

from pipeline.dicomweb import http_client
from pipeline.errors import Configuration, PeerUnavailable, Transient
from pipeline.model import InstanceKey, Item, ReceiptState


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


@pytest.mark.parametrize("fault", [Cut(), Cut(after_bytes=9_000), Cut(after_bytes=0, store=0)])
def test_a_cut_connection_loses_nothing_and_sends_nothing_twice(archive, tmp_path, fault):
    items = make_study(tmp_path, 6, padding=3000)
    archive.next_stores.append(fault)
    done = Collected(stow(archive.url), items)
    assert done.error is None
    assert done.all_verified(items)
    assert_archived(archive, items)
    assert archive.duplicates == []


def test_a_503_is_respected_with_its_retry_after(archive, tmp_path):
    archive.every_store = Answer(503, b"starting", headers={"Retry-After": "7"})
    done = Collected(stow(archive.url), make_study(tmp_path, 3))
    assert isinstance(done.error, PeerUnavailable)
    assert done.error.retry_after_seconds == 7
    assert len(archive.stores) == 1


def test_a_hang_ends_and_what_was_stored_meanwhile_is_not_sent_again(archive, tmp_path):
    items = make_study(tmp_path, 2)
    archive.next_stores.append(Hang())
    done = Collected(stow(archive.url, read_timeout="300ms"), items)
    assert done.error is None
    assert done.all_verified(items)
    assert len(archive.stores) == 1


def test_an_archive_that_hangs_for_ever_is_unavailable(archive, tmp_path):
    items = make_study(tmp_path, 2)
    archive.every_query = Hang()
    started = time.monotonic()
    done = Collected(stow(archive.url, read_timeout="300ms"), items)
    assert isinstance(done.error, PeerUnavailable)
    assert time.monotonic() - started < 5
    assert archive.stores == []


def test_an_archive_that_stops_reading_is_not_waited_for_for_ever(archive, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.dicomweb.send_timeout.SEND_SECONDS", 0.5)
    items = make_study(tmp_path, 3, padding=6_000_000)
    archive.next_stores.append(Stall(after_bytes=100_000))
    done = Collected(stow(archive.url, batch_bytes="20 MB"), items)
    assert done.error is None
    assert done.all_verified(items)


def test_an_archive_that_pauses_for_longer_than_it_takes_to_connect_is_waited_for(archive, tmp_path):
    items = make_study(tmp_path, 2, padding=6_000_000)
    archive.next_stores.append(Pause(1.0, after_bytes=100_000))
    done = Collected(stow(archive.url, batch_bytes="20 MB", connect_timeout="300ms"), items)
    assert done.all_verified(items)
    assert len(archive.stores) == 1


def test_a_size_the_archive_refused_is_not_tried_with_every_batch(archive, tmp_path):
    items = make_study(tmp_path, 160, padding=2_000)
    archive.max_post_bytes = 20_000
    done = Collected(stow(archive.url, batch_bytes="40 kB", connections=1), items)
    assert done.all_verified(items)
    assert sum(request.status == 413 for request in archive.stores) <= 3


def test_a_closed_port_is_unavailable_and_nothing_is_attempted(tmp_path):
    with FakeDcm4chee() as gone:
        url = gone.url
    attempts = Attempts()
    done = Collected(stow(url), make_study(tmp_path, 2), attempts=attempts)
    assert isinstance(done.error, PeerUnavailable)
    assert attempts.uids == []
    assert done.receipts == []


def test_an_archive_that_dies_halfway_keeps_what_it_said(archive, tmp_path):
    items = make_study(tmp_path, 20, padding=2000)

    def die_after_three(announced):
        if len(archive.stores) == 3:
            archive.stop()

    done = Collected(stow(archive.url, batch_bytes="6 kB", connections=1), items, attempts=die_after_three)
    assert isinstance(done.error, PeerUnavailable)
    assert done.states().count(ReceiptState.STORED) == 6


def test_a_login_page_is_not_followed_and_its_secrets_are_not_told(archive, tmp_path):
    archive.every_store = LOGIN_PAGE
    done = Collected(stow(archive.url), make_study(tmp_path, 1))
    assert isinstance(done.error, Configuration)
    assert "login.example.org" in str(done.error)
    assert "secret" not in str(done.error)


def test_a_200_with_a_page_for_people_is_no_archive(archive, tmp_path):
    archive.every_store = Answer(200, b"<html>please log in</html>", "text/html; charset=utf-8")
    done = Collected(stow(archive.url), make_study(tmp_path, 1))
    assert isinstance(done.error, Configuration)


@pytest.mark.parametrize("status", [401, 403, 404, 405, 406, 415])
def test_a_refusal_of_everything_waits_for_a_person(archive, tmp_path, status):
    archive.every_store = Answer(status)
    done = Collected(stow(archive.url), make_study(tmp_path, 3))
    assert isinstance(done.error, Configuration)
    assert f"HTTP {status}" in str(done.error)
    assert ReceiptState.REFUSED not in done.states()


def test_an_unknown_ae_title_is_told_before_anything_is_sent(archive, tmp_path):
    done = Collected(stow(archive.url_of("%@")), [make_item(tmp_path, 1, calling="CT 9/é")])
    assert isinstance(done.error, Configuration)
    assert "AE title" in str(done.error)
    assert archive.requests[0].path.startswith("/dcm4chee-arc/aets/CT%209%2F%C3%A9/rs/studies/")
    assert archive.stores == []


def test_instances_whose_addresses_differ_go_in_separate_requests(tmp_path):
    with FakeDcm4chee(ae_titles=("CT1", "MR1")) as archive:
        items = [make_item(tmp_path, n, calling="CT1" if n % 2 else "MR1") for n in range(1, 7)]
        done = Collected(stow(archive.url_of("{calling_aet}")), items)
        assert done.all_verified(items)
        assert sorted(request.path.split("/")[3] for request in archive.stores) == ["CT1", "MR1"]


def test_an_address_that_fails_does_not_hold_back_the_other(tmp_path):
    with FakeDcm4chee(ae_titles=("MR1",)) as archive:
        items = [make_item(tmp_path, n, calling="CT1" if n % 2 else "MR1") for n in range(1, 5)]
        done = Collected(stow(archive.url_of("%@")), items)
        assert isinstance(done.error, Configuration)
        assert set(archive.stored) == {items[1].key.sop_instance_uid, items[3].key.sop_instance_uid}


def test_without_an_institution_nothing_is_sent_and_the_line_to_paste_is_told(tmp_path):
    with FakeDcm4chee(ae_titles=("Example Hospital",)) as archive:
        items = [make_item(tmp_path, 1), make_item(tmp_path, 2, calling='C"T9', institution=None)]
        done = Collected(stow(archive.url_of("{institution}")), items)
        assert isinstance(done.error, Configuration)
        assert r'"C\"T9": "<InstitutionName>"' in str(done.error)
        assert [done.last[uid].state for uid in uids_of(items)] == [ReceiptState.STORED, ReceiptState.PENDING]
        assert set(archive.stored) == {items[0].key.sop_instance_uid}


@pytest.mark.parametrize("calling", ["", "  ", ".", ".."])
def test_a_word_that_a_path_would_swallow_makes_no_url(archive, tmp_path, calling):
    done = Collected(stow(archive.url_of("%@")), [make_item(tmp_path, 1, calling=calling)])
    assert isinstance(done.error, Configuration)
    assert archive.requests == []


def test_a_study_uid_that_would_climb_is_refused(archive, tmp_path):
    items = make_study(tmp_path, 2)
    climbing = InstanceKey("..", "1.2.3", items[0].key.sop_instance_uid)
    items = (replace(items[0], key=climbing), items[1])
    done = Collected(stow(archive.url), items)
    assert done.last[items[0].key.sop_instance_uid].state is ReceiptState.REFUSED
    assert done.last[items[1].key.sop_instance_uid].state is ReceiptState.STORED
    assert all(".." not in request.path for request in archive.requests)


def test_a_file_that_changed_since_it_was_pinned_is_not_sent(archive, tmp_path):
    items = make_study(tmp_path, 3)
    items[0].path.write_bytes(b"short")
    items[1].path.unlink()
    done = Collected(stow(archive.url), items)
    assert isinstance(done.error, Transient)
    assert set(archive.stored) == {items[2].key.sop_instance_uid}


def test_stored_by_the_reply_but_never_listed_stays_pending(archive, tmp_path):
    items = make_study(tmp_path, 3)
    archive.hidden.add(items[0].key.sop_instance_uid)
    done = Collected(stow(archive.url), items)
    assert isinstance(done.error, Transient)
    assert done.last[items[0].key.sop_instance_uid].state is ReceiptState.PENDING
    assert done.states().count(ReceiptState.STORED) == 2


@pytest.mark.parametrize("most", [None, 7])
def test_a_study_larger_than_a_page_is_listed_whole(archive, tmp_path, monkeypatch, most):
    monkeypatch.setattr("pipeline.dicomweb.qido._PAGE", 10)
    archive.max_results = most
    items = [make_item(tmp_path, n, attempted=True) for n in range(1, 36)]
    for item in items:
        archive.add(*_key(item))
    done = Collected(stow(archive.url), items)
    assert done.all_verified(items)
    assert archive.stores == []


def test_an_archive_without_qido_gets_nothing_because_nothing_could_be_verified(archive, tmp_path):
    archive.every_query = Answer(501)
    done = Collected(stow(archive.url), make_study(tmp_path, 1))
    assert isinstance(done.error, Configuration)
    assert archive.stores == []


def test_a_query_whose_connection_breaks_is_asked_once_more(archive, tmp_path):
    items = make_study(tmp_path, 2)
    archive.next_queries.append(Cut())
    assert Collected(stow(archive.url), items).all_verified(items)
    archive.every_query = Cut()
    assert isinstance(Collected(stow(archive.url), items).error, PeerUnavailable)


def test_a_question_the_archive_cannot_answer_concerns_this_study_only(archive, tmp_path):
    archive.every_query = Answer(400, b"bad UID")
    error = Collected(stow(archive.url), make_study(tmp_path, 1)).error
    assert type(error) is Transient


def test_requests_run_in_parallel_up_to_connections(archive, tmp_path):
    items = make_study(tmp_path, 12)
    archive.every_store = Answer(200, None, store=None, seconds=0.05)
    done = Collected(stow(archive.url, batch_bytes="1 B", connections=3), items)
    assert done.all_verified(items)
    assert archive.at_once_most == 3


def test_an_xml_reply_is_understood(archive, tmp_path, monkeypatch):
    monkeypatch.setitem(http_client._HEADERS, "Accept", "application/dicom+xml, */*")
    items = make_study(tmp_path, 3)
    archive.failing[items[0].key.sop_instance_uid] = 0xA771
    done = Collected(stow(archive.url), items)
    assert done.error is None
    assert done.last[items[0].key.sop_instance_uid].code == "0xA771"
    assert done.states().count(ReceiptState.STORED) == 2


def test_check_tells_what_is_in_the_way(archive):
    assert list(stow(archive.url).problems()) == []
    assert list(stow(archive.url_of("%@")).problems()) == []
    with pytest.raises(Configuration, match="AE title"):
        list(stow(archive.url_of("FOO")).problems())
    archive.bearer = "x"
    with pytest.raises(Configuration, match="credentials"):
        list(stow(archive.url).problems())


def _key(item: Item):
    return item.key.study_instance_uid, item.key.series_instance_uid, item.key.sop_instance_uid
