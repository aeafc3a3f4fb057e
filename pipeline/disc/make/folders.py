"""Find the files of a disc from the paths a person names: every file, and all below every folder, or an error.

Only rubbish of file managers and hidden folders of this program are skipped silently.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import Usage
from pipeline.events import escaped

_RUBBISH = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
_OUR_OWN = (".storestow", ".storestow-disc-")  # The first is a whole name, the second a prefix.
_APPLE_DOUBLE, _APPLE_DOUBLE_MAGIC = "._", b"\x00\x05\x16\x07"  # macOS writes it beside files on foreign media.
_MOST_SAID = 5

_Identity = tuple[int, int]  # Device and inode.


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Return every named file, and every file below the named folders, in order of name.

    Linked folders are entered once each. Raises Usage, which names the first obstacles and the remedy, if a folder
    or file cannot be read, a link leads nowhere or to a parent folder, or an entry is no file.
    """
    found = _Found()
    for path in paths:
        if not os.path.lexists(path):
            raise Usage(f"{_shown(path)} does not exist")
        found.files += _at(path, found, _above(path), is_named=True)
    if found.in_the_way:
        more = len(found.in_the_way) - _MOST_SAID
        said = "; ".join(found.in_the_way[:_MOST_SAID]) + (f"; and {more} more" if more > 0 else "")
        raise Usage(f"no disc was made: {said}. Mend or remove it, or name the files and folders that are meant")
    return found.files


@dataclass(slots=True)
class _Found:
    files: list[Path] = field(default_factory=list)
    folders: set[_Identity] = field(default_factory=set)
    in_the_way: list[str] = field(default_factory=list)


def _at(path: Path, found: _Found, above: frozenset[_Identity], *, is_named: bool = False) -> Iterator[Path]:
    """Yield the path itself, or every file below it."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            yield from _below(path, (status.st_dev, status.st_ino), found, above, is_named=is_named)
        elif not stat.S_ISREG(status.st_mode):
            found.in_the_way.append(f"{_shown(path)} is no file, but a pipe, a socket or a device")
        else:
            with path.open("rb") as file:
                begin = file.read(4) if path.name.startswith(_APPLE_DOUBLE) else b""
            if is_named or begin != _APPLE_DOUBLE_MAGIC:
                yield path
    except OSError as error:
        why = "leads nowhere" if path.is_symlink() and not path.exists() else f"cannot be read: {error.strerror}"
        found.in_the_way.append(f"{_shown(path)} {why}")


def _below(
    folder: Path, identity: _Identity, found: _Found, above: frozenset[_Identity], *, is_named: bool
) -> Iterator[Path]:
    if identity in above:
        found.in_the_way.append(f"{_shown(folder)} leads to a folder above the one that was named")
        return
    if identity in found.folders and not is_named:  # A link to a folder that has been entered, or a circle.
        return
    found.folders.add(identity)
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        if not _is_passed_over(folder / name):
            yield from _at(folder / name, found, above)


def _is_passed_over(path: Path) -> bool:
    """Tell whether a name in a folder is rubbish, or a hidden folder of this program."""
    if path.name == _OUR_OWN[0] or path.name.startswith(_OUR_OWN[1]):
        return path.is_dir() and not path.is_symlink()
    return path.name.lower() in _RUBBISH


def _above(path: Path) -> frozenset[_Identity]:
    """Return the parent folders: a link to one would put files on the disc that nobody named."""
    try:
        return frozenset(
            (status.st_dev, status.st_ino) for status in (above.stat() for above in path.resolve().parents)
        )
    except OSError:
        return frozenset()


def _shown(path: Path) -> str:
    return escaped(str(path), 300)
