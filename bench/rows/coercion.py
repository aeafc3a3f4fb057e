"""Six attributes of each CT coerced, one file after the other in one process, beside a raw copy of the file.

Measured is the time of the processor, in which writing to the disk does not count: where a disk has to be waited
for, all contenders wait alike.
"""

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import process_time

import pydicom
from studies import slices
from support.machine.dicom_programs import ENVIRONMENT, program
from support.sites.line_site import settings_for
from table import Row

from pipeline.coercions import rules_of
from pipeline.line.prepare import PrepareTask, prepare
from pipeline.model import InstanceKey, Origin
from pipeline.spool.hashed_files import state_of

SET = {
    "NameOfPhysiciansReadingStudy": "-^-^-^-",
    "StudyID": "29991231235959",
    "ReferringPhysicianName": "-^-^-^-^-",
}


def _timed(files: list[Path], target: Path, one: Callable[[Path, Path], object]) -> float:
    _cleared(target)
    began = process_time()
    for file in files:
        one(file, target / file.name)
    return (process_time() - began) / len(files) * 1000


def _cleared(target: Path) -> None:
    """Delete what an earlier contender has made: to replace a file costs more than to make one."""
    for made in target.iterdir():
        made.unlink()


def _by_pydicom(file: Path, target: Path) -> None:
    data_set = pydicom.dcmread(file)
    for keyword, value in SET.items():
        setattr(data_set, keyword, value)
    data_set.save_as(target)


def _by_dcmodify(files: list[Path], target: Path) -> float:
    _cleared(target)
    began, of_children = process_time(), sum(os.times()[2:4])
    copies = [target / file.name for file in files]
    for file, copy in zip(files, copies, strict=True):
        copy.write_bytes(file.read_bytes())
    keys = [word for keyword, value in SET.items() for word in ("-i", f"{keyword}={value}")]
    argv = [program("dcmodify"), "-nb", "-imt", *keys, *map(str, copies)]
    subprocess.run(argv, env=ENVIRONMENT, check=True, capture_output=True)
    took = process_time() - began + sum(os.times()[2:4]) - of_children
    return took / len(files) * 1000


@contextmanager
def _contenders(folder: Path, small: bool) -> Iterator[Mapping[str, Callable[[], float]]]:
    (study,) = slices(folder / "study", 5 if small else 200)
    files = sorted(study.iterdir())
    target = folder / "made"
    target.mkdir()
    rules = rules_of(settings_for(folder))
    origin = Origin("modalities", "CT", "STORESTOW", None, datetime(2026, 1, 1, tzinfo=UTC))
    tasks = {}
    for number, file in enumerate(files):
        header = pydicom.dcmread(file, stop_before_pixels=True)
        key = InstanceKey(header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        tasks[file] = PrepareTask(
            *(number, file, digest, key, origin, rules, ("none",), target / str(number), folder),
            hashed_in=state_of(file.stat()),  # As in the line, which has hashed it when it was identified.
        )
    yield {
        "raw copy": lambda: _timed(files, target, lambda file, copy: copy.write_bytes(file.read_bytes())),
        "ours": lambda: _timed(files, target, lambda file, _: prepare(tasks[file])),
        "pydicom": lambda: _timed(files, target, _by_pydicom),
        "dcmodify": lambda: _by_dcmodify(files, target),
    }


ROW = Row("coercion of one CT, time of the processor", _contenders, {"ours": 2.5}, seconds=15, unit="ms")
