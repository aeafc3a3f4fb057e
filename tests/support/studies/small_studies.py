"""Make small consignments: real Part 10 files of a few hundred bytes, pinned as the line pins them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from pipeline.dicom.archived_copy import compared
from pipeline.model import Consignment, ContentComparison, InstanceKey, Item, Receipt

STUDY = "1.2.826.0.1.3680043.9.9999.1"


def make_item(
    folder: Path,
    number: int,
    *,
    study: str = STUDY,
    series: str = "",
    calling: str = "CT1",
    institution: str | None = "Example Hospital",
    attempted: bool = False,
    padding: int = 0,
    **attributes: object,
) -> Item:
    """Write instance `number` of `study`, `padding` bytes larger than need be, and return its item."""
    series = series or f"{study}.1"
    key = InstanceKey(study, series, f"{series}.{number}")
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = key.sop_instance_uid
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = series
    dataset.PatientID = "P-SECRET-1"
    dataset.PatientName = "Secret^Name"
    dataset.InstanceNumber = number
    dataset.InstitutionName = institution or ""
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    if padding:
        dataset.EncapsulatedDocument = b"\r\n--x" * (padding // 5) + b"\0" * (padding % 5)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{key.sop_instance_uid}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return pinned(path, key, calling=calling, institution=institution, attempted=attempted)


def pinned(
    path: Path,
    key: InstanceKey,
    *,
    calling: str = "CT1",
    institution: str | None = "Example Hospital",
    attempted: bool = False,
) -> Item:
    """Return the item of a file as it is now."""
    content = path.read_bytes()
    return Item(
        key=key,
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        sop_class_uid=CTImageStorage,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        calling_ae_title=calling,
        called_ae_title="STORESTOW",
        institution=institution,
        attempted=attempted,
    )


def make_study(folder: Path, count: int, *, padding: int = 0) -> tuple[Item, ...]:
    return tuple(make_item(folder, number, padding=padding) for number in range(1, count + 1))


class Attempts:
    """What a destination announced before sending."""

    def __init__(self) -> None:
        self.uids: list[str] = []

    def __call__(self, items: Sequence[Item]) -> None:
        self.uids += [item.key.sop_instance_uid for item in items]


def consign(items: Sequence[Item], attempts: Attempts | None = None, *, released: bool = False) -> Consignment:
    study = items[0].key.study_instance_uid
    attempt = attempts or Attempts()
    return Consignment(1, study, tuple(items), attempt, guard_released=released, compare=_compare)


def _compare(ours: Path, theirs: Path) -> ContentComparison:
    return compared((ours, theirs))


def uids_of(items: Sequence[Item]) -> list[str]:
    return [item.key.sop_instance_uid for item in items]


def last_of(receipts: Sequence[Receipt]) -> dict[str, Receipt]:
    """Return the receipt that counts of each SOP Instance UID."""
    return {receipt.key.sop_instance_uid: receipt for receipt in receipts}
