"""An image is read while it is written, and what was read so proves only what the finished image still holds."""

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
from support.machine.dicom_programs import program
from support.studies.discs import a_disc, an_object

from pipeline.config.program_tables import ProgramsTable
from pipeline.disc.errors import NotAsWritten
from pipeline.disc.make import writing as writing_module
from pipeline.disc.verify import read_back as read_back_module
from pipeline.disc.verify.read_back import ReadBehind, read_back
from pipeline.processes.process_pool import ProcessPool
from pipeline.spool.hashed_files import sha256_of

pytestmark = [pytest.mark.programs, pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.fixture
def good(tmp_path, monkeypatch):
    """A disc of three objects: its image, its volume, and what its files must hash to."""
    monkeypatch.setattr(read_back_module, "_MOST_FILES", 1)  # a small disc has several batches, too
    paths = [an_object(tmp_path / "in", str(number), InstanceNumber=number) for number in range(3)]
    kept = {}

    def spying(medium, volume_id, expected, *more, **options):
        kept.update(expected=dict(expected), volume_id=volume_id)
        return read_back(medium, volume_id, expected, *more, **options)

    with monkeypatch.context() as patch:
        patch.setattr(writing_module, "read_back", spying)
        disc = a_disc(tmp_path, *paths)
    return disc.path, kept["volume_id"], kept["expected"]


def reread(good, known):
    image, volume_id, expected = good
    with contextlib.closing(ProcessPool(1)) as pool:
        return read_back(image, volume_id, expected, None, pool, lambda _: None, known=known)


def read_whole(image: Path) -> ReadBehind:
    behind = ReadBehind(image)
    while behind.look(image.stat().st_size):
        pass
    return behind


def test_a_file_is_read_once_all_of_it_is_written_and_none_before(good, tmp_path):
    image, _, expected = good
    content, growing = image.read_bytes(), tmp_path / "growing"
    growing.touch()
    behind = ReadBehind(growing)
    for size in range(0, len(content) + 2048, 2048):
        with growing.open("ab") as file:
            file.write(content[growing.stat().st_size : size])
        while behind.look(growing.stat().st_size):
            pass
        for file, digest in behind.digests.items():
            assert digest.sha256 == expected[file.path]
            assert max(offset + length for offset, length in file.extents) <= size
    assert {file.path for file in behind.digests} == expected.keys()


def test_what_was_read_meanwhile_is_not_read_again(good, monkeypatch):
    behind = read_whole(good[0])
    monkeypatch.setattr(read_back_module, "looks", lambda _: pytest.fail("it was read again"))
    assert reread(good, behind.digests) == sha256_of(good[0])


def test_a_file_that_lies_elsewhere_in_the_finished_image_is_read_there(good, monkeypatch):
    moved = {
        replace(file, extents=((0, file.size),)): replace(digest, sha256="0" * 64)
        for file, digest in read_whole(good[0]).digests.items()
    }
    assert reread(good, moved) == sha256_of(good[0])


def test_a_file_that_was_read_with_other_bytes_is_a_fault(good):
    known = read_whole(good[0]).digests
    first = next(iter(known))
    with pytest.raises(NotAsWritten, match="does not read back as it was"):
        reread(good, {**known, first: replace(known[first], sha256="0" * 64)})


def test_an_image_that_pauses_is_read_up_to_there_before_it_is_finished(tmp_path, monkeypatch):
    """xorriso waits in the middle of the image until its beginning has been read."""
    read, fake = tmp_path / "read", tmp_path / "fake"
    fake.write_text(f"""#!/bin/sh
case "$*" in *--version*|*-print-size*) exec {program("xorriso")} "$@";; esac
before=
for word; do [ "$before" = -o ] && image=$word; before=$word; done
for word; do shift; [ "$word" = "$image" ] && word=$image.whole; set -- "$@" "$word"; done
{program("xorriso")} "$@" || exit
size=$(stat -c %s "$image.whole")
head -c $((size - 4096 * 100)) "$image.whole" >"$image"
until [ -e {read} ]; do sleep 0.05; done
tail -c $((4096 * 100)) "$image.whole" >>"$image"
rm "$image.whole"
""")
    fake.chmod(0o755)
    monkeypatch.setattr(read_back_module, "_MOST_FILES", 1)
    looks, behind = read_back_module.looks, []

    def noted(task):
        behind.append(task)
        if any(file.path.startswith("DICOM/") for file in task.files):
            read.touch()
        return looks(task)

    monkeypatch.setattr(read_back_module, "looks", noted)
    paths = [an_object(tmp_path / "in", str(number), InstanceNumber=number) for number in range(20)]
    disc = a_disc(tmp_path, *paths, programs=ProgramsTable(xorriso=str(fake)))
    files = [file for task in behind for file in task.files]
    assert len(files) == len(set(files))  # each is read once, before or after the end
    assert len(disc.instances) == 20
