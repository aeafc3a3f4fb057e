"""A file that was made just now is not read again to hash it, unless it may be another by now."""

import hashlib
import os

import pytest
from support.machine.dicom_programs import wait_until

from pipeline.spool import hashed_files
from pipeline.spool.hashed_files import HashedFiles, state_of

TOLD = "what it was made of"


@pytest.fixture
def made(tmp_path):
    path = tmp_path / "made"
    path.write_bytes(b"an instance")
    return path


@pytest.fixture
def files(made):
    files = HashedFiles()
    files.keep(state_of(made.stat()), TOLD)
    return files


def _clock_of(folder):
    beside = folder / "beside"
    beside.write_bytes(b"")
    return beside.stat().st_ctime_ns


def read(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_was_made_just_now_is_not_read_even_in_a_folder_with_another_name(files, made):
    assert files.sha256_of(made) == TOLD
    folder = made.parent.rename(made.parent.with_name("renamed"))
    assert files.sha256_of(folder / made.name) == TOLD


def test_a_file_that_was_written_since_is_read(files, made):
    later = made.stat().st_mtime_ns + 4_000_000
    made.write_bytes(b"ANOTHER ONE")
    os.utime(made, ns=(later, later))  # the clock of the file system may not have gone on
    assert files.sha256_of(made) == read(made)


def test_a_file_that_was_written_in_place_and_given_its_old_time_is_read(files, made):
    before = made.stat()
    wait_until(lambda: _clock_of(made.parent) > before.st_ctime_ns, what="a later time of the file system")
    with made.open("r+b") as file:
        file.write(b"AN")
    os.utime(made, ns=(before.st_atime_ns, before.st_mtime_ns))
    now = made.stat()
    assert (now.st_ino, now.st_size, now.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)
    assert files.sha256_of(made) == read(made)


def test_another_file_in_its_place_is_read(files, made):
    status = made.stat()
    other = made.with_name("other")
    other.write_bytes(b"ANOTHER ONE")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(made)
    assert files.sha256_of(made) == read(made)


def test_after_some_minutes_a_file_is_read_again(files, made, monkeypatch):
    monkeypatch.setattr(hashed_files, "KEPT_SECONDS", 0.0)
    assert files.sha256_of(made) == read(made)


def test_of_too_many_the_first_is_forgotten(files, made, monkeypatch):
    monkeypatch.setattr(hashed_files, "MOST", 1)
    files.keep((0, 0, 0, 0, 0), "of another file")
    assert files.sha256_of(made) == read(made)


def test_a_file_that_is_gone_is_an_error(files, made):
    made.unlink()
    with pytest.raises(FileNotFoundError):
        files.sha256_of(made)


def test_the_state_of_a_file_is_known_with_its_kept_hash_alone(files, made, monkeypatch):
    assert files.state_with(TOLD, made) == state_of(made.stat())
    assert files.state_with("another", made) is None
    assert files.state_with(TOLD, made.with_name("gone")) is None
    monkeypatch.setattr(hashed_files, "KEPT_SECONDS", 0.0)
    assert files.state_with(TOLD, made) is None
