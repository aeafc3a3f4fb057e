"""The stow destination against a real archive: Orthanc with its DICOMweb plug-in."""

from pathlib import Path

import pytest
from support.machine.dicom_programs import Orthanc, orthanc
from support.studies.small_studies import STUDY, Attempts, consign, last_of, make_item, make_study, pinned, uids_of

from pipeline.destinations import from_table
from pipeline.dicom.reading import data_set_of
from pipeline.errors import Configuration, Held, StorestowError, Transient
from pipeline.line import identify
from pipeline.model import Item, ReceiptState

pytestmark = pytest.mark.programs


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


def stow(archive: Orthanc, **keys):
    return from_table({"name": "archive", "kind": "stow", "url": archive.studies, **keys})


def outcome(destination, items, *, attempts=None):
    receipts, error = [], None
    try:
        receipts.extend(destination.deliver(consign(items, attempts)))
    except StorestowError as raised:
        error = raised
    return last_of(receipts), error


def items_in(*folders: Path) -> list[Item]:
    """Return one item an instance, as far as intake would let it go on as it is."""
    items: dict[str, Item] = {}
    for path in sorted(path for folder in folders for path in folder.rglob("*.dcm")):
        found = identify.read(path) if path.stat().st_size else None
        if found and found.key and not found.problem and not is_mended(path):
            items.setdefault(found.key.sop_instance_uid, pinned(path, found.key))
    return list(items.values())


def is_mended(path: Path) -> bool:
    """Tell whether a copy that was made right would leave instead of the file."""
    with data_set_of(path) as (_, layout):
        return bool(layout.mends)


def assert_arrived(archive: Orthanc, receipts, items):
    assert {uid: (r.state, r.verified) for uid, r in receipts.items()} == dict.fromkeys(
        uids_of(items), (ReceiptState.STORED, True)
    )
    identifiers = archive.instances()
    for item in items:
        assert archive.download(identifiers[item.key.sop_instance_uid]) == item.path.read_bytes()


def test_real_objects_of_many_kinds_arrive_byte_for_byte(archive, corpus):
    names = ("studies/ct_ge_hispeed", "SR", "US", "charset", "transfer_syntax", "odd")
    items = items_in(*(corpus / name for name in names)) or items_in(corpus)
    assert len(items) > 10
    receipts, error = outcome(stow(archive, connections=3, batch_bytes="1 MB"), items)
    assert error is None
    assert_arrived(archive, receipts, items)


def test_a_second_delivery_sends_nothing(archive, tmp_path):
    items = make_study(tmp_path, 5)
    outcome(stow(archive), items)
    attempts = Attempts()
    receipts, error = outcome(stow(archive), items, attempts=attempts)
    assert error is None
    assert {receipt.state for receipt in receipts.values()} == {ReceiptState.PRESENT}
    assert attempts.uids == []


def test_garbage_among_good_instances_is_found_although_orthanc_does_not_list_it(archive, tmp_path):
    items = [make_item(tmp_path, number, study=f"{STUDY}.2") for number in range(1, 9)]
    items[4].path.write_bytes(b"NOT DICOM" + b"x" * (items[4].size - 9))
    items[4] = pinned(items[4].path, items[4].key)
    receipts, error = outcome(stow(archive), items)
    assert error is None
    bad = items[4].key.sop_instance_uid
    assert receipts.pop(bad).state is ReceiptState.REFUSED
    assert_arrived(archive, receipts, [item for item in items if item.key.sop_instance_uid != bad])


def test_an_instance_that_orthanc_cannot_index_is_refused_alone(archive, tmp_path):
    good, bad = (make_item(tmp_path, number, study=f"{STUDY}.3") for number in (1, 2))
    content = bad.path.read_bytes()
    bad.path.write_bytes(content[:-30])
    receipts, error = outcome(stow(archive), [good, pinned(bad.path, bad.key)])
    assert error is None
    assert [r.state for r in receipts.values()].count(ReceiptState.STORED) == 1


def test_a_study_registered_elsewhere_is_held_by_a_real_archive_too(archive, tmp_path):
    study = f"{STUDY}.4"
    outcome(stow(archive), [make_item(tmp_path, 1, study=study, institution="Elsewhere")])
    here = [make_item(tmp_path, 2, study=study, series=f"{study}.9")]
    _, error = outcome(stow(archive, guard={"kind": "qido"}), here)
    assert isinstance(error, Held)
    assert "Elsewhere" in str(error)
    there = [make_item(tmp_path, 3, study=study, institution="Elsewhere")]
    assert outcome(stow(archive, guard={"kind": "qido"}), there)[1] is None


def test_check_finds_orthanc_and_a_wrong_path(archive):
    assert list(stow(archive).problems()) == []
    wrong = from_table({"name": "a", "kind": "stow", "url": f"{archive.rest}/dicomweb/studies"})
    with pytest.raises(Configuration, match="HTTP 404"):
        list(wrong.problems())


def test_a_full_archive_that_answers_200_has_nothing(tmp_path):
    with orthanc(tmp_path / "orthanc", MaximumStorageSize=1) as archive:
        items = make_study(tmp_path / "in", 6, padding=400_000)
        receipts, error = outcome(stow(archive, batch_bytes="500 kB", connections=1), items)
        assert isinstance(error, Transient)
        listed = {key for key, receipt in receipts.items() if receipt.verified}
        assert listed <= archive.instances().keys()
        assert len(archive.instances()) < 6
