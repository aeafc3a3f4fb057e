"""The stow destination against an archive that breaks off, hangs, asks for patience or is none."""

import time
from dataclasses import replace

import pytest
from support.peers.fake_dcm4chee import LOGIN_PAGE, Answer, Cut, FakeDcm4chee, Hang, Pause, Stall
from support.peers.stow_outcomes import Collected, assert_archived, stow
from support.studies.small_studies import Attempts, make_item, make_study, uids_of

from pipeline.dicomweb import http_client
from pipeline.errors import Configuration, PeerUnavailable, Transient
from pipeline.model import InstanceKey, Item, ReceiptState


@pytest.fixture
def archive():
    with FakeDcm4chee() as running:
        yield running


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
