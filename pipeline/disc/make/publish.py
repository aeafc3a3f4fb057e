"""Give a finished image and its `.json` their names in a folder others take discs from; never over anything."""

import contextlib
import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from pipeline.spool.spool import flush_path, write_durably
from pipeline.spool.store_file import give_name
from pipeline.waypoints import reached

SUFFIX, RESULT = ".iso", ".json"
_MODE = 0o640  # of whatever is offered: a patient's images, and their list


def offer(image: Path, folder: Path, stem: str, result: Callable[[str], dict[str, Any]]) -> str:
    """Let `image` appear in `folder` as `stem`.iso, or `stem`-2.iso where that name is in use; return the name.

    `result(name)` is called before anything appears under that name, and returns what stands in the `.json`,
    which appears first: whoever finds an image finds its result, too.
    """
    for number in count(1):
        plain = stem if number == 1 else f"{stem}-{number}"
        if (folder / f"{plain}{SUFFIX}").exists() or (folder / f"{plain}{RESULT}").exists():
            continue
        table = result(f"{plain}{SUFFIX}")
        if _appears(image, folder, plain, table):
            return f"{plain}{SUFFIX}"
    raise AssertionError


def take_back(folder: Path, name: str, sha256: str) -> None:
    """Remove a `.json` that a crash has left alone, before its image could appear."""
    result = (folder / name).with_suffix(RESULT)
    with contextlib.suppress(OSError, ValueError):
        if not (folder / name).exists() and json.loads(result.read_bytes())["sha256"] == sha256:
            result.unlink()


def _appears(image: Path, folder: Path, stem: str, table: dict[str, Any]) -> bool:
    beside = image.with_suffix(".result")
    write_durably(beside, json.dumps(table, indent=1).encode())
    for file in (beside, image):
        with contextlib.suppress(OSError):  # not every share knows modes
            file.chmod(_MODE)
    try:
        if not give_name(beside, folder / f"{stem}{RESULT}"):
            return False
    finally:
        beside.unlink(missing_ok=True)
    reached("disc-result")
    if not give_name(image, folder / f"{stem}{SUFFIX}"):
        (folder / f"{stem}{RESULT}").unlink(missing_ok=True)
        return False
    flush_path(folder)
    return True
