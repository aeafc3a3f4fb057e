"""Which studies untaken arrivals hold, by a glance at the beginning of each file.

An arrival therefore waits for a slower one only if both hold the same study: for each key the first received wins,
and arrivals of one study are taken in in the order admitted.
"""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from stat import S_ISREG

from pipeline.dicom.reading import values_of
from pipeline.site.site import Site

STUDY_INSTANCE_UID = 0x0020000D


class UnreadArrivals:
    """The studies seen at a glance in arrivals that are not taken in yet."""

    def __init__(self) -> None:
        self._studies: dict[str, frozenset[str]] = {}

    def look(self, name: str, site: Site) -> None:
        """Glance at the files of an arrival.

        An unreadable file counts as of no study, and nothing waits for it.
        """
        self._studies[name] = studies_in(site.spool.arrivals / name)

    def keep(self, names: Collection[str]) -> None:
        """Forget all other arrivals."""
        self._studies = {name: studies for name, studies in self._studies.items() if name in names}

    def studies_of(self, name: str) -> frozenset[str] | None:
        """Return the studies of an arrival, None if it was not looked at."""
        return self._studies.get(name)

    def in_order(self, names: Collection[str], unusable: Collection[str]) -> Iterator[str]:
        """Yield the arrivals that may be taken in now; `unusable` ones are skipped, and delay no others."""
        before: set[str] = set()
        for name in sorted(names):
            studies = self._studies.get(name)
            if studies is None and name not in unusable:
                return
            if before.isdisjoint(studies or ()):
                yield name
            if name not in unusable:
                before |= studies or frozenset()


def studies_in(folder: Path) -> frozenset[str]:
    """Return the Study Instance UIDs that the files of a folder begin with."""
    try:
        with os.scandir(folder) as entries:
            files = [Path(entry.path) for entry in entries if _is_received(entry)]
        return frozenset(filter(None, map(_study_of, files)))
    except FileNotFoundError:  # A person, or a start of the worker, has moved it.
        return frozenset()


def _is_received(entry: "os.DirEntry[str]") -> bool:
    return not entry.name.startswith(".") and S_ISREG(entry.stat(follow_symlinks=False).st_mode)


def _study_of(file: Path) -> str:
    try:
        return values_of(file, [STUDY_INSTANCE_UID]).get(STUDY_INSTANCE_UID, b"").decode("latin-1").strip(" \0")
    except (OSError, ValueError):  # ValueError: the file cannot be mapped.
        return ""
