"""How the files of a disc are read: here or in processes of the pool, and the same is found."""

import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file
from support.studies.discs import an_object, files_below

from pipeline.disc.formats.parallel import spread
from pipeline.disc.make import plan as survey_module
from pipeline.disc.make.plan import SourceObjects, survey
from pipeline.disc.model import SourceFile
from pipeline.disc.objects import raw as raw_module
from pipeline.disc.objects.entry import WANTED
from pipeline.disc.objects.raw import LARGEST_FILE, RawObject, raw
from pipeline.errors import Transient
from pipeline.processes.process_pool import ProcessPool
from pipeline.spool.hashed_files import sha256_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def pool():
    with contextlib.closing(ProcessPool(2)) as pool:
        yield pool


# --- the same, wherever it is read -------------------------------------------------------------------------


def test_the_pool_finds_what_is_found_here_in_every_file_of_the_corpus(corpus, tmp_path, pool, monkeypatch):
    paths = files_below(corpus)
    again = [an_object(tmp_path, name, SOPInstanceUID="1.2.3") for name in ("one", "two", "three")]
    sources = [SourceFile(path) for path in (*paths, *again)]
    sources[3] = SourceFile(sources[3].path, sha256="0" * 64)
    heard: list[int] = []

    def found(many: int) -> SourceObjects:
        monkeypatch.setattr(survey_module, "MANY", many)
        return survey(sources, tmp_path, pool, heard.append)

    here, there = found(len(sources)), found(0)
    assert heard == [*range(1, len(sources) + 1)] * 2
    assert there.entries == here.entries
    assert there.left_out == here.left_out
    assert there.duplicates == here.duplicates >= 2
    assert [one.sha256 for one in there.entries if one.source == sources[4].path] in (
        [],
        [sha256_of(sources[4].path)],
    )


def test_few_files_start_no_process(tmp_path, pool):
    survey([SourceFile(an_object(tmp_path, str(number))) for number in range(3)], tmp_path, pool, lambda _: None)
    assert pool._all == set()


def test_a_file_too_large_for_a_process_with_bounded_memory_is_read_here(tmp_path, pool, monkeypatch):
    monkeypatch.setattr(survey_module, "MANY", 0)
    monkeypatch.setattr(survey_module, "_LARGEST_MAPPED", 1000)
    sources = [SourceFile(an_object(tmp_path))]
    assert len(survey(sources, tmp_path, pool, lambda _: None).entries) == 1
    assert pool._all == set()
    monkeypatch.setattr(survey_module, "_LARGEST_MAPPED", sources[0].path.stat().st_size)
    assert len(survey(sources, tmp_path, pool, lambda _: None).entries) == 1
    assert pool._all != set()


def test_what_runs_in_processes_imports_nothing_that_is_slow_to_import():
    for module in ("objects.raw", "formats.independent_reader", "formats.parallel"):
        said = subprocess.run(
            [sys.executable, "-I", "-c", f"import pipeline.disc.{module}, sys; print(*sys.modules)"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        assert {"pydicom", "numpy", "pydantic", "sqlalchemy"}.isdisjoint(said), module


# --- what goes wrong ---------------------------------------------------------------------------------------


def test_answers_come_in_order_and_errors_are_raised(pool):
    assert list(spread(str, range(20), pool)) == list(spread(str, range(20), None))
    with pytest.raises(Transient, match="No such file"):
        list(spread(os.listdir, ["/nowhere/at/all"], pool))


def test_a_process_that_dies_makes_no_disc_now(pool):
    with pytest.raises(Transient, match=r"could not be read: .*died twice.*exit code 3"):
        list(spread(os._exit, [3], pool))


@pytest.mark.parametrize("lacking", [errno.ENOSPC, errno.EDQUOT, errno.ENOMEM])
def test_what_this_machine_lacks_is_no_fault_of_the_file(tmp_path, monkeypatch, lacking):
    def lacks(*_args: object) -> None:
        raise OSError(lacking, os.strerror(lacking))

    monkeypatch.setattr(raw_module, "data_set_of", lacks)
    with pytest.raises(OSError, match=os.strerror(lacking)):
        raw(Path(get_testdata_file("image_dfl.dcm")), None, WANTED, tmp_path)


@pytest.mark.parametrize("many", [0, 400], ids=["by processes", "here"])
def test_a_file_that_is_gone_or_cannot_be_read_by_the_system_is_not_left_out_but_makes_no_disc(
    many, tmp_path, pool, monkeypatch
):
    monkeypatch.setattr(survey_module, "MANY", many)
    sources = [SourceFile(an_object(tmp_path)), SourceFile(tmp_path / "gone")]
    with pytest.raises(
        Transient, match="gone cannot be read: No such file or directory; no disc is made without it"
    ):
        survey(sources, tmp_path, pool, lambda _: None)
    sources[1].path.mkdir()
    with pytest.raises(Transient, match="gone cannot be read: Is a directory"):
        survey(sources, tmp_path, pool, lambda _: None)


def test_a_deflated_file_is_hashed_as_it_is(tmp_path):
    path = Path(get_testdata_file("image_dfl.dcm"))
    assert raw(path, None, WANTED, tmp_path).sha256 == sha256_of(path)


def test_two_files_too_large_to_be_hashed_are_not_taken_for_the_same(tmp_path, pool, monkeypatch):
    monkeypatch.setattr(raw_module, "LARGEST_FILE", 1000)
    paths = [an_object(tmp_path, name, SOPInstanceUID="1.2.3", PatientComments=name) for name in ("one", "two")]
    assert LARGEST_FILE > 1000
    found = survey([SourceFile(path) for path in paths], tmp_path, pool, lambda _: None)
    assert [one.sha256 for one in found.entries] == [""]
    assert [one.reason for one in found.left_out] == [
        "another file of the same UIDs came first and is there; this one differs from it"
    ]


@pytest.mark.parametrize("size", [0, 1, (120 << 10) - 1, 120 << 10, (120 << 10) + 1, (64 << 20) + 1])
def test_a_file_hashes_to_what_others_find(tmp_path, size):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    said = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout
    assert sha256_of(path) == said.split()[0]


def test_what_is_no_file_of_dicom_says_so(tmp_path):
    (tmp_path / "text").write_text("x" * 200)
    (tmp_path / "empty").touch()
    assert raw(tmp_path / "text", None, WANTED, tmp_path) == RawObject(problem="not a DICOM file")
    assert raw(tmp_path / "empty", None, WANTED, tmp_path) == RawObject(problem="the file is empty")
