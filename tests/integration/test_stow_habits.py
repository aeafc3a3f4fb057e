"""QIDO-RS as archives other than dcm4chee answer it: each habit is a switch of the archive in these tests."""

from dataclasses import replace

import pytest
from support.peers.fake_dcm4chee import Answer, FakeDcm4chee
from support.peers.stow_outcomes import Collected, assert_archived, stow
from support.studies.small_studies import consign, last_of, make_item, make_study, uids_of

from pipeline.dicomweb import qido, study_upload, upload
from pipeline.errors import Configuration, Held
from pipeline.model import Consignment, Item, ReceiptState

NOTHING_MATCHES = [(204, b""), (200, b"[]"), (404, b""), (404, b'{"error": "no such study"}'), (404, b"[]")]


@pytest.fixture
def archive():
    with FakeDcm4chee() as running:
        yield running


def keep(archive: FakeDcm4chee, items: list[Item] | tuple[Item, ...]) -> None:
    for item in items:
        key = item.key
        archive.add(key.study_instance_uid, key.series_instance_uid, key.sop_instance_uid, item.path.read_bytes())


def limits(archive: FakeDcm4chee) -> list[int]:
    return [int(seen.query["limit"][0]) for seen in archive.queries]


@pytest.mark.parametrize("none", NOTHING_MATCHES)
@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("is_empty", [True, False])
def test_an_unknown_study_is_sent_however_the_archive_says_that_nothing_matches(
    archive, tmp_path, none, count, is_empty
):
    archive.none = none
    if not is_empty:
        archive.add("1.2.3", "1.2.3.4", "1.2.3.4.5")
    items = make_study(tmp_path, count)
    done = Collected(stow(archive.url), items)
    assert done.error is None
    assert done.all_verified(items)
    assert_archived(archive, items)
    assert archive.duplicates == []


def test_an_archive_that_answers_404_to_everything_gets_one_instance_and_no_more(archive, tmp_path):
    archive.none = (404, b"")
    items = make_study(tmp_path, 6)
    archive.hidden = set(uids_of(items))
    done = Collected(stow(archive.url), items)
    assert isinstance(done.error, Configuration)
    assert "HTTP 404" in str(done.error)
    assert [len(store.uids) for store in archive.stores] == [1]


def test_a_guard_that_gets_404_to_everything_lets_nothing_go(archive, tmp_path):
    archive.none = (404, b"")
    done = Collected(stow(archive.url, guard={"kind": "qido"}), make_study(tmp_path, 2))
    assert isinstance(done.error, Configuration)
    assert archive.stores == []


@pytest.mark.parametrize("none", NOTHING_MATCHES)
def test_a_guard_reads_all_series_however_they_are_listed(archive, tmp_path, none):
    archive.none, archive.page, archive.largest_limit = none, 1, 3
    items = make_study(tmp_path, 2)
    study = items[0].key.study_instance_uid
    for number in range(4):
        archive.add(study, f"1.2.{number}", f"1.2.{number}.1", institution="Example Hospital")
    archive.add(study, "1.2.9", "1.2.9.1", institution="Elsewhere")
    assert isinstance(Collected(stow(archive.url, guard={"kind": "qido"}), items).error, Held)


@pytest.mark.parametrize("status", [400, 413])
@pytest.mark.parametrize("largest", [1, 5, 200])
@pytest.mark.parametrize("count", [1, 6, 230])
def test_no_limit_is_above_what_is_needed_and_a_refused_one_is_halved(archive, tmp_path, status, largest, count):
    archive.largest_limit, archive.limit_status = largest, status
    items = make_study(tmp_path, count)
    done = Collected(stow(archive.url), items)
    assert done.all_verified(items)
    assert max(limits(archive)) <= count
    assert sum(query.status == status for query in archive.queries) <= 2 * 8  # before and after: once learnt, kept
    assert archive.duplicates == []


