"""The site's own viewer, from a folder it is licensed to distribute; this program includes no viewer.

None of its files may be a DICOM object, and on the disc each must keep its name in both trees of names.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import unpack_from
from typing import Literal

from pipeline.dicom.part10 import LONG_VRS, SHORT_VRS, UNDEFINED
from pipeline.dicom.reading import DIRECTORY_STORAGE
from pipeline.disc.errors import UnfitViewer
from pipeline.disc.formats.iso9660 import SHORT_NAME
from pipeline.events import escaped

RESERVED = ("DICOMDIR", "DICOM", "IHE_PDI", "README.TXT", "INDEX.HTM", "SHA256.TXT")
AUTORUN = "AUTORUN.INF"  # Important systems block programs that start by themselves, and others mistrust them.
_MOST_AUTORUN = 64 << 10  # Bytes.
_MOST_FOLDERS = 64  # Nested folders; a disc has far fewer.

HEAD = 4096  # Bytes of a file that are read, to see whether it is a DICOM object.
_MEDIA_CLASS = 0x00020002
_TELLING = {_MEDIA_CLASS, 0x00020003, 0x00080016, 0x00080018}  # SOP Class and SOP Instance UIDs.
_GROUPS = {0x0002, 0x0008}  # No other group precedes these elements.
_ITEM = b"\xfe\xff\x00\xe0"
_UID = re.compile(rb"[0-9]+(\.[0-9]+)+[ \0]?")

MOST_LEVELS = 8  # Directory levels, PS3.12 F.
LONGEST_NAME = 64  # Characters in Joliet.
LONGEST_PATH = 240  # Bytes in Joliet: UCS-2 names, one separator before each and one in front.
# Characters that Joliet or Windows does not allow.
_UNFIT_CHARACTER = re.compile(r'[*/:;?\\"<>|\ud800-\udfff]|[^\u0000-\uffff]')
_RENAME = "rename it"
_RENAME_OR_MOVE = 'rename it, or let the viewer be in a folder of its own (viewer_at = "VIEWER")'

Place = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ViewerFile:
    """A file of the viewer and its place on the disc."""

    path: Path
    place: Place
    size: int


def viewer_files(
    folder: Path, at: Literal["VIEWER", "root"], *, with_autorun: bool = False
) -> tuple[ViewerFile, ...]:
    """Return every file of the viewer with its place on the disc; AUTORUN.INF only with `with_autorun`.

    Raises UnfitViewer, which names the file and the remedy, if a file cannot be read, cannot be on a disc under
    its name in either tree of names, is a DICOM file, or if a link leads out of the folder.
    """
    prefix: Place = ("VIEWER",) if at == "VIEWER" else ()
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
    """Return the lines of settings in AUTORUN.INF in the root of a viewer's folder; empty without that file.

    Raises OSError if the file or folder cannot be read.
    """
    file = next((path for path in folder.iterdir() if path.name.upper() == AUTORUN and path.is_file()), None)
    if file is None:
        return []
    with file.open("rb") as opened:
        text = opened.read(_MOST_AUTORUN).decode("latin-1")
    return [line for line in map(str.strip, text.splitlines()) if "=" in line and not line.startswith(";")]


def _below(folder: Path, root: Path, prefix: Place, *, with_autorun: bool) -> Iterator[ViewerFile]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False) and len(prefix) < _MOST_FOLDERS:
            yield from _below(path, root, (*prefix, entry.name), with_autorun=with_autorun)
        elif with_autorun or entry.name.upper() != AUTORUN:
            yield _file(path, root, (*prefix, entry.name))


def _file(path: Path, root: Path, place: Place) -> ViewerFile:
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
    if found:  # The object may be another patient's, and viewers show every object on a disc.
        raise _unfit(path, f"is {found}: remove it")
    return ViewerFile(real, place, status.st_size)


def _unfit(path: Path, fault: str) -> UnfitViewer:
    return UnfitViewer(f"viewer file {escaped(path)} {fault}")


def what_dicom(head: bytes) -> str:
    """Return the kind of DICOM file that begins with `head`, in words; "" if it is not DICOM."""
    begins = 132 if head[128:132] == b"DICM" else 0
    tag, value = _first_telling(head, begins)
    if tag == _MEDIA_CLASS and value == DIRECTORY_STORAGE.encode():
        return "a DICOMDIR, the index of other objects"
    return "a DICOM object" if begins or tag else ""


def _first_telling(head: bytes, at: int) -> tuple[int, bytes]:
    """Return the first element that only an object has, with its value; 0 if there is none.

    Without preamble, other kinds of file begin alike: each length must lead to the next element, up to a UID.
    """
    while at + 8 <= len(head):
        group, number, vr, length = unpack_from("<HH2sH", head, at)
        tag, value = group << 16 | number, at + 8
        if group not in _GROUPS:
            break
        if vr in LONG_VRS:
            value = at + 12
            length = int.from_bytes(head[at + 8 : value], "little")
        elif vr not in SHORT_VRS:
            (length,) = unpack_from("<L", head, at + 4)
        if length == UNDEFINED and head[value : value + 4] == _ITEM:
            return tag, b""
        if tag in _TELLING and _UID.fullmatch(head[value : value + length]):
            return tag, head[value : value + length].rstrip(b" \0")
        at = value + length
    return 0, b""


def short_form(name: str) -> str:
    """Return the level 1 form of a name without conflict: 8 letters, and 3 after the last dot."""
    stem, _, suffix = name.rstrip(". ").rpartition(".")
    stem, suffix = (stem, suffix) if stem else (name.rstrip(". "), "")
    short, behind = (
        re.sub(r"[^A-Z0-9_]", "_", re.sub("[a-z]+", lambda found: found[0].upper(), part))
        for part in (stem, suffix)
    )
    return f"{short[:8]}.{behind[:3]}" if behind else short[:8]


def check_names(places: Iterable[Place], taken: Iterable[str]) -> None:
    """Raise UnfitViewer, which names file and remedy, unless every place can be on a disc beside `taken`.

    `taken` are names in the root that belong to the disc itself, or that no viewer may use.
    """
    own = {short_form(name): name for name in taken}
    siblings: dict[tuple[Place, str], str] = {}
    shorts: dict[tuple[Place, str], str] = {}
    for place in places:
        _check_path(place)
        if own_name := own.get(short_form(place[0])):
            _refuse(place, f"has or gets the name {own_name}, which the disc needs for itself", _RENAME_OR_MOVE)
        for depth, name in enumerate(place):
            folder = place[:depth]
            _check_name(place, name)
            if (same := siblings.setdefault((folder, name.upper()), name)) != name:
                _refuse(place, f"and {_shown((*folder, same))} differ in case only, which Windows does not see")
            other = shorts.setdefault((folder, short_form(name)), name)
            if other != name and (SHORT_NAME.fullmatch(name) or SHORT_NAME.fullmatch(other)):
                _refuse(place, f"and {_shown((*folder, other))} have the same short name, {short_form(name)}")


def _check_path(place: Place) -> None:
    if len(place) > MOST_LEVELS:
        _refuse(place, f"lies more than {MOST_LEVELS} levels deep on the disc", "move it up")
    if 1 + sum(2 * len(name) + 1 for name in place) > LONGEST_PATH:
        _refuse(place, "has too long a path for Windows to read it from a disc", "shorten it")


def _check_name(place: Place, name: str) -> None:
    if _UNFIT_CHARACTER.search(name) or not name.isprintable():
        _refuse(place, "has a character in its name that cannot be on a disc")
    if len(name) > LONGEST_NAME:
        _refuse(place, f"has a name of more than {LONGEST_NAME} characters", "shorten it")
    if name != name.rstrip(". "):
        _refuse(place, "has a name that ends with a dot or a blank, which Windows does not see")


def _refuse(place: Place, fault: str, remedy: str = _RENAME) -> None:
    raise UnfitViewer(f"viewer file {_shown(place)} {fault}: {remedy}")


def _shown(place: Place) -> str:
    return escaped("/".join(place), 300)
