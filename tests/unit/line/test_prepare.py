"""What is made for a destination is whole under its name, stays as it is, and never shares it."""

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pydicom import Dataset
from support.sites.line_site import NULL, arrive, instance, settings_for, working
from support.sites.preparing import task_of

from pipeline.coercions import coerce
from pipeline.dicom import header
from pipeline.dicom.copied_instance import CopiedInstance
from pipeline.errors import Permanent
from pipeline.line.prepare import Prepared, PrepareTask, prepare
from pipeline.line.reconcile import reconcile
from pipeline.model import Change, InstanceKey, Origin
from pipeline.spool import hashed_files
from pipeline.spool.hashed_files import state_of


@pytest.fixture
def task(tmp_path: Path) -> PrepareTask:
    one = task_of(instance(tmp_path, "a"), tmp_path, "j2k")
    return replace(one, encodings=("j2k", "none"), rules=(Renaming("One"),), target=made_in(tmp_path) / "1")


@dataclass(frozen=True)
class Reading:
    """A rule that asks for a number."""

    name: str = "reading"

    def propose(self, dataset: Dataset, _: Origin) -> Iterator[Change]:
        assert dataset.Rows
        yield from ()


def made_in(folder: Path) -> Path:
    made = folder / "made"
    made.mkdir(exist_ok=True)
    return made


@dataclass(frozen=True)
class Renaming:
    """A rule that gives every institution this name."""

    to: str
    name: str = "renaming"

    def propose(self, dataset: Dataset, _: Origin) -> Iterator[Change]:
        yield Change(0x00080080, "InstitutionName", self.to, None, self.to, self.name)


def test_what_is_made_again_leaves_the_file_alone_that_somebody_is_sending(task):
    outputs = prepare(task).outputs
    being_sent = [output.path.open("rb") for output in outputs]
    written_at = [os.fstat(file.fileno()).st_mtime_ns for file in being_sent]
    assert prepare(task).outputs == outputs
    assert [os.fstat(file.fileno()).st_mtime_ns for file in being_sent] == written_at
    assert [len(file.read()) for file in being_sent] == [output.size for output in outputs]
    for file in being_sent:
        file.close()


def test_two_contents_of_one_instance_have_two_names(task):
    one, other = prepare(task), prepare(replace(task, rules=(Renaming("Other"),)))
    assert {output.path for output in one.outputs}.isdisjoint(output.path for output in other.outputs)
    assert all(output.path.stat().st_size == output.size for output in (*one.outputs, *other.outputs))


def outputs(prepared: Prepared) -> dict[str, str | None]:
    return {output.encoding: output.reason for output in prepared.outputs}


@pytest.mark.parametrize("error", [ValueError("DOE^JOHN"), NotImplementedError("…"), Permanent("it does not fit")])
def test_whatever_fails_while_an_encoded_file_is_written_passes_the_instance_as_it_is(task, monkeypatch, error):
    def fail(*_: object) -> str:
        raise error

    monkeypatch.setattr("pipeline.line.prepare.write_data_set", fail)
    made = outputs(prepare(task))
    assert made["none"] is None
    assert made["j2k"] is not None
    assert made["j2k"].startswith("cannot be written encoded: ")
    assert not re.search(r"DOE|\.py", made["j2k"])


def test_an_encoded_file_that_does_not_read_back_is_not_sent_and_the_instance_is(task, monkeypatch):
    real = header.write_data_set

    def cut(target: Path, data_set: Dataset) -> str:
        real(target, data_set)
        os.truncate(target, target.stat().st_size - 9)
        return "0" * 64

    monkeypatch.setattr("pipeline.line.prepare.write_data_set", cut)
    made = outputs(prepare(task))
    assert made["none"] is None
    assert "does not read back" in str(made["j2k"])


