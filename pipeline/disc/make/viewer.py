"""The site's own viewer, from a folder it is licensed to distribute; this program includes no viewer."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.disc.errors import UnfitViewer
from pipeline.disc.formats.sniff_dicom import HEAD, what_dicom
from pipeline.disc.make.viewer_names import check_names
from pipeline.events import escaped

RESERVED = ("DICOMDIR", "DICOM", "IHE_PDI", "README.TXT", "INDEX.HTM", "SHA256.TXT")
AUTORUN = "AUTORUN.INF"  # Important systems block programs that start by themselves, and others mistrust them.
_MOST_AUTORUN = 64 << 10  # Bytes.
_MOST_FOLDERS = 64  # Nested folders; a disc has far fewer.


@dataclass(frozen=True, slots=True)
class ViewerFile:
    """A file of the viewer and its place on the disc."""

    path: Path
    place: tuple[str, ...]
    size: int


def viewer_files(
    folder: Path, at: Literal["VIEWER", "root"], *, with_autorun: bool = False
) -> tuple[ViewerFile, ...]:
    """Return every file of the viewer with its place on the disc; AUTORUN.INF only with `with_autorun`.

    Raises UnfitViewer, which names the file and the remedy, if a file cannot be read, cannot be on a disc under
    its name in either tree of names, is a DICOM file, or if a link leads out of the folder.
    """
    prefix: tuple[str, ...] = ("VIEWER",) if at == "VIEWER" else ()
    try:
        root = folder.resolve(strict=True)
        files = tuple(_below(root, root, prefix, with_autorun=with_autorun))
    except OSError as error:
        at_fault = escaped(error.filename or folder)
        raise UnfitViewer(f"viewer folder {folder}: {at_fault}: {error.strerror}: mend or remove it") from error
    if not files:
        raise UnfitViewer(f"viewer folder {folder} holds no file")
    reserved = RESERVED if with_autorun else (*RESERVED, AUTORUN)
    check_names((file.place for file in files), reserved if at == "root" else ())
    return files


def autorun_of(folder: Path) -> list[str]:
    """Return the settings in AUTORUN.INF in the root of a viewer's folder, line by line; empty without one.

    Raises OSError if it cannot be read.
    """
    file = next((one for one in folder.iterdir() if one.name.upper() == AUTORUN and one.is_file()), None)
    if file is None:
        return []
    with file.open("rb") as opened:
        text = opened.read(_MOST_AUTORUN).decode("latin-1")
    return [line for line in map(str.strip, text.splitlines()) if "=" in line and not line.startswith(";")]


def _below(folder: Path, root: Path, prefix: tuple[str, ...], *, with_autorun: bool) -> Iterator[ViewerFile]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False) and len(prefix) < _MOST_FOLDERS:
            yield from _below(path, root, (*prefix, entry.name), with_autorun=with_autorun)
        elif with_autorun or entry.name.upper() != AUTORUN:
            yield _file(path, root, (*prefix, entry.name))


def _file(path: Path, root: Path, place: tuple[str, ...]) -> ViewerFile:
    """Return the file; only regular files are opened, because opening a pipe would wait."""
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: the link leads to itself.
        raise _unfit(path, "is a link that leads nowhere, or where nobody may look: mend or remove it") from error
    if not real.is_relative_to(root):
        raise _unfit(path, "is a link that leads out of the folder: put the file itself there")
    status = real.stat()
    if stat.S_ISDIR(status.st_mode):
        raise _unfit(path, "is a link to a folder, or lies too deep: put the folder itself there")
    if not stat.S_ISREG(status.st_mode):
        raise _unfit(path, "is no file, but a pipe, a socket or a device: remove it")
    if status.st_size >= 1 << 32:
        raise _unfit(path, "is 4 GiB or larger: remove it")
    with real.open("rb") as file:
        found = what_dicom(file.read(HEAD))
    if found:  # It may be another patient's, and viewers show every object on a disc.
        raise _unfit(path, f"is {found}: remove it")
    return ViewerFile(real, place, status.st_size)


def _unfit(path: Path, fault: str) -> UnfitViewer:
    return UnfitViewer(f"viewer file {escaped(path)} {fault}")
