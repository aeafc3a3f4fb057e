"""What goes wrong while a disc is made leaves nothing behind that could be taken for a disc."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support.machine.dicom_programs import program, wait_until
from support.studies.discs import MADE_AT, a_disc, an_object, options

from pipeline.config.program_tables import ProgramsTable
from pipeline.disc.errors import NoPlace, NoSpace, NotAsWritten
from pipeline.disc.formats.contents import IsoContents, read_all
from pipeline.disc.formats.scratch import scratch_beside
from pipeline.disc.make import writing as writing_module
from pipeline.disc.make.make import make_disc
from pipeline.disc.model import SourceFile
from pipeline.disc.verify import read_back as read_back_module
from pipeline.disc.verify.read_back import read_back
from pipeline.errors import Transient
from pipeline.processes.process_pool import ProcessPool
from pipeline.spool.hashed_files import sha256_of

pytestmark = [pytest.mark.programs, pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.fixture
def path(tmp_path):
    return an_object(tmp_path / "in")


def nothing_is_left(folder: Path) -> None:
    assert sorted(one.name for one in folder.iterdir() if one.name != "fake") == ["in"]


def fake_xorriso(folder: Path, body: str) -> ProgramsTable:
    """The real xorriso until it is to write; then `body`, with the image's path in $image."""
    file = folder / "fake" / "xorriso"
    file.parent.mkdir()
    real = program("xorriso")
    file.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *--version*|*-print-size*) exec {real} "$@";; esac\n'
        'while [ "$1" != -o ]; do shift; done\nimage=$2\n'
        f"{body}\n"
    )
    file.chmod(0o755)
    return ProgramsTable(xorriso=str(file))


def test_a_disk_that_fills_up_is_said_to_be_full(tmp_path, path):
    body = "head -c 100000 /dev/zero >$image; echo 'xorriso : FAILURE : No space left on device' >&2; exit 5"
    with pytest.raises(NoSpace, match="full"):
        a_disc(tmp_path, path, programs=fake_xorriso(tmp_path, body))
    nothing_is_left(tmp_path)


def test_too_little_room_is_found_out_before_a_byte_is_written(tmp_path, path, monkeypatch):
    written = []
    monkeypatch.setattr("pipeline.disc.formats.scratch.shutil.disk_usage", lambda _: _Usage(17 << 20))
    monkeypatch.setattr(writing_module, "write_image", lambda *args: written.append(args))
    with pytest.raises(NoSpace, match=r"free, the disc takes [\d,]+"):
        a_disc(tmp_path, path)
    assert written == []
    nothing_is_left(tmp_path)


class _Usage:
    def __init__(self, free: int) -> None:
        self.free = free


def test_a_xorriso_that_is_killed_leaves_nothing(tmp_path, path):
    body = "head -c 100000 /dev/zero >$image; sleep 0.3; kill -9 $$"
    with pytest.raises(Transient, match="killed by signal 9"):
        a_disc(tmp_path, path, programs=fake_xorriso(tmp_path, body))
    nothing_is_left(tmp_path)


def test_a_real_xorriso_that_may_not_write_more_leaves_nothing(tmp_path):
    """The system ends it at the size limit of this process's children, as it would at a quota."""
    script = (
        "import resource, sys\nfrom pathlib import Path\nsys.path.insert(0, 'tests')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        "from support.studies.discs import a_disc\nfolder = Path(sys.argv[1])\n"
        "try:\n    a_disc(folder, *sorted((folder / 'in').iterdir()))\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    for number in range(12):
        an_object(tmp_path / "in", str(number))
    root = Path(__file__).parents[2]
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, tmp_path],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.startswith(("Transient xorriso", "NoSpace", "NotAsWritten")), said.stdout + said.stderr
    nothing_is_left(tmp_path)


def test_a_xorriso_that_says_it_is_done_and_is_not_is_not_believed(tmp_path, path):
    with pytest.raises(NotAsWritten, match="bytes, not the"):
        a_disc(tmp_path, path, programs=fake_xorriso(tmp_path, "head -c 100000 /dev/zero >$image"))
    nothing_is_left(tmp_path)


@pytest.mark.parametrize("stage", ["read", "write", "verify"])
def test_a_client_that_goes_calls_everything_off(stage, tmp_path, path):
    class Gone(Exception):
        pass

    def progress(now: str, _done: int, _total: int) -> None:
        if now == stage:
            raise Gone

    slow = {"programs": fake_xorriso(tmp_path, "head -c 50000 /dev/zero >$image; exec sleep 30")}
    chosen = slow if stage == "write" else {}
    with pytest.raises(Gone):
        make_disc([SourceFile(path)], tmp_path / "disc.iso", options(**chosen), progress)
    nothing_is_left(tmp_path)
    assert not [one for one in psutil.Process().children(recursive=True) if one.name() in {"xorriso", "sleep"}]


def test_a_maker_that_is_killed_leaves_nothing_that_looks_like_a_disc_and_the_next_one_tidies_up(tmp_path, path):
    programs = fake_xorriso(tmp_path, "head -c 100000 /dev/zero >$image; sleep 60")
    script = (
        "import sys\nfrom pathlib import Path\nsys.path.insert(0, 'tests')\n"
        "from support.studies.discs import a_disc\n"
        "from pipeline.config.program_tables import ProgramsTable\nfolder = Path(sys.argv[1])\n"
        "a_disc(folder, folder / 'in' / 'a', programs=ProgramsTable(xorriso=sys.argv[2]))\n"
    )
    maker = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script, str(tmp_path), programs.xorriso],
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )
    try:
        wait_until(lambda: list(tmp_path.glob(".storestow-disc-*/image")), seconds=60, what="the image")
    finally:
        os.killpg(maker.pid, signal.SIGKILL)
        maker.wait()
    left = [one.name for one in tmp_path.iterdir() if one.name not in {"in", "fake"}]
    assert len(left) == 1
    assert left[0].startswith(".storestow-disc-")
    assert not [one for one in tmp_path.rglob("*") if one.suffix == ".iso"]
    long_ago = time.time() - 3600
    os.utime(tmp_path / left[0], (long_ago, long_ago))
    a_disc(tmp_path, path, name="next.iso")
    assert not list(tmp_path.glob(".storestow-disc-*"))


