"""Give a finished image and its `.json` their names in a folder that others read; never replace a file."""

import contextlib
import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from pipeline.spool.durable import flush_path, unlink, write_durably
from pipeline.spool.store_file import give_name

SUFFIX, RESULT = ".iso", ".json"
_MODE = 0o640  # The mode of published files, which hold a patient's images, or their list.


def offer(image: Path, folder: Path, stem: str, result: Callable[[str], dict[str, Any]]) -> str:
    """Publish `image` in `folder` as `stem`.iso, or `stem`-2.iso if that name is in use; return the name.

    `result(name)` is called before any file appears under that name, and returns the content of the `.json`, which
    appears first: a reader that finds an image finds its result, too.
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
    """Remove a `.json` that a crash has left without its image."""
    result = (folder / name).with_suffix(RESULT)
    with contextlib.suppress(OSError, ValueError):
        if not (folder / name).exists() and json.loads(result.read_bytes())["sha256"] == sha256:
            unlink(result)


def _appears(image: Path, folder: Path, stem: str, table: dict[str, Any]) -> bool:
    beside = image.with_suffix(".result")
    write_durably(beside, json.dumps(table, indent=1).encode())
    for file in (beside, image):
        with contextlib.suppress(OSError):  # Not every share supports modes.
            file.chmod(_MODE)
    try:
        if not give_name(beside, folder / f"{stem}{RESULT}"):
            return False
    finally:
        unlink(beside, missing_ok=True)
    if not give_name(image, folder / f"{stem}{SUFFIX}"):
        unlink(folder / f"{stem}{RESULT}", missing_ok=True)
        return False
    flush_path(folder)
    return True
