"""What is made for a destination is whole under its name, stays as it is, and never shares it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from line_site import NULL, arrive, instance, settings_for, working
from preparing import task_of
from pydicom import Dataset

from pipeline.errors import Permanent
from pipeline.line.prepare import Task, prepare
from pipeline.line.reconcile import reconcile
from pipeline.model import Change, InstanceKey, Origin


@pytest.fixture
def task(tmp_path: Path) -> Task:
    one = task_of(instance(tmp_path, "a"), tmp_path, "j2k")
    return replace(one, encodings=("j2k", "none"), rules=(Renaming("One"),), target=made_in(tmp_path) / "1")


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
