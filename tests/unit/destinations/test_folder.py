import errno
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from support.studies.small_studies import Attempts, consign, last_of, make_item, make_study, pinned, uids_of

from pipeline.destinations import from_table
from pipeline.errors import Configuration, PeerUnavailable, StorestowError, Transient
from pipeline.model import ReceiptState
from pipeline.spool import store_file
from pipeline.spool.spool import alone_in


@pytest.fixture
def shelf(tmp_path):
    folder = tmp_path / "shelf"
    folder.mkdir()
    return folder


def deliver(folder, items, attempts=None):
    destination = from_table({"name": "shelf", "kind": "folder", "folder": str(folder)})
    receipts, error = [], None
    try:
        receipts.extend(destination.deliver(consign(items, attempts)))
    except StorestowError as raised:
        error = raised
    return last_of(receipts), error


def files_of(folder: Path):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def test_instances_are_filed_by_patient_study_and_series(shelf, tmp_path):
    items = make_study(tmp_path, 3)
    attempts = Attempts()
    receipts, error = deliver(shelf, items, attempts)
    assert error is None
    assert {receipt.state for receipt in receipts.values()} == {ReceiptState.STORED}
    assert all(receipt.verified for receipt in receipts.values())
    assert attempts.uids == uids_of(items)
    key = items[0].key
    place = Path("P-SECRET-1", key.study_instance_uid, key.series_instance_uid, key.sop_instance_uid + ".dcm")
    assert (shelf / place).read_bytes() == items[0].path.read_bytes()
    assert len(files_of(shelf)) == 3


def test_the_same_bytes_again_are_a_duplicate_or_what_an_earlier_attempt_left(shelf, tmp_path):
    item = make_item(tmp_path, 1)
    deliver(shelf, [item])
    [again] = deliver(shelf, [item])[0].values()
    assert (again.state, again.verified) == (ReceiptState.DUPLICATE, True)
    [after_a_crash] = deliver(shelf, [pinned(item.path, item.key, attempted=True)])[0].values()
    assert (after_a_crash.state, after_a_crash.verified) == (ReceiptState.STORED, True)


def test_other_bytes_under_the_same_uid_are_never_overwritten(shelf, tmp_path):
    first = make_item(tmp_path / "a", 1)
    other = make_item(tmp_path / "b", 1, PatientComments="changed since")
    good = make_item(tmp_path / "b", 2)
    deliver(shelf, [first])
    receipts, error = deliver(shelf, [other, good])
    assert error is None
    assert [receipt.state for receipt in receipts.values()] == [ReceiptState.REFUSED, ReceiptState.STORED]
    assert (shelf / files_of(shelf)[0]).read_bytes() == first.path.read_bytes()


def test_nothing_is_overwritten_even_if_it_appears_at_the_last_moment(shelf, tmp_path, monkeypatch):
    item = make_item(tmp_path, 1)
    copied = store_file._copy

    def somebody_else_is_quicker(source, beside, sha256):
        done = copied(source, beside, sha256)
        beside.with_name(item.key.sop_instance_uid + ".dcm").write_bytes(b"somebody else's")
        return done

    monkeypatch.setattr(store_file, "_copy", somebody_else_is_quicker)
    [receipt] = deliver(shelf, [item])[0].values()
    assert receipt.state is ReceiptState.REFUSED
    assert [(shelf / file).read_bytes() for file in files_of(shelf)] == [b"somebody else's"]


@pytest.mark.parametrize(
    "patient_id",
    ["../../etc", "..", ".", "", "a/b", "a\\b", "x" * 300, "Ñandú 7", "a\x00b", "-rf", ".hidden", "%n", "a\r\nb"],
)
def test_whatever_the_patient_id_says_the_file_stays_below_the_folder(shelf, tmp_path, patient_id):
    item = make_item(tmp_path, 1)
    value = patient_id.encode("utf-8")
    value += b" " * (len(value) % 2)
    before = b"LO\x0a\x00P-SECRET-1"
    content = item.path.read_bytes()
    assert content.count(before) == 1
    item.path.write_bytes(content.replace(before, b"LO" + len(value).to_bytes(2, "little") + value))
    deliver(shelf, [pinned(item.path, item.key)])
    [file] = files_of(shelf)
    assert len(file.parts) == 4
    assert all(set(part) <= set(map(chr, range(33, 127))) - set("/\\%") for part in file.parts)
    assert not any(part.startswith(".") for part in file.parts)


def test_patient_ids_that_look_alike_when_made_safe_are_kept_apart():
    names = [store_file.component(text) for text in ("a/b", "a_b", "a\\b", "A_B", "", "none")]
    assert len(set(names)) == len(names)
    assert store_file.component("P-1.2_x") == "P-1.2_x"
    assert all(len(store_file.component("y" * n)) <= 64 for n in (64, 65, 5000))


