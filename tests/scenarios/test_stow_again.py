"""`send --again` to an archive that has the UIDs: what it gives back says whether it took what it was sent."""

from dataclasses import replace
from functools import partial

import pydicom
import pytest
from support.machine.dicom_programs import orthanc
from support.studies.small_studies import consign, last_of, make_study, pinned

from pipeline.destinations import from_table
from pipeline.dicomweb import wado
from pipeline.dicomweb.http_client import Reply
from pipeline.model import InstanceKey, Receipt, ReceiptState

pytestmark = pytest.mark.programs


def sent(archive, items, *, again: bool) -> dict[str, Receipt]:
    table = {"name": "archive", "kind": "stow", "url": archive.studies}
    return last_of(list(from_table(table).deliver(replace(consign(items), again=again))))


def corrected(item):
    """Return other content under the same UIDs, in a file of its own."""
    path = item.path.with_suffix(".corrected")
    data_set = pydicom.dcmread(item.path)
    data_set.StudyDescription = "CORRECTED"
    data_set.save_as(path, enforce_file_format=True)
    return replace(pinned(path, item.key), attempted=False)


@pytest.mark.parametrize(
    ("overwrites", "state", "words"),
    [(False, ReceiptState.REFUSED, wado.KEPT), (True, ReceiptState.STORED, "")],
)
def test_an_archive_that_keeps_its_first_copy_is_told_from_one_that_takes_the_second(
    tmp_path, overwrites, state, words
):
    first = make_study(tmp_path, 3)
    second = [corrected(item) for item in first[:2]]
    with orthanc(tmp_path / "orthanc", OverwriteInstances=overwrites) as archive:
        assert {receipt.state for receipt in sent(archive, first, again=False).values()} == {ReceiptState.STORED}
        receipts = sent(archive, second, again=True)
        assert [(receipt.state, receipt.message) for receipt in receipts.values()] == [(state, words)] * 2
        assert all(receipt.verified is (state is ReceiptState.STORED) for receipt in receipts.values())
        same = sent(archive, [replace(first[2], attempted=True)], again=True)
        assert [receipt.state for receipt in same.values()] == [ReceiptState.STORED]


def test_an_archive_that_gives_nothing_back_is_not_said_to_have_taken_it(tmp_path, monkeypatch):
    [item] = make_study(tmp_path, 1)
    with orthanc(tmp_path / "orthanc") as archive:
        sent(archive, [item], again=False)
        monkeypatch.setattr(wado, "_fetch", partial(wado._fetch, accepts=["text/html"]))
        [receipt] = sent(archive, [corrected(item)], again=True).values()
    assert (receipt.state, receipt.message) == (ReceiptState.WARNED, wado.UNKNOWN)


@pytest.mark.parametrize(
    ("before", "after", "attempted", "state", "words"),
    [
        ("old", "ours", False, ReceiptState.STORED, ""),
        ("ours", "ours", False, ReceiptState.STORED, ""),
        ("old", "old", False, ReceiptState.REFUSED, wado.KEPT),
        ("old", "old", True, ReceiptState.WARNED, wado.UNDECIDED),
        ("old", "other", False, ReceiptState.WARNED, wado.REPLACED),
        (None, "other", False, ReceiptState.WARNED, wado.UNKNOWN),
        ("old", None, False, ReceiptState.WARNED, wado.UNKNOWN),
    ],
)
def test_what_is_claimed_is_what_was_seen(tmp_path, before, after, attempted, state, words):  # noqa: PLR0917
    [item] = make_study(tmp_path, 1)
    ours = wado.digest_of(item.path)
    seen = {"ours": ours, "old": "0", "other": "1", None: None}
    stored = Receipt(item.key, ReceiptState.STORED, "HTTP 200", verified=True)
    receipt = wado.compared(replace(item, attempted=attempted), stored, seen[before], seen[after])
    assert (receipt.state, receipt.message) == (state, words)


@pytest.mark.parametrize("body", [b"", b"--x", b"no multipart", b"--x\r\n\r\n", b"--x\r\nA: b\r\n\r\ncut"])
def test_what_is_no_whole_answer_is_compared_with_nothing(body):
    class Door:
        def fetch(self, _url, _accept, file, _most_bytes):
            file.write(body)
            return Reply(200, "multipart/related", b"")

    assert wado.digest_at(Door(), "http://archive/studies", InstanceKey("1.2", "1.3", "1.4")) is None
