"""Why a disc is not made, each as its own class: `kind` is the word a caller maps to an answer of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pipeline.errors import Configuration, Permanent, Transient


class NoDisc(Permanent):
    """Say that no disc can be made of what was asked for, and that nothing has been written."""

    kind: ClassVar[str] = "no disc"


@dataclass(frozen=True, slots=True)
class PatientDifference:
    """Name one patient attribute that differs, and which accession numbers stand on each side.

    `values` are for the page of the person who asked, never for a log line or a message; nor is `examples`, one
    file of each side, whose name may be a person's. `is_unproven`: they need not differ, but a Patient ID is empty
    or a placeholder, and nothing else shows that they are of one patient.
    """

    attribute: str
    accession_numbers: tuple[tuple[str, ...], ...]
    values: tuple[str, ...]
    examples: tuple[Path, ...] = ()
    is_unproven: bool = False


class SeveralPatients(NoDisc):
    """Say that the objects are not all of one patient; HTTP 409, "more than one patient"."""

    kind = "more than one patient"

    def __init__(self, message: str, differences: Sequence[PatientDifference] = ()) -> None:
        super().__init__(message)
        self.differences = tuple(differences)


class NoPatientID(NoDisc):
    """Say that objects have no Patient ID, so that nobody can say whose they are; HTTP 409.

    `examples` are files of them, for the person who gave them and never for a log line.
    """

    kind = "no patient id"

    def __init__(self, message: str, examples: Sequence[Path] = ()) -> None:
        super().__init__(message)
        self.examples = tuple(examples)


class NothingForDisc(NoDisc):
    """Say that nothing is left that could be on a disc."""

    kind = "nothing for the disc"


class TooLarge(NoDisc):
    """Say that the disc would be larger than its medium; HTTP 409."""

    kind = "too large"

    def __init__(self, message: str, *, needed_bytes: int, capacity_bytes: int) -> None:
        super().__init__(message)
        self.needed_bytes, self.capacity_bytes = needed_bytes, capacity_bytes


class NameInUse(NoDisc):
    """Say that something has the name the disc was to get; it stays as it is."""

    kind = "name in use"


class UnfitPassPhrase(NoDisc):
    """Say what a pass phrase must be."""

    kind = "unfit pass phrase"


class UnfitViewer(Configuration):
    """Say why the site's viewer folder cannot be put on a disc."""


class NoPlace(Configuration):
    """Say why nothing can be made in the place the disc is to be."""


class NoSpace(Transient):
    """Say that there is not enough room to make the disc; nothing has been written."""


class NotAsWritten(Transient):
    """Say that the finished image, read back, is not what went in; it has been deleted."""