def test_a_full_disk_defers_the_rest_and_leaves_no_partial_file(shelf, tmp_path, monkeypatch):
    items = make_study(tmp_path, 3)
    flushes = []

    def full_at_the_second(descriptor):
        flushes.append(descriptor)
        if len(flushes) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        os.fsync(descriptor)

    monkeypatch.setattr(store_file, "flush", full_at_the_second)
    receipts, error = deliver(shelf, items)
    assert isinstance(error, PeerUnavailable)
    assert [receipt.state for receipt in receipts.values()] == [ReceiptState.STORED]
    assert len(files_of(shelf)) == 1


def test_what_a_crash_left_half_written_is_replaced(shelf, tmp_path):
    item = make_item(tmp_path, 1)
    deliver(shelf, [item])
    [file] = files_of(shelf)
    whole = shelf / file
    whole.rename(whole.with_name(f".{whole.name}.1.part"))
    [receipt] = deliver(shelf, [item])[0].values()
    assert receipt.state is ReceiptState.STORED
    assert files_of(shelf) == [file]


def test_what_cannot_be_read_back_equal_is_not_filed(shelf, tmp_path, monkeypatch):
    item = make_item(tmp_path, 1)
    monkeypatch.setattr(store_file, "_sha256_on_disk", lambda path: hashlib.sha256(b"bad disk").hexdigest())
    _, error = deliver(shelf, [item])
    assert isinstance(error, PeerUnavailable)
    assert files_of(shelf) == []


def test_a_file_that_is_not_what_was_pinned_is_not_filed(shelf, tmp_path):
    items = make_study(tmp_path, 3)
    items[0].path.write_bytes(items[0].path.read_bytes()[:-2] + b"xx")
    items[1].path.unlink()
    receipts, error = deliver(shelf, items)
    assert isinstance(error, Transient)
    assert [receipt.state.value for receipt in receipts.values()] == ["pending", "pending", "stored"]
    assert len(files_of(shelf)) == 1


def test_a_folder_that_is_not_mounted_is_a_matter_of_configuration(tmp_path):
    _, error = deliver(tmp_path / "share", make_study(tmp_path, 1))
    assert isinstance(error, Configuration)
    assert "share" in str(error)
    assert not (tmp_path / "share").exists()


def test_a_file_system_without_hard_links_still_overwrites_nothing(shelf, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "hardlink_to", no_links)
    item = make_item(tmp_path / "a", 1)
    assert [r.state for r in deliver(shelf, [item])[0].values()] == [ReceiptState.STORED]
    other = make_item(tmp_path / "b", 1, PatientComments="changed since")
    assert [r.state for r in deliver(shelf, [other])[0].values()] == [ReceiptState.REFUSED]


def no_links(_self, _target):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def no_locks(_folder):
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))


@pytest.mark.parametrize("has_locks", [True, False], ids=["folders can be locked", "they cannot"])
def test_of_two_files_that_are_to_get_one_name_without_hard_links_one_gets_it_and_stays(
    has_locks, tmp_path, monkeypatch
):
    one, other, target = tmp_path / "one", tmp_path / "other", tmp_path / "A1.iso"
    one.write_bytes(b"study one")
    other.write_bytes(b"study two")
    rename, started = Path.rename, []

    def while_another_asks(self, to):
        if self == one:
            started.append(pool.submit(store_file.give_name, other, target))
            wait(started, timeout=0.5)  # long enough for one that does not wait for us
        return rename(self, to)

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    monkeypatch.setattr(Path, "rename", while_another_asks)
    if not has_locks:
        monkeypatch.setattr(store_file, "alone_in", no_locks)
    with ThreadPoolExecutor(1) as pool:
        assert store_file.give_name(one, target) is True
        assert started[0].result() is False
    assert (target.read_bytes(), other.read_bytes()) == (b"study one", b"study two")


def test_a_name_without_hard_links_is_given_while_no_other_process_looks_at_the_folder(tmp_path, monkeypatch):
    (tmp_path / "one").write_bytes(b"study one")
    monkeypatch.setattr(Path, "hardlink_to", no_links)
    with ThreadPoolExecutor(1) as pool:
        with alone_in(tmp_path):  # a lock of its own, as another process has it
            given = pool.submit(store_file.give_name, tmp_path / "one", tmp_path / "A1.iso")
            assert wait([given], timeout=0.3).not_done
            (tmp_path / "A1.iso").write_bytes(b"study two")
        assert given.result() is False
    assert (tmp_path / "A1.iso").read_bytes() == b"study two"


def test_a_relative_folder_is_refused_when_the_configuration_is_read():
    with pytest.raises(ValueError, match="absolute"):
        from_table({"name": "shelf", "kind": "folder", "folder": "discs"})
