"""How long a folder of discs remembers: the images of a study a week, what was on them a year."""

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from pipeline.disc.late.remembered import table_in
from pipeline.spool.spool import write_durably

KEEP_IMAGES = timedelta(days=7)
KEEP_RECORDS = timedelta(days=366)


def let_go(hidden: Path, own: Path, now: datetime) -> None:
    """Remove what was kept long enough, of the study with the record `own` and of those nobody works at."""
    for path in hidden.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another study's, which its own delivery has removed
            if not _is_due(path, now):
                continue
            with _alone(path, own) as is_alone:
                if is_alone and _is_due(path, now):
                    _remove(path)


def _is_due(path: Path, now: datetime) -> bool:
    """Tell whether the file is one that goes by age, and old enough."""
    age = now.timestamp() - path.stat().st_mtime
    if path.suffix in {".image", ".images"}:
        return age > KEEP_IMAGES.total_seconds()
    return path.suffix in {".json", ".lock"} and age > KEEP_RECORDS.total_seconds()


@contextlib.contextmanager
def _alone(path: Path, own: Path) -> Iterator[bool]:
    """Keep others from the study of `path` for the block; False where somebody is at work there.

    What is read here and written back must not undo what a delivery of that study has written meanwhile.
    """
    if path.with_suffix(own.suffix) == own:  # which the caller has locked
        yield True
        return
    with path.with_suffix(".lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _remove(path: Path) -> None:
    if path.suffix in {".image", ".images"}:
        _shorten(path.with_suffix(".json"))
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink()


def _shorten(record: Path) -> None:
    """Forget what was on an image that goes; its name remains, so that nobody takes a part for the whole."""
    with contextlib.suppress(FileNotFoundError, ValueError):  # what cannot be read remains for a person to look at
        short = {"instances": [], "left_out": [], "refused": [], "is_forgotten": True}
        write_durably(record, json.dumps(table_in(record) | short).encode())
