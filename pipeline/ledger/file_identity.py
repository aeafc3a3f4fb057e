"""Identify the file of the ledger: the worker sets a damaged one aside and begins another."""

from pathlib import Path

from pipeline.errors import Transient

FileIdentity = tuple[int, int]  # Device and inode.


def file_at(path: Path) -> FileIdentity | None:
    """Return which file `path` is, None if there is none; raises Transient if that cannot be told now."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Transient(f"{path}: {error.strerror}") from error
    return about.st_dev, about.st_ino
