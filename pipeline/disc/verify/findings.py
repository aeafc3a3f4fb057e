"""The faults of a disc, in sentences, and the counts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

_SHOWN = 3

Level = Literal["error", "note"]


@dataclass(frozen=True, slots=True)
class DiscFinding:
    """One fault: an error if images are not found or may be shown under a wrong name, otherwise a note."""

    level: Level
    text: str


@dataclass(slots=True)
class Inspection:
    """The result of checking a disc."""

    volume_id: str | None = None
    file_set_id: str | None = None
    objects: int = 0  # DICOM files on the disc.
    listed: int = 0  # Records of the DICOMDIR that name a file.
    patients: int = 0  # Distinct Patient IDs of the objects.
    checksums: int = 0  # Files that agree with the disc's own list.
    findings: list[DiscFinding] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Tell whether there is no error."""
        return not any(finding.level == "error" for finding in self.findings)

    def error(self, text: str) -> None:
        """Add an error."""
        self.findings.append(DiscFinding("error", text))

    def note(self, text: str) -> None:
        """Add a note."""
        self.findings.append(DiscFinding("note", text))


def counted(number: int, one: str, several: str) -> str:
    """Return a number with the singular or plural that fits: `1 file is`, `2 files are`."""
    return f"{number} {one if number == 1 else several}"


def some(paths: Sequence[str]) -> str:
    """Return the first few of many paths, and how many more there are."""
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(paths[:_SHOWN]) + more
