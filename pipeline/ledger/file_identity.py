"""Which file stands where the ledger should: a damaged one is set aside by the worker, and another begun."""

from pathlib import Path

from pipeline.errors import Transient

FileIdentity = tuple[int, int]  # device and inode


def file_at(path: Path) -> FileIdentity | None:
    """Return which file `path` is, None where there is none; raises Transient where that cannot be told now."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Transient(f"{path}: {error.strerror}") from error
    return about.st_dev, about.st_ino
