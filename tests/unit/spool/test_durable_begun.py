"""A flush that is only begun: the file stays as it is, a link is an error, and an error of the disk is kept."""

import os

import pytest

from pipeline.spool.durable import begin_flush, flush_path


def test_a_flush_is_begun_and_then_waited_for_and_the_file_stays_as_it_is(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(b"an image" * 10_000)
    begin_flush(path)
    assert path.read_bytes() == b"an image" * 10_000
    flush_path(path)


def test_no_link_is_followed(tmp_path):
    (tmp_path / "image").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "image")
    with pytest.raises(OSError, match="symbolic link"):
        begin_flush(tmp_path / "link")


def test_no_fsync_takes_away_an_error_that_the_flush_after_it_must_be_told(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("an fsync is told an error once, and nobody after it"))
    (tmp_path / "image").write_bytes(b"x")
    begin_flush(tmp_path / "image")
