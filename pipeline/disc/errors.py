"""The reasons why a disc is not made, a class for each; callers map `kind` to their own answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pipeline.errors import Configuration, Permanent, Transient


class NoDisc(Permanent):
    """Say that no disc can be made from these objects, and that nothing has been written."""

    kind: ClassVar[str] = "no disc"


@dataclass(frozen=True, slots=True)
class PatientDifference:
    """Name one patient attribute that differs, and the accession numbers on each side.

    `values` are for the page of the person who asked, never for a log line or a message; nor are `examples`, one
    file of each side, whose name may be a person's. `is_unproven`: the values need not differ, but a Patient ID is
    empty or a placeholder, and no other attribute proves one patient.
    """

    attribute: str
    accession_numbers: tuple[tuple[str, ...], ...]
    values: tuple[str, ...]
    examples: tuple[Path, ...] = ()
    is_unproven: bool = False


class SeveralPatients(NoDisc):
    """Say that the objects are of more than one patient; HTTP 409, "more than one patient"."""

    kind = "more than one patient"

    def __init__(self, message: str, differences: Sequence[PatientDifference] = ()) -> None:
        super().__init__(message)
        self.differences = tuple(differences)


class NoPatientID(NoDisc):
    """Say that objects have no Patient ID, so that their patient is unknown; HTTP 409.

    `examples` are some of these files, for the person who gave them and never for a log line.
    """

    kind = "no patient id"

    def __init__(self, message: str, examples: Sequence[Path] = ()) -> None:
        super().__init__(message)
        self.examples = tuple(examples)


class NothingForDisc(NoDisc):
    """Say that no object is left that could be on a disc."""

    kind = "nothing for the disc"


class TooLarge(NoDisc):
    """Say that the disc would be larger than its medium; HTTP 409."""

    kind = "too large"

    def __init__(self, message: str, *, needed_bytes: int, capacity_bytes: int) -> None:
        super().__init__(message)
        self.needed_bytes, self.capacity_bytes = needed_bytes, capacity_bytes


class NameInUse(NoDisc):
    """Say that the name for the disc is in use; the existing file stays."""

    kind = "name in use"


class UnfitPassPhrase(NoDisc):
    """Say why a pass phrase cannot be used, and what a pass phrase must be like."""

    kind = "unfit pass phrase"


class UnfitViewer(Configuration):
    """Say why the site's viewer folder cannot be put on a disc."""


class NoPlace(Configuration):
    """Say why nothing can be written to the folder for the disc."""


class NoSpace(Transient):
    """Say that there is too little free space to make the disc; nothing has been written."""


class NotAsWritten(Transient):
    """Say that the finished image, read back, differs from what was written; it has been deleted."""
