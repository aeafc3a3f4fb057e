"""The site's own viewer, from a folder it is licensed to hand out; none is ever shipped with this program."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.media.errors import UnfitViewer

RESERVED = frozenset({"DICOMDIR", "DICOM", "IHE_PDI", "README.TXT", "INDEX.HTM", "SHA256.TXT"})
AUTORUN = "AUTORUN.INF"  # programs that start by themselves are blocked where it matters, and mistrusted elsewhere
MOST_LEVELS = 8  # directory levels, PS3.12 F
LONGEST_NAME = 64  # characters in Joliet, by which Windows reads


@dataclass(frozen=True, slots=True)
class ViewerFile:
    """A file of the viewer and its place on the disc."""

    path: Path
    place: tuple[str, ...]
    size: int


def viewer_files(folder: Path, at: Literal["VIEWER", "root"]) -> tuple[ViewerFile, ...]:
    """Return every file of the viewer with its place on the disc; AUTORUN.INF is left out.

    Raises UnfitViewer where a file cannot be read, or cannot be on a disc under its name.
    """
    prefix: tuple[str, ...] = ("VIEWER",) if at == "VIEWER" else ()
    files = tuple(_below(folder, folder, prefix))
    if not files:
        raise UnfitViewer(f"viewer folder {folder} holds no file")
    seen: dict[tuple[str, ...], Path] = {}
    for file in files:
        _check(file, folder)
        same = seen.setdefault(tuple(name.upper() for name in file.place), file.path)
        if same != file.path:
            raise UnfitViewer(
                f"viewer files {same} and {file.path} differ in case only, which Windows does not see"
            )
    return files


def _below(folder: Path, root: Path, prefix: tuple[str, ...]) -> Iterator[ViewerFile]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _below(Path(entry.path), root, (*prefix, entry.name))
            elif entry.name.upper() != AUTORUN:
                path = Path(entry.path)
                with path.open("rb"):
                    yield ViewerFile(path.resolve(), (*prefix, entry.name), path.stat().st_size)
    except OSError as error:
        raise UnfitViewer(f"viewer folder {root}: {error.filename or folder}: {error.strerror}") from error


def _check(file: ViewerFile, folder: Path) -> None:
    shown = file.path.name
    if file.place[0].upper() in RESERVED:
        raise UnfitViewer(f"viewer folder {folder} holds {file.place[0]}, a name the disc needs for itself")
    if len(file.place) > MOST_LEVELS:
        raise UnfitViewer(f"viewer file {shown} lies more than {MOST_LEVELS} levels deep on the disc")
    if any(len(name) > LONGEST_NAME or not name.isprintable() for name in file.place):
        raise UnfitViewer(f"viewer file {shown}: a name has more than {LONGEST_NAME} characters, or odd ones")
    if file.size >= 1 << 32:
        raise UnfitViewer(f"viewer file {shown} is 4 GiB or larger")
