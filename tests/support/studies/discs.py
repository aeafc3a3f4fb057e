"""Make small discs of real objects, take them apart by other programs, and ask validators about them."""

import contextlib
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import pydicom
import pytest
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.fileset import FileSet
from pydicom.uid import generate_uid
from support.crash.moments import point_of
from support.machine.dicom_programs import ENVIRONMENT, program
from support.studies.small_studies import pinned

from pipeline import crash_points
from pipeline.disc.make.make import make_disc
from pipeline.disc.model import Disc, DiscOptions, SourceFile
from pipeline.model import InstanceKey, Item

MADE_AT = datetime(2026, 11, 4, 9, 30, tzinfo=UTC)
PATIENT = {"PatientID": "P1", "PatientName": "Doe^Jane", "PatientBirthDate": "19700101", "AccessionNumber": "A1"}
STUDY = "1.2.826.0.1.3680043.9.9999.7"
SHORT = re.compile(r"[A-Z0-9_]{1,8}(\.[A-Z0-9_]{1,3})?")


class Killed(BaseException):
    """What ends a delivery where a killed process would have stopped."""


@contextlib.contextmanager
def killed_at(point: str) -> Iterator[None]:
    """Have the block end where it reaches this point, which it must; what it reached instead is told."""
    reached: list[str] = []

    def die(name: str) -> None:
        reached.append(name)
        if name == point_of(point):
            raise Killed

    with mock.patch.object(crash_points, "observer", die):
        try:
            yield
        except Killed:
            return
    pytest.fail(f"{point_of(point)!r} was not reached; the last were {reached[-8:]}")


def item(path: Path) -> Item:
    """Return a file as the item of a consignment."""
    data_set = pydicom.dcmread(path, stop_before_pixels=True)
    key = InstanceKey(data_set.StudyInstanceUID, data_set.SeriesInstanceUID, data_set.SOPInstanceUID)
    return pinned(path, key)


def an_object(
    folder: Path,
    name: str = "a",
    *,
    source: str | Path = "CT_small.dcm",
    remove: Sequence[str] = (),
    **attributes: object,
) -> Path:
    """Write a real object of the one patient and study, with a new UID, changed as the situation needs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = source if isinstance(source, Path) else Path(get_testdata_file(source))
        data_set = pydicom.dcmread(path)
        values = {"SOPInstanceUID": generate_uid(), "StudyInstanceUID": STUDY, **PATIENT, **attributes}
        for keyword, value in values.items():
            setattr(data_set, keyword, value)
        for keyword in remove:
            delattr(data_set, keyword)
        data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
        data_set.file_meta.MediaStorageSOPClassUID = data_set.SOPClassUID
        folder.mkdir(parents=True, exist_ok=True)
        data_set.save_as(folder / name, enforce_file_format=True)
    return folder / name


def options(**changed: object) -> DiscOptions:
    """Return the options of a test's disc."""
    return DiscOptions(**{"made_at": MADE_AT, "workers": 1, **changed})  # type: ignore[arg-type]


def a_disc(folder: Path, *paths: Path, name: str = "disc.iso", **changed: object) -> Disc:
    """Make a disc of these files."""
    container = name.rpartition(".")[2]
    return make_disc([SourceFile(path) for path in paths], folder / name, options(container=container, **changed))


def files_below(folder: Path) -> list[Path]:
    """Return every file below a folder, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def taken_apart(disc: Path, folder: Path, *, password: str = "") -> Path:
    """Extract a disc with 7z, which must find it sound."""
    shutil.rmtree(folder, ignore_errors=True)
    words = [f"-p{password}"] if password else []
    assert "Everything is Ok" in said("7z", "t", *words, disc)
    said("7z", "x", "-y", *words, f"-o{folder}", disc)
    return folder


def said(name: str, *words: str | Path, fails: bool = False) -> str:
    """Run a program and return what it said; it must succeed, or fail, as expected."""
    done = subprocess.run(
        [program(name), *map(str, words)],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    output = done.stdout.decode("utf-8", "replace")
    assert (done.returncode != 0) == fails, f"{name} {words} ended with {done.returncode}: {output[-2000:]}"
    return output


def dciodvfy_errors(file: Path) -> list[str]:
    """Return dciodvfy's lines that begin with Error."""
    done = subprocess.run(
        [program("dciodvfy"), str(file)],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return [line for line in done.stderr.decode("latin-1").splitlines() if line.startswith("Error")]


def records_of(root: Path) -> list[tuple[Dataset, Dataset]]:
    """Return every record of a DICOMDIR that names a file, by pydicom's own FileSet, with the file it names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file_set = FileSet(root / "DICOMDIR")
        file_set._stage["t"].cleanup()  # else it warns when it is collected, long after the test
        return [(one, pydicom.dcmread(Path(one.path), stop_before_pixels=True)) for one in file_set]  # type: ignore[misc]


def assert_records_agree(root: Path, count: int) -> None:
    """Every record and its parents say of patient, study, series and object what the file itself says."""
    records = records_of(root)
    assert len(records) == count == len(files_below(root / "DICOM"))
    assert len({Path(one.path) for one, _ in records}) == count
    for one, file in records:
        assert one.SOPInstanceUID == file.SOPInstanceUID == file.file_meta.MediaStorageSOPInstanceUID
        assert one.ReferencedSOPClassUIDInFile == file.SOPClassUID == file.file_meta.MediaStorageSOPClassUID
        assert one.ReferencedTransferSyntaxUIDInFile == file.file_meta.TransferSyntaxUID
        assert one.PatientID == file.PatientID
        assert one.StudyInstanceUID == file.StudyInstanceUID
        assert one.SeriesInstanceUID == file.SeriesInstanceUID


def assert_sound(disc: Disc, folder: Path, *, errors: Sequence[str] = ()) -> Path:
    """Hold a disc against every validator there is; return the folder it was taken apart to."""
    root = taken_apart(disc.path, folder)
    assert [line for line in dciodvfy_errors(root / "DICOMDIR") if line not in errors] == []
    said("dcmdump", "-q", root / "DICOMDIR")
    said("sh", "-c", f"cd '{root}' && sha256sum --quiet --strict -c SHA256.TXT")
    assert_records_agree(root, len(disc.instances))
    if disc.path.suffix == ".iso":
        assert f"Volume id: {disc.volume_id}\n" in said("isoinfo", "-d", "-i", disc.path)
        names = said("isoinfo", "-f", "-i", disc.path).split()
        assert [
            n
            for n in names
            if not all(SHORT.fullmatch(part.partition(";")[0].rstrip(".")) for part in n[1:].split("/"))
        ] == []
        found = said("xorriso", "-indev", disc.path, "-find", "/")
        assert "FAILURE" not in found
    assert pydicom.dcmread(root / "DICOMDIR").FileSetID == disc.volume_id
    return root
