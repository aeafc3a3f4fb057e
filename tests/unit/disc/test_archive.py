"""The ZIP file of a disc: as an image, it may be read by its group, and by nobody else."""

import os
import zipfile

import pytest

from pipeline.disc.formats.archive import write_archive


@pytest.mark.parametrize("pass_phrase", [None, "correct horse battery"])
@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_a_zip_may_be_read_by_its_group_unless_the_umask_forbids(umask, pass_phrase, tmp_path):
    (tmp_path / "x").write_bytes(b"x")
    before = os.umask(umask)
    try:
        write_archive({"A/B": tmp_path / "x"}, tmp_path / "disc.zip", pass_phrase, lambda _: None)
    finally:
        os.umask(before)
    assert (tmp_path / "disc.zip").stat().st_mode & 0o777 == 0o640 & ~umask
    assert zipfile.ZipFile(tmp_path / "disc.zip").namelist() == ["A/B"]


def test_a_file_that_is_there_is_never_written_over(tmp_path):
    (tmp_path / "disc.zip").write_bytes(b"x")
    with pytest.raises(FileExistsError):
        write_archive({}, tmp_path / "disc.zip", None, lambda _: None)
    assert (tmp_path / "disc.zip").read_bytes() == b"x"
