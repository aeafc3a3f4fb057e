"""What is sent: a folder of the user's, or a private copy of a real study under new UIDs.

The UIDs are new because a study that came before would be a duplicate, which storestow counts and does not
send again. Where there is no real study, images that come with pydicom are sent as one study: they are of several
patients, and get one invented patient, because a study is of one. Nothing else is changed.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pydicom.data
from programs import Unhealthy
from pydicom.errors import InvalidDicomError
from pydicom.uid import generate_uid

CORPUS_STUDY = Path(__file__).resolve().parents[2] / "shared/corpus/dev/studies/ct_ge_hispeed"
BUNDLED = Path(pydicom.data.__file__).parent / "test_files"
BUNDLED_SLICES = ("CT_small.dcm", "MR_small.dcm")
COPIES_OF_EACH = 10
LATE = 2  # images the modality sends when its study is archived already
UIDS = ("StudyInstanceUID", "SOPInstanceUID")
PATIENT = {"PatientID": "DEMO-7", "PatientName": "Demo^Patient", "PatientBirthDate": "19700101", "PatientSex": "O"}


@dataclass(frozen=True)
class Study:
    """A folder of files to send: their number of bytes, and SOP Instance UIDs by Study Instance UID."""

    folder: Path
    size: int
    instances: dict[str, set[str]]

    @property
    def count(self) -> int:
        """Return how many instances there are."""
        return sum(len(uids) for uids in self.instances.values())


def given(folder: Path) -> Study:
    """Take the DICOM files below `folder` as they are; raises Unhealthy where there are none."""
    size = 0
    instances: dict[str, set[str]] = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(UIDS))
        except InvalidDicomError:
            continue
        if all(keyword in dataset for keyword in UIDS):
            size += file.stat().st_size
            instances.setdefault(str(dataset.StudyInstanceUID), set()).add(str(dataset.SOPInstanceUID))
    if not instances:
        raise Unhealthy(f"there is no DICOM file with Study and SOP Instance UID below {folder}", 64)
    return Study(folder, size, instances)


def real(folder: Path) -> Study:
    """Write a real study under new UIDs into `folder`, replacing what was there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    study_instance_uid = generate_uid()
    series: dict[str, str] = {}
    for number, source in enumerate(_slices(), start=1):
        dataset = pydicom.dcmread(source)
        if source.parent == BUNDLED:
            _of_one_patient(dataset)
        dataset.StudyInstanceUID = study_instance_uid
        dataset.SeriesInstanceUID = series.setdefault(str(dataset.SeriesInstanceUID), generate_uid())
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(folder / f"{number:04}.dcm")
    return given(folder)


def late(study: Study, folder: Path) -> Study:
    """Write more images of a study into `folder`, as a modality sends them a while later."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in sorted(study.folder.iterdir())[:LATE]:
        dataset = pydicom.dcmread(file)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(folder / file.name)
    return given(folder)


def under_numbers(folder: Path, accession_numbers: Sequence[str]) -> list[Path]:
    """Write a small study of one invented patient under each accession number; the same each time."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for accession, name in zip(accession_numbers, BUNDLED_SLICES, strict=True):
        for number in range(1, COPIES_OF_EACH + 1):
            dataset = pydicom.dcmread(BUNDLED / name)
            dataset.StudyInstanceUID = generate_uid(entropy_srcs=[accession])
            dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[accession, "series"])
            instance = generate_uid(entropy_srcs=[accession, str(number)])
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = instance
            _of_one_patient(dataset)
            dataset.AccessionNumber, dataset.InstanceNumber = accession, number
            files.append(folder / f"{accession}-{number:02}.dcm")
            dataset.save_as(files[-1])
    return files


def _slices() -> Iterator[Path]:
    if CORPUS_STUDY.is_dir():
        yield from sorted(path for path in CORPUS_STUDY.rglob("*") if path.is_file())
    else:
        for name in BUNDLED_SLICES:
            yield from [BUNDLED / name] * COPIES_OF_EACH


def _of_one_patient(dataset: pydicom.Dataset) -> None:
    for keyword, value in PATIENT.items():
        setattr(dataset, keyword, value)