def test_the_folder_of_a_maker_at_work_is_left_alone(tmp_path):
    with scratch_beside(tmp_path / "one.iso") as first:
        os.utime(first, (0, 0))
        with scratch_beside(tmp_path / "two.iso"):
            assert first.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_not_there_is_a_matter_of_configuration(tmp_path, path):
    with pytest.raises(NoPlace):
        make_disc([SourceFile(path)], tmp_path / "nowhere" / "disc.iso", options())


def test_a_source_that_is_not_what_the_ledger_knows_is_found_out_on_the_disc(tmp_path, path):
    with pytest.raises(NotAsWritten, match="does not read back as it was"):
        make_disc([SourceFile(path, sha256="0" * 64)], tmp_path / "disc.iso", options())
    nothing_is_left(tmp_path)


def test_a_source_to_be_decoded_that_is_not_what_the_ledger_knows_is_found_out_too(tmp_path):
    path = an_object(tmp_path / "in", source="MR_small_RLE.dcm")
    with pytest.raises(NotAsWritten, match="has changed since it was received"):
        make_disc([SourceFile(path, sha256="0" * 64)], tmp_path / "disc.iso", options())


# --- the read-back itself: each thing it is there to find, done to a good disc --------------------------------


@pytest.fixture(params=["here", "in the pool"])
def good(tmp_path, request, monkeypatch):
    """A disc of three objects in two series, and what its files must hash to; large ones are read by processes."""
    if request.param == "in the pool":
        monkeypatch.setattr(read_back_module, "LARGE", 0)
    paths = [an_object(tmp_path / "in", str(n), InstanceNumber=n) for n in range(2)]
    paths.append(an_object(tmp_path / "in", "2", SeriesInstanceUID="1.2.3.4", SeriesNumber=9))
    kept: dict[str, object] = {}

    def spying(medium, volume_id, expected, *more, **options):
        kept.update(expected=dict(expected), volume_id=volume_id)
        return read_back(medium, volume_id, expected, *more, **options)

    original = writing_module.read_back
    writing_module.read_back = spying
    try:
        disc = a_disc(tmp_path, *paths)
    finally:
        writing_module.read_back = original
    return disc.path, kept["volume_id"], kept["expected"]


def reread(path, volume_id, expected):
    with contextlib.closing(ProcessPool(1)) as pool:
        return read_back(path, volume_id, expected, None, pool, lambda _: None)


def test_a_good_disc_reads_back(good):
    assert reread(*good) == sha256_of(good[0])


def test_the_hash_of_the_whole_is_read_only_for_somebody_who_wants_it(tmp_path):
    disc = a_disc(tmp_path, an_object(tmp_path / "in", "0"), hashes_image=False)
    assert disc.sha256 == ""


def test_one_changed_bit_of_a_picture_is_found(good):
    path, _, _ = good
    data = bytearray(path.read_bytes())
    at = data.rindex(b"\xe0\x7f\x10\x00OW") + 500
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(NotAsWritten, match="does not read back"):
        reread(*good)


def test_an_image_that_is_cut_is_found(good):
    path, _, _ = good
    path.write_bytes(path.read_bytes()[:-200_000])
    with pytest.raises(NotAsWritten, match="shorter than it says"):
        reread(*good)


def test_another_volume_id_is_found(good):
    path, _, expected = good
    with pytest.raises(NotAsWritten, match="is called"):
        reread(path, "OTHER", expected)


def test_a_file_nobody_meant_and_one_that_is_missing_are_found(good):
    path, volume_id, expected = good
    with pytest.raises(NotAsWritten, match="nobody meant"):
        reread(path, volume_id, {k: v for k, v in expected.items() if k != "README.TXT"})
    with pytest.raises(NotAsWritten, match="missing"):
        reread(path, volume_id, {**expected, "MORE.TXT": "0"})


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (b"SE000001\\IM000002", b"SE000001\\IM000001", "two records of the DICOMDIR name the same file"),
        (b"SE000001\\IM000002", b"SE000001\\IM000009", "the DICOMDIR lists"),
        (b"LO\x02\x00P1", b"LO\x02\x00P2", "Patient ID"),
        (b"PN\x08\x00Doe^Jane", b"PN\x08\x00Roe^Jane", "a Patient's Name that no object below it has"),
        (b"PN\x08\x00Doe^Jane", b"PN\x08\x00Roe^John", "disagree in Patient's Name"),
    ],
)
def test_a_record_that_does_not_agree_with_its_object_is_found(good, old, new, complaint):
    """The index is changed, and so is its expected hash: what is left is what the record says."""
    path, volume_id, expected = good
    contents = IsoContents(path)
    index = read_all(contents, "DICOMDIR")
    contents.close()
    assert old in index
    wrong = index.replace(old, new)
    path.write_bytes(path.read_bytes().replace(index, wrong))
    with pytest.raises(NotAsWritten, match=complaint):
        reread(path, volume_id, {**expected, "DICOMDIR": hashlib.sha256(wrong).hexdigest()})


def test_the_moment_a_disc_was_made_is_given_not_asked(good):
    assert MADE_AT.strftime("%Y-%m-%d %H:%M UTC").encode() in good[0].read_bytes()
