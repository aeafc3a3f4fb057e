"""What was read of a file while it came in is not read again for the disc, and stands for no other content."""

import pytest
from support.sites.line_site import instance

from pipeline.disc.objects import raw as module
from pipeline.disc.objects.entry import WANTED
from pipeline.disc.objects.raw import raw, read_ahead
from pipeline.spool.hashed_files import sha256_of


@pytest.fixture
def opened(monkeypatch):
    """The files that are opened and walked."""
    found: list[str] = []
    walked = module.data_set_of

    def noted(path, scratch):
        found.append(path.name)
        return walked(path, scratch)

    monkeypatch.setattr(module, "data_set_of", noted)
    return found


def test_a_file_that_was_read_ahead_is_not_read_again_and_has_the_known_hash(tmp_path, opened):
    file = instance(tmp_path)
    sha256 = sha256_of(file)
    plain = raw(file, sha256, WANTED, tmp_path)
    read_ahead(file, WANTED, tmp_path)
    opened.clear()
    assert raw(file, sha256, WANTED, tmp_path) == plain
    assert not opened
    assert raw(file, sha256, WANTED, tmp_path) == plain  # it was kept for one disc
    assert opened


def test_a_file_that_was_written_to_since_is_read_again(tmp_path, opened):
    file = instance(tmp_path)
    read_ahead(file, WANTED, tmp_path)
    other = instance(tmp_path, "other", PatientName="Other^Name")
    file.write_bytes(other.read_bytes())
    opened.clear()
    found = raw(file, sha256_of(file), WANTED, tmp_path)
    assert found.values[0x00100010] == b"Other^Name"
    assert opened


def test_a_file_whose_hash_is_not_known_is_read_and_hashed(tmp_path, opened):
    file = instance(tmp_path)
    read_ahead(file, WANTED, tmp_path)
    assert raw(file, None, WANTED, tmp_path).sha256 == sha256_of(file)
    assert len(opened) == 2


@pytest.mark.parametrize("content", [b"", b"no object"])
def test_what_cannot_be_read_ahead_is_told_by_the_disc(tmp_path, content):
    file = tmp_path / "file"
    read_ahead(file, WANTED, tmp_path)  # it is not there
    file.write_bytes(content)
    read_ahead(file, WANTED, tmp_path)
    assert raw(file, sha256_of(file), WANTED, tmp_path).problem
