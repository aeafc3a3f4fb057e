"""What an archive holds although we never sent it: compared with what we hold before it counts as delivered."""

import pytest
from support.machine.dicom_programs import orthanc
from support.peers.archived_copies import content, held
from support.peers.fake_dcm4chee import Answer, FakeDcm4chee, Trickle
from support.peers.stow_outcomes import Collected, stow
from support.studies.small_studies import make_item, make_study, pinned

from pipeline.dicomweb import wado
from pipeline.dicomweb.foreign_copies import OTHER
from pipeline.errors import Transient
from pipeline.model import Receipt, ReceiptState


@pytest.fixture
def archive():
    with FakeDcm4chee() as running:
        yield running


def delivered(archive, items, **keys) -> tuple[list[Receipt], Collected]:
    done = Collected(stow(archive.url, **keys), items)
    return [done.last[item.key.sop_instance_uid] for item in items], done


@pytest.mark.parametrize("knows_any_syntax", [True, False])
def test_the_same_is_present_and_verified(archive, tmp_path, knows_any_syntax):
    archive.knows_any_syntax = knows_any_syntax
    items = make_study(tmp_path, 6)
    held(archive, items[0], items[0].path.read_bytes())
    receipts, done = delivered(archive, items)
    assert done.error is None
    assert (receipts[0].state, receipts[0].verified, receipts[0].message) == (ReceiptState.PRESENT, True, "")
    assert all(receipt.state is ReceiptState.STORED for receipt in receipts[1:])


def test_what_the_archive_has_corrected_is_present_and_noted(archive, tmp_path):
    [item] = make_study(tmp_path, 1)
    held(archive, item, content(item.path, PatientName="Corrected^Name", AccessionNumber="9"))
    [receipt], _ = delivered(archive, [item])
    assert (receipt.state, receipt.verified) == (ReceiptState.PRESENT, True)
    assert receipt.message == "the archive's copy differs in AccessionNumber, PatientName"


def test_something_else_under_the_uid_is_refused_and_nothing_is_sent(archive, tmp_path):
    [item] = make_study(tmp_path, 1)
    held(archive, item, content(item.path, InstanceNumber="77"))
    [receipt], done = delivered(archive, [item])
    assert done.error is None
    assert (receipt.state, receipt.verified) == (ReceiptState.REFUSED, False)
    assert receipt.message.startswith(OTHER)
    assert "InstanceNumber" in receipt.message
    assert archive.stores == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 501])
def test_without_wado_rs_it_is_present_and_not_verified(archive, tmp_path, status):
    archive.wado_status = status
    items = make_study(tmp_path, 6)
    held(archive, items[2], items[2].path.read_bytes())
    receipts, done = delivered(archive, items)
    assert done.error is None
    assert (receipts[2].state, receipts[2].verified) == (ReceiptState.PRESENT, False)
    assert "not compared" in receipts[2].message


@pytest.mark.parametrize("theirs", [b"", b"x" * 400])
def test_what_cannot_be_read_is_not_verified(archive, tmp_path, theirs):
    [item] = make_study(tmp_path, 1)
    held(archive, item, theirs)
    [receipt], done = delivered(archive, [item])
    assert done.error is None
    assert (receipt.state, receipt.verified) == (ReceiptState.PRESENT, False)


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_what_is_too_large_is_not_compared(archive, tmp_path, monkeypatch, side):
    monkeypatch.setattr(wado, "LARGEST", 20_000)
    monkeypatch.setattr(wado, "_fetch", _with_limit(wado._fetch, 30_000))
    item = make_item(tmp_path, 1, padding=40_000 if side == "ours" else 0)
    larger = item.path.read_bytes() if side == "ours" else content(item.path, EncapsulatedDocument=b"x" * 50_000)
    held(archive, item, larger)
    [receipt], _ = delivered(archive, [item])
    assert (receipt.state, receipt.verified) == (ReceiptState.PRESENT, False)
    assert "larger than" in receipt.message


def _with_limit(fetch, most):
    return lambda door, url, body, **more: fetch(door, url, body, **{**more, "most_bytes": most})


@pytest.mark.parametrize("fault", [Answer(500), Answer(503), Trickle("body")])
def test_where_it_cannot_be_compared_now_the_rest_is_sent_and_it_waits(archive, tmp_path, fault):
    items = make_study(tmp_path, 3)
    for item in items[:2]:
        held(archive, item, item.path.read_bytes())
    table = {"answer_timeout": "1s"}
    archive.next_queries.extend([None] * 4)  # three questions before, one after what was sent
    archive.every_query = fault
    receipts, done = delivered(archive, items, **table)
    assert type(done.error) is Transient
    assert [receipt.state for receipt in receipts] == [ReceiptState.PENDING] * 2 + [ReceiptState.STORED]
    assert "cannot be compared now" in receipts[0].message
    archive.every_query = None
    receipts, done = delivered(archive, items[:2])
    assert [(receipt.state, receipt.verified) for receipt in receipts] == [(ReceiptState.PRESENT, True)] * 2


def test_a_site_may_believe_what_it_is_told(archive, tmp_path):
    [item] = make_study(tmp_path, 1)
    held(archive, item, content(item.path, InstanceNumber="77"))
    [receipt], _ = delivered(archive, [item], present="believe")
    assert (receipt.state, receipt.verified) == (ReceiptState.PRESENT, True)


@pytest.mark.parametrize("is_same", [True, False])
def test_a_duplicate_that_was_not_listed_before_is_compared_too(archive, tmp_path, is_same):
    [item] = make_study(tmp_path, 1)
    held(archive, item, item.path.read_bytes() if is_same else content(item.path, InstanceNumber="77"))
    archive.next_queries.append(Answer(204))
    archive.failing[item.key.sop_instance_uid] = 0x0111
    [receipt], done = delivered(archive, [item])
    assert not [one for one in done.receipts if one.state is ReceiptState.DUPLICATE and one.verified], "too early"
    wanted = (ReceiptState.PRESENT, True) if is_same else (ReceiptState.REFUSED, False)
    assert (receipt.state, receipt.verified) == wanted


def table(archive, **keys) -> dict[str, object]:
    return {"name": "archive", "kind": "stow", "url": archive.url, **keys}


@pytest.mark.programs
def test_orthanc_gives_back_what_is_compared(tmp_path):
    items = [make_item(tmp_path / "in", number) for number in range(1, 7)]
    with orthanc(tmp_path / "orthanc") as running:
        first = Collected(stow(running.studies), [items[0]])
        assert first.all_verified([items[0]])
        other = items[1].path.read_bytes()
        items[1].path.write_bytes(content(items[1].path, InstanceNumber="77"))
        assert Collected(stow(running.studies), [pinned(items[1].path, items[1].key)]).error is None
        items[1].path.write_bytes(other)
        done = Collected(stow(running.studies), items)
        assert done.error is None
        wanted = [(ReceiptState.PRESENT, True), (ReceiptState.REFUSED, False), *[(ReceiptState.STORED, True)] * 4]
        found = [done.last[item.key.sop_instance_uid] for item in items]
        assert [(receipt.state, receipt.verified) for receipt in found] == wanted
