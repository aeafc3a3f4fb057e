"""The names a viewer's files may have: those that are on the disc what they are in the folder, by either name.

A disc has two trees of names: ISO 9660 level 1, of 8 and 3 capital letters, and Joliet, by which Windows reads.
xorriso makes the first of the second. Where two names become one it changes both, DICOMDIR too.
"""

import re
from collections.abc import Iterable

from pipeline.disc.errors import UnfitViewer
from pipeline.disc.formats.iso9660 import SHORT_NAME
from pipeline.events import escaped

MOST_LEVELS = 8  # directory levels, PS3.12 F
LONGEST_NAME = 64  # characters in Joliet
LONGEST_PATH = 240  # bytes in Joliet, of UCS-2 names and of one separator before each and one in front
_UNFIT = re.compile(r'[*/:;?\\"<>|\ud800-\udfff]|[^\u0000-\uffff]')  # not in Joliet, or not in Windows

Place = tuple[str, ...]


def short_form(name: str) -> str:
    """Return what level 1 makes of a name that has it for itself: 8 letters, 3 behind the last dot."""
    stem, _, suffix = name.rstrip(". ").rpartition(".")
    stem, suffix = (stem, suffix) if stem else (name.rstrip(". "), "")
    short, behind = (re.sub(r"[^A-Z0-9_]", "_", re.sub("[a-z]+", _upper, part)) for part in (stem, suffix))
    return f"{short[:8]}.{behind[:3]}" if behind else short[:8]


def check_names(places: Iterable[Place], taken: Iterable[str]) -> None:
    """Raise UnfitViewer, naming the file and the remedy, unless every place can be on a disc beside `taken`.

    `taken` are the names in the root which are the disc's own, or are to be no viewer's.
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


_RENAME = "rename it"
_RENAME_OR_MOVE = 'rename it, or let the viewer be in a folder of its own (viewer_at = "VIEWER")'


def _check_path(place: Place) -> None:
    if len(place) > MOST_LEVELS:
        _refuse(place, f"lies more than {MOST_LEVELS} levels deep on the disc", "move it up")
    if 1 + sum(2 * len(name) + 1 for name in place) > LONGEST_PATH:
        _refuse(place, "has too long a path for Windows to read it from a disc", "shorten it")


def _check_name(place: Place, name: str) -> None:
    if _UNFIT.search(name) or not name.isprintable():
        _refuse(place, "has a character in its name that cannot be on a disc")
    if len(name) > LONGEST_NAME:
        _refuse(place, f"has a name of more than {LONGEST_NAME} characters", "shorten it")
    if name != name.rstrip(". "):
        _refuse(place, "has a name that ends with a dot or a blank, which Windows does not see")


def _refuse(place: Place, fault: str, remedy: str = _RENAME) -> None:
    raise UnfitViewer(f"viewer file {_shown(place)} {fault}: {remedy}")


def _shown(place: Place) -> str:
    return escaped("/".join(place), 300)


def _upper(found: re.Match[str]) -> str:
    return found[0].upper()
