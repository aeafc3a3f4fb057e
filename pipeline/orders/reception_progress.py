"""Count what a receiver is receiving of one study: for progress and time-outs, never as proof.

Files are counted by folder, and all new files in a folder count for the study of its newest readable file, so that
each look reads little, however large the study is. Instances from senders other than the PACS do not count, as far
as the sender is known during reception.
"""

import contextlib
import math
import os
from collections import Counter
from itertools import islice
from pathlib import Path

import psutil

from pipeline.dicom.reading import values_of
from pipeline.line.senders import Sender, Senders
from pipeline.spool.envelope import envelope_of

OF_AN_ASSOCIATION = "A_"
WRITING = ".G_"  # Prefix of a getscu's folder, which hides it from the sweep.
END_SECONDS = 5.0
STUDY_INSTANCE_UID = 0x0020000D
TRIES = 3  # Files that are read: the newest may not yet be written as far as its Study Instance UID.


class ReceptionProgress:
    """Count the files of a study that have come into a receiver's incoming folder since this object was made."""

    def __init__(self, folder: Path, study: str, senders: Senders) -> None:
        self._folder = folder
        self._study = study
        self._senders = senders
        self._seen = {subfolder: len(_files(subfolder)) for subfolder in _folders(folder, senders)}
        self._count = 0

    def look(self) -> int:
        """Return the number of new files of the study so far."""
        for subfolder in _folders(self._folder, self._senders):
            files = _files(subfolder)
            new = len(files) - self._seen.get(subfolder, 0)
            if new > 0 and (study := _study_of_newest(files)):
                self._seen[subfolder] = len(files)
                self._count += new if study == self._study else 0
        return self._count


def coming_in(folder: Path, senders: Senders) -> Counter[str]:
    """Count the files in a receiver's incoming folder that are not admitted yet, by Study Instance UID."""
    found: Counter[str] = Counter()
    for subfolder in _folders(folder, senders):
        files = _files(subfolder)
        if study := _study_of_newest(files):
            found[study] += len(files)
    return found


def holds(folder: Path, study: str, senders: Senders) -> bool:
    """Tell whether a receiver's incoming folder holds instances of a study that are not admitted yet."""
    return study in coming_in(folder, senders)


def end_silent(incoming: Path, study: str, senders: Senders, before: float) -> None:
    """End the associations that carry a study and have brought no instance since `before`, in seconds since 1970.

    The instances they brought are then admitted, as at any end of an association. In study mode no association is
    ended, because only storescp knows them.
    """
    for folder in _folders(incoming, senders):
        files = _files(folder) if folder.name.startswith(OF_AN_ASSOCIATION) else []
        if _study_of_newest(files) == study and _moment_of(folder) < before:
            end_writers(folder)


def end_writers(folder: Path) -> None:
    """End the programs that receive into a folder: those with its path as an argument."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(folder) in process.cmdline():
                process.terminate()
                process.wait(END_SECONDS)


def _moment_of(folder: Path) -> float:
    """Return when the last file came into a folder, in seconds since the epoch; infinity if the folder is gone."""
    try:
        with os.scandir(folder) as entries:
            return max((entry.stat().st_mtime for entry in entries), default=0.0)
    except FileNotFoundError:
        return math.inf


def _folders(incoming: Path, senders: Senders) -> list[Path]:
    if not incoming.is_dir():
        return []
    folders = [
        folder
        for folder in incoming.iterdir()
        if folder.name.startswith(WRITING) or not folder.name.startswith(".")
    ]
    return [folder for folder in folders if folder.is_dir() and _may_count(folder, senders)]


def _may_count(folder: Path, senders: Senders) -> bool:
    """Tell whether the PACS may be sending into a folder; in study mode several peers send into one folder."""
    envelope = envelope_of(folder)
    if envelope is None or envelope.retrieval is not None:
        return True
    return senders.include(Sender(envelope.calling_ae_title, envelope.peer))


def _files(folder: Path) -> list[Path]:
    """Return the received files of a folder, the newest first; none once it has been admitted."""
    try:
        with os.scandir(folder) as entries:
            found = [(entry.stat().st_mtime_ns, entry.path) for entry in entries if not entry.name.startswith(".")]
    except FileNotFoundError:
        return []
    return [Path(path) for _, path in sorted(found, reverse=True)]


def _study_of_newest(files: list[Path]) -> str:
    return next(filter(None, map(_study_of, islice(files, TRIES))), "")


def _study_of(file: Path) -> str:
    """Return the Study Instance UID of a file that may still be being written, "" if it has none yet."""
    try:
        return values_of(file, [STUDY_INSTANCE_UID]).get(STUDY_INSTANCE_UID, b"").decode("latin-1").strip(" \0")
    except OSError:  # The file was renamed meanwhile.
        return ""
