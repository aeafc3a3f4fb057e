"""Find out which studies arrivals hold before they are identified, from the beginning of each file.

For each key the first received instance wins, so arrivals of one study are identified in the order of admission.
An arrival waits for a slower one only if both hold the same study.
"""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from stat import S_ISREG

from pipeline.dicom.reading import values_of
from pipeline.site.site import Site

STUDY_INSTANCE_UID = 0x0020000D


class UnreadArrivals:
    """The studies of arrivals that are not identified yet."""

    def __init__(self) -> None:
        self._studies: dict[str, frozenset[str]] = {}

    def look(self, name: str, site: Site) -> None:
        """Read the Study Instance UIDs of an arrival's files.

        An unreadable file counts for no study, and no other arrival waits for it.
        """
        self._studies[name] = studies_in(site.spool.arrivals / name)

    def keep(self, names: Collection[str]) -> None:
        """Forget all arrivals except those in `names`."""
        self._studies = {name: studies for name, studies in self._studies.items() if name in names}

    def studies_of(self, name: str) -> frozenset[str] | None:
        """Return the studies of an arrival, None if `look` has not read it yet."""
        return self._studies.get(name)

    def in_order(self, names: Collection[str], unusable: Collection[str]) -> Iterator[str]:
        """Yield the arrivals that may be identified now, in the order of admission.

        An `unusable` arrival, whose last attempt has failed, does not delay others.
        """
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
    """Return the Study Instance UIDs of the files in a folder, from the beginning of each file."""
    try:
        with os.scandir(folder) as entries:
            files = [Path(entry.path) for entry in entries if _is_received(entry)]
        return frozenset(filter(None, map(_study_of, files)))
    except FileNotFoundError:  # A person, or a starting worker, has moved the folder.
        return frozenset()


def _is_received(entry: "os.DirEntry[str]") -> bool:
    return not entry.name.startswith(".") and S_ISREG(entry.stat(follow_symlinks=False).st_mode)


def _study_of(file: Path) -> str:
    try:
        return values_of(file, [STUDY_INSTANCE_UID]).get(STUDY_INSTANCE_UID, b"").decode("latin-1").strip(" \0")
    except (OSError, ValueError):  # ValueError: the file cannot be mapped.
        return ""