@pytest.mark.parametrize("page", [1, 7, 10, 39])
@pytest.mark.parametrize("offset", ["known", "ignored", "refused"])
@pytest.mark.parametrize("none", NOTHING_MATCHES)
def test_a_short_page_is_not_the_last_and_nothing_is_sent_twice(archive, tmp_path, page, offset, none):
    archive.page, archive.offset, archive.none = page, offset, none
    items = make_study(tmp_path, 40)
    done = Collected(stow(archive.url), items)
    assert done.error is None
    assert done.all_verified(items)
    assert archive.duplicates == []
    again = [make_item(tmp_path, number, attempted=True) for number in range(1, 41)]
    stores = len(archive.stores)
    assert Collected(stow(archive.url), again).all_verified(again)
    assert len(archive.stores) == stores


@pytest.mark.parametrize("offset", ["ignored", "refused"])
def test_what_a_list_without_an_end_may_hide_is_asked_for_before_it_is_sent(archive, tmp_path, offset):
    archive.page, archive.offset = 3, offset
    items = make_study(tmp_path, 8)
    keep(archive, items[5:])
    stored = Collected(stow(archive.url), items).last
    assert [stored[uid].state for uid in uids_of(items)] == [ReceiptState.STORED] * 5 + [ReceiptState.PRESENT] * 3
    assert archive.duplicates == []


def test_what_was_sent_and_is_in_no_list_is_asked_for_singly_before_it_is_sent_again(archive, tmp_path):
    items = [make_item(tmp_path, number, attempted=True) for number in range(1, 13)]
    keep(archive, items)
    archive.unlisted = set(uids_of(items[3:9]))
    assert Collected(stow(archive.url), items).all_verified(items)
    assert archive.stores == []


def test_what_was_stored_a_moment_ago_and_is_in_no_list_is_asked_for_singly(archive, tmp_path):
    items = make_study(tmp_path, 60)
    archive.unlisted = set(uids_of(items[:40]))
    assert Collected(stow(archive.url), items).all_verified(items)
    assert archive.duplicates == []


def test_few_instances_of_a_large_study_do_not_cost_a_question_a_result(archive, tmp_path):
    items = make_study(tmp_path, 6)
    study = items[0].key.study_instance_uid
    for number in range(3000):
        archive.add(study, "1.2.9", f"1.2.9.{number}")
    keep(archive, items)
    done = Collected(stow(archive.url), items)
    assert {receipt.state for receipt in done.last.values()} == {ReceiptState.PRESENT}
    assert len(archive.queries) < 20


