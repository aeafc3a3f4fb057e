"""The archive of accounts grows by whole frames, and what a kill left behind its end counts for nothing."""

import pytest

from pipeline.spool.account_archive import AccountArchive


@pytest.fixture
def archive(tmp_path):
    return AccountArchive(tmp_path / "accounts")


def test_lines_come_back_by_year_and_in_their_order(archive):
    archive.append(2027, [b"c"])
    archive.append(2026, [b"a", b"b1"])
    archive.append(2026, [b"b2"])
    assert list(archive.lines(b"")) == [b"a\n", b"b1\n", b"b2\n", b"c\n"]
    assert list(archive.lines(b"b")) == [b"b1\n", b"b2\n"]


def test_an_archive_that_is_not_there_has_no_lines(archive):
    archive.append(2026, [])
    assert list(archive.lines(b"")) == []
    assert not archive.folder.exists()


@pytest.mark.parametrize("rest", [b"\x28\xb5\x2f\xfd half a frame", b"\0" * 40])
def test_what_an_append_that_was_killed_left_behind_is_no_line_and_is_written_over(archive, rest):
    archive.append(2026, [b"a"])
    file = archive.folder / "2026.jsonl.zst"
    with file.open("ab") as torn:
        torn.write(rest)
    assert list(archive.lines(b"")) == [b"a\n"]
    archive.append(2026, [b"b"])
    assert list(archive.lines(b"")) == [b"a\n", b"b\n"]
    assert int((archive.folder / "2026.jsonl.zst.end").read_text()) == file.stat().st_size


def test_a_file_whose_end_was_lost_counts_as_a_whole(archive):
    archive.append(2026, [b"a"])
    (archive.folder / "2026.jsonl.zst.end").unlink()
    archive.append(2026, [b"b"])
    assert list(archive.lines(b"")) == [b"a\n", b"b\n"]


def test_a_damaged_file_is_named(archive):
    archive.append(2026, [b"a" * 1000])
    file = archive.folder / "2026.jsonl.zst"
    file.write_bytes(file.read_bytes()[:-6] + b"\xff" * 6)
    with pytest.raises(ValueError, match=r"2026\.jsonl\.zst is damaged"):
        list(archive.lines(b""))
