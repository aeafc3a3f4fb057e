"""Check the names of a viewer's files: on the disc each must keep its name in both trees.

A disc has two trees of names: ISO 9660 level 1, with 8 and 3 capital letters, and Joliet, which Windows reads.
xorriso derives the first from the second; if two names become equal it changes both, even DICOMDIR.
"""

import re
from collections.abc import Iterable

from pipeline.disc.errors import UnfitViewer
from pipeline.disc.formats.iso9660 import SHORT_NAME
from pipeline.events import escaped

MOST_LEVELS = 8  # Directory levels, PS3.12 F.
LONGEST_NAME = 64  # Characters in Joliet.
LONGEST_PATH = 240  # Bytes in Joliet: UCS-2 names, one separator before each and one in front.
# Characters that Joliet or Windows does not allow.
_UNFIT = re.compile(r'[*/:;?\\"<>|\ud800-\udfff]|[^\u0000-\uffff]')

Place = tuple[str, ...]


def short_form(name: str) -> str:
    """Return the level 1 form of a name without conflict: 8 letters, and 3 after the last dot."""
    stem, _, suffix = name.rstrip(". ").rpartition(".")
    stem, suffix = (stem, suffix) if stem else (name.rstrip(". "), "")
    short, behind = (re.sub(r"[^A-Z0-9_]", "_", re.sub("[a-z]+", _upper, part)) for part in (stem, suffix))
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