def test_an_answer_that_is_too_long_is_asked_for_in_smaller_pages(archive, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.dicomweb.http_client._MOST_BYTES", 3000)
    items = make_study(tmp_path, 40)
    done = Collected(stow(archive.url, batch_bytes="3 kB"), items)
    assert done.all_verified(items)


def lists(archive: FakeDcm4chee) -> list[int]:
    """Return how many UIDs each list had that the archive was asked for."""
    asked = [seen.query.get("SOPInstanceUID", [""])[0].split(",") for seen in archive.queries]
    return [len(uids) for uids in asked if len(uids) > 1]


def test_what_a_request_has_stored_is_looked_up_by_its_uids_once_nothing_is_left_to_send(archive, tmp_path):
    items = make_study(tmp_path, 40)
    batch = 8 * max(item.size for item in items)
    assert Collected(stow(archive.url, batch_bytes=batch, connections=1), items).all_verified(items)
    assert lists(archive) == [8] * 5
    # The first question has found out that the study is unknown.
    assert [seen.method for seen in archive.requests] == ["GET", *["POST"] * 5, *["GET"] * 5]


def test_much_that_nobody_has_looked_up_is_looked_up_while_others_are_sent(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(upload, "_MOST_UNSEEN", 16)
    items = make_study(tmp_path, 160)
    batch = 8 * max(item.size for item in items)
    assert Collected(stow(archive.url, batch_bytes=batch, connections=1), items).all_verified(items)
    methods = [seen.method for seen in archive.requests]
    last = len(methods) - methods[::-1].index("POST")
    assert "GET" in methods[1:last]
    assert lists(archive) == [8] * 20


@pytest.mark.parametrize("habit", ["unknown", "refused"])
def test_an_archive_that_knows_no_lists_of_uids_is_asked_once_and_lists_the_study(archive, tmp_path, habit):
    archive.lists = habit
    items = make_study(tmp_path, 40)
    batch = 8 * max(item.size for item in items)
    assert Collected(stow(archive.url, batch_bytes=batch, connections=1), items).all_verified(items)
    asked = [text for seen in archive.queries if "," in (text := seen.query.get("SOPInstanceUID", [""])[0])]
    assert len(set(asked)) <= 1
    assert not qido.Qido._known_lists.get(archive.url)


@pytest.mark.parametrize("habit", ["known", "unknown", "ignored"])
def test_the_rest_of_a_study_is_looked_for_without_listing_what_is_there(archive, tmp_path, habit):
    archive.lists = habit
    items = make_study(tmp_path, 40)
    assert Collected(stow(archive.url), items[:20]).all_verified(items[:20])
    keep(archive, items[35:])  # somebody else's
    stored = Collected(stow(archive.url), items[20:]).last
    assert [stored[uid].state for uid in uids_of(items[20:])] == [ReceiptState.STORED] * 15 + [
        ReceiptState.PRESENT
    ] * 5
    assert archive.duplicates == []
    whole = [q for seen in archive.queries if (q := seen.query).get("limit", ["1"]) != ["1"]]
    assert all("SOPInstanceUID" in query for query in whole[1:]) == (habit != "unknown")


def begun(archive: FakeDcm4chee, items: list[Item]) -> None:
    """Send the first 16 of 60 instances, 8 in a request, and let others store the last 22."""
    batch = 8 * max(item.size for item in items)
    assert Collected(stow(archive.url, batch_bytes=batch, connections=1), items[:16]).all_verified(items[:16])
    assert qido.Qido._known_lists.get(archive.url)  # it has found all of such lists
    keep(archive, items[38:])


HALF = [ReceiptState.STORED] * 22 + [ReceiptState.PRESENT] * 22


@pytest.mark.parametrize("offset", ["known", "ignored", "refused"])
@pytest.mark.parametrize("most", [6, 8, 20])
def test_a_short_list_of_uids_does_not_show_that_the_others_are_absent(archive, tmp_path, offset, most):
    items = make_study(tmp_path, 60)
    archive.offset, archive.max_results = offset, 8
    begun(archive, items)
    archive.max_results = most
    stored = Collected(stow(archive.url), items[16:]).last
    assert [stored[uid].state for uid in uids_of(items[16:])] == HALF
    assert archive.duplicates == []


@pytest.mark.parametrize("status", [400, 404, 413, 414, 502])
@pytest.mark.parametrize("shorter", [False, True])
def test_a_list_that_is_too_long_for_a_server_shows_nothing_and_fails_nothing(archive, tmp_path, status, shorter):
    items = make_study(tmp_path, 60)
    list_of_8 = len(",".join(uids_of(items)[-8:]))
    archive.longest_list = (list_of_8, status)
    begun(archive, items)
    archive.longest_list = (list_of_8 // 2 if shorter else list_of_8, status)
    done = Collected(stow(archive.url), items[16:])
    assert done.error is None
    assert [done.last[uid].state for uid in uids_of(items[16:])] == HALF
    assert archive.duplicates == []


@pytest.mark.parametrize("longest", [8, 4])
def test_lists_are_as_long_as_those_the_archive_has_found_and_none_is_asked_for_once_one_fails(
    archive, tmp_path, longest
):
    items = make_study(tmp_path, 60)
    begun(archive, items)
    archive.longest_list = (len(",".join(uids_of(items)[-longest:])), 404)
    so_far = len(lists(archive))
    for _ in range(2):
        stored = Collected(stow(archive.url), items[38:]).last
        assert {receipt.state for receipt in stored.values()} == {ReceiptState.PRESENT}
    assert lists(archive)[so_far:] == ([8, 8, 8, 2] * 2 if longest == 8 else [8])


@pytest.mark.parametrize("guard", ["none", "qido"])
def test_check_asks_what_a_delivery_asks(archive, guard):
    destination = stow(archive.url, guard={"kind": guard})
    archive.largest_limit = 200
    archive.add("1.2.3", "1.2.3.4", "1.2.3.4.5")
    archive.none = (404, b"")
    assert list(destination.problems()) == []
    asked = {query.path.partition(qido.NOBODYS_UID)[2] for query in archive.queries}
    series = f"/series/{qido.NOBODYS_UID}.1/instances"
    assert {series, "/instances"} | ({"/series"} if guard == "qido" else set()) <= asked
    archive.limit_status, archive.largest_limit = 400, 0
    [problem] = destination.problems()
    assert "HTTP 400" in problem


def adding(items: tuple[Item, ...], *later: tuple[Item, ...]) -> Consignment:
    """Return a consignment of `items` to which the others are added, one part each time it is asked."""
    parts = list(later)
    return replace(consign(items), added=lambda: parts.pop(0) if parts else ())


def test_what_is_added_to_a_study_of_which_nothing_was_there_is_sent_without_asking_again(archive, tmp_path):
    items = make_study(tmp_path, 40)
    receipts = list(stow(archive.url).deliver(adding(items[:20], items[20:30], items[30:])))
    assert {receipt.key for receipt in receipts if receipt.verified} == {item.key for item in items}
    assert_archived(archive, items)
    assert archive.duplicates == []
    assert len([seen for seen in archive.queries if "SOPInstanceUID" not in seen.query]) == 1


@pytest.mark.parametrize("is_still_believed", [True, False])
def test_a_later_attempt_of_a_growing_delivery_asks_only_about_what_was_sent(
    archive, tmp_path, monkeypatch, is_still_believed
):
    items = make_study(tmp_path, 40)
    list(stow(archive.url).deliver(adding(items[:20])))
    if not is_still_believed:
        monkeypatch.setattr(study_upload, "EMPTY_SECONDS", 0.0)
    archive.queries.clear()
    left = [replace(items[0], attempted=True), *items[20:]]
    stored = last_of(list(stow(archive.url).deliver(consign(left))))
    assert [stored[uid].state for uid in uids_of(left)] == [ReceiptState.STORED] * 21
    assert archive.duplicates == []
    asked = [uid for seen in archive.queries for uid in seen.query.get("SOPInstanceUID", [""])[0].split(",")]
    # To verify it, each is asked for once.
    assert (sum(uid in uids_of(items[20:]) for uid in asked) == 20) is is_still_believed


def test_a_later_attempt_asks_about_what_was_sent_and_the_ledger_no_longer_knows(archive, tmp_path):
    items = make_study(tmp_path, 20)
    list(stow(archive.url).deliver(adding(items[:10], items[10:])))
    for lost in (items[:10], items[10:]):
        receipts = last_of(list(stow(archive.url).deliver(consign(lost))))
        assert {receipt.state for receipt in receipts.values()} == {ReceiptState.PRESENT}
    assert archive.duplicates == []


def test_what_is_added_while_a_request_is_under_way_is_sent_on_the_idle_connection(archive, tmp_path):
    items = make_study(tmp_path, 12)
    archive.next_stores.append(Answer(200, None, store=None, seconds=3.0))

    def added() -> tuple[Item, ...]:
        return later.pop() if archive.at_once and later else ()

    later = [items[6:]]
    receipts = list(stow(archive.url).deliver(replace(consign(items[:6]), added=added)))
    assert {receipt.key for receipt in receipts if receipt.verified} == {item.key for item in items}
    assert archive.at_once_most == 2


def test_what_is_added_and_was_stored_by_others_is_compared_and_not_sent(archive, tmp_path):
    items = make_study(tmp_path, 40)
    keep(archive, items[15:25])
    stored = last_of(list(stow(archive.url).deliver(adding(items[:20], items[20:]))))
    states = [ReceiptState.STORED] * 15 + [ReceiptState.PRESENT] * 10 + [ReceiptState.STORED] * 15
    assert [stored[uid].state for uid in uids_of(items)] == states
    assert archive.duplicates == []


def test_what_is_added_waits_for_an_attempt_of_its_own_if_a_guard_must_be_asked(archive, tmp_path):
    items = make_study(tmp_path, 12)
    stored = last_of(list(stow(archive.url, guard={"kind": "qido"}).deliver(adding(items[:6], items[6:]))))
    assert stored.keys() == set(uids_of(items[:6]))
