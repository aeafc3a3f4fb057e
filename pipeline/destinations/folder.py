"""kind = "folder": store files as Patient/Study/Series/SOP Instance in a folder; no file is ever overwritten."""

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pipeline.config.keys import AbsolutePath
from pipeline.destinations import Destination
from pipeline.dicom.reading import values_of
from pipeline.errors import Configuration, PeerUnavailable, Transient
from pipeline.model import Consignment, Item, Receipt, ReceiptState
from pipeline.spool.store_file import StoreOutcome, component, file_away

PATIENT_ID = 0x00100020
_PERSON_MUST_ACT = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG}


class FolderDestination(Destination):
    """Store instances below `folder`, which must exist: an unmounted share must not fill the local disk."""

    asks_first: ClassVar[bool] = True  # A file with the same bytes is not written again.

    kind: Literal["folder"]
    folder: AbsolutePath
    """Where to; it must exist. Example: `"/srv/studies"`"""

    @property
    def writes_to(self) -> Path:
        """Return the folder."""
        return self.folder

    def deliver(self, consignment: Consignment) -> Iterator[Receipt]:
        """Store every item and yield its receipt; see `Destination.deliver` for what it raises."""
        if not self.folder.is_dir():
            raise Configuration(f"folder: {self.folder} does not exist; create it, or mount what belongs there")
        left = 0
        for item in consignment.items:
            receipt = self._file(item, consignment)
            left += receipt.state is ReceiptState.PENDING
            yield receipt
        if left:
            raise Transient(f"{self.folder}: {left} of {len(consignment.items)} instances could not be read")

    def problems(self) -> Iterator[str]:
        """Yield a sentence if the folder does not exist."""
        if not self.folder.is_dir():
            where = f"destination {self.name}: folder {self.folder}"
            yield f"{where} does not exist; create it, or mount what belongs there"

    def _file(self, item: Item, consignment: Consignment) -> Receipt:
        try:
            target = self.folder / place(item)
        except OSError:
            return Receipt(item.key, ReceiptState.PENDING, "", "its file cannot be read")
        consignment.attempt([item])
        try:
            outcome = file_away(item.path, target, item.sha256, mark=str(consignment.delivery))
        except OSError as error:
            raise _classified(error, self.folder) from error
        return _receipt(item, outcome)


def place(item: Item) -> Path:
    """Return the instance's path below the folder; every component is a safe file name for any data set."""
    return Path(
        component(_patient_id(item.path)),
        component(item.key.study_instance_uid),
        component(item.key.series_instance_uid),
        component(item.key.sop_instance_uid) + ".dcm",
    )


def _patient_id(path: Path) -> str:
    """Return each byte of Patient ID as one character: equal bytes give equal names in any character set."""
    return values_of(path, [PATIENT_ID]).get(PATIENT_ID, b"").decode("latin-1").strip(" \0")


def _receipt(item: Item, outcome: StoreOutcome) -> Receipt:
    match outcome:
        case StoreOutcome.FILED:
            return Receipt(item.key, ReceiptState.STORED, verified=True)
        case StoreOutcome.SAME if item.attempted:
            return Receipt(item.key, ReceiptState.STORED, verified=True)
        case StoreOutcome.SAME:
            return Receipt(item.key, ReceiptState.DUPLICATE, "", "the same bytes lay there before", verified=True)
        case StoreOutcome.OTHER:
            return Receipt(item.key, ReceiptState.REFUSED, "", "other bytes lie there under this UID")
        case StoreOutcome.NOT_AS_PINNED:
            return Receipt(
                item.key, ReceiptState.PENDING, "", "its file is gone or has changed since it was pinned"
            )


def _classified(error: OSError, folder: Path) -> Configuration | PeerUnavailable:
    if error.errno in _PERSON_MUST_ACT:
        return Configuration(f"folder: {folder} cannot be written to: {error.strerror}")
    # The disk is full, or the share is not mounted.
    return PeerUnavailable(f"{folder} cannot be written to now: {error.strerror}")


DESTINATION = FolderDestination