def test_the_attribute_is_named_whose_value_cannot_be_read(tmp_path):
    """Two bytes and a half of a number: pydicom cannot read them, and no line of code helps anybody."""
    source = instance(tmp_path, "a")
    content = source.read_bytes()
    rows = content.index(struct.pack("<HH2sH", 0x0028, 0x0010, b"US", 2))
    source.write_bytes(
        content[: rows + 6] + struct.pack("<H", 3) + content[rows + 8 : rows + 10] + b"\0" + content[rows + 10 :]
    )
    one = replace(task_of(source, tmp_path, "j2k"), rules=(Reading(),), target=made_in(tmp_path) / "1")
    with pytest.raises(Permanent, match=r"^the value of Rows cannot be read$"):
        prepare(one)


def counted(monkeypatch):
    """Return the list of files that are hashed from now on."""
    hashed, real = [], hashed_files.sha256_of
    monkeypatch.setattr("pipeline.line.prepare.sha256_of", lambda path: hashed.append(path) or real(path))
    return hashed


def test_a_received_file_is_not_hashed_again_while_it_is_in_the_state_it_was_hashed_in(task, monkeypatch):
    hashed = counted(monkeypatch)
    known = replace(task, hashed_in=state_of(task.source.stat()))
    assert prepare(known) == prepare(task)
    assert hashed == [task.source]  # for the task that does not know the state


@pytest.mark.parametrize("encoding", ["none", "j2k"])
def test_a_received_file_in_another_state_is_hashed_and_nothing_is_made_of_other_bytes(task, encoding):
    known = replace(task, encodings=(encoding,), hashed_in=state_of(task.source.stat()))
    content = task.source.read_bytes()
    os.utime(task.source, ns=(0, 0))  # The clock of the file system may not have gone on since.
    assert prepare(known).outputs
    for output in prepare(known).outputs:
        output.path.unlink()
    task.source.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(task.source, ns=(0, 1))
    with pytest.raises(Permanent, match="has changed since"):
        prepare(known)
    assert list(task.target.parent.iterdir()) == []


@pytest.mark.parametrize("encoding", ["none", "j2k"])
def test_a_file_that_changes_while_it_is_read_without_being_hashed_gives_nothing(task, monkeypatch, encoding):
    def changing(header: Dataset, *_: object) -> object:
        content = task.source.read_bytes()
        task.source.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        os.utime(task.source, ns=(0, 1))
        return coerce(header, *_)

    monkeypatch.setattr("pipeline.line.prepare.coerce", changing)
    with pytest.raises(Permanent, match="has changed since"):
        prepare(replace(task, encodings=(encoding,), hashed_in=state_of(task.source.stat())))
    assert list(task.target.parent.iterdir()) == []


def test_a_copy_that_does_not_read_back_gets_no_name(task, monkeypatch):
    real = CopiedInstance.write

    def cut(self: CopiedInstance, target: Path) -> str:
        real(self, target)
        os.truncate(target, target.stat().st_size - 9)
        return "0" * 64

    monkeypatch.setattr(CopiedInstance, "write", cut)
    with pytest.raises(Permanent, match="does not read back"):
        prepare(replace(task, encodings=("none",)))
    assert list(task.target.parent.iterdir()) == []


def test_what_does_not_read_back_gets_no_name(task):
    with pytest.raises(Permanent, match="another instance"):
        prepare(replace(task, key=InstanceKey("1.2", "1.3", "1.4")))
    assert list(task.target.parent.iterdir()) == []


def test_what_was_being_made_when_the_machine_died_is_dropped_at_the_next_start(tmp_path):
    settings = settings_for(tmp_path, destinations=({**NULL, "encode": "j2k"},))
    with working(settings) as (site, _):
        name = arrive(site.spool, instance(tmp_path))
        half_made = site.spool.outputs / name / ".1.plain.0a1b2c3d"
        half_made.parent.mkdir(parents=True)
        half_made.write_bytes(b"half")
    with working(settings) as (site, _):
        reconcile(site)
        assert not half_made.exists()
