"""`storestow backup`: copy the ledger, as last committed, while everything runs."""

from pathlib import Path

from pipeline.errors import Configuration, Usage
from pipeline.ledger import Ledger
from pipeline.spool.durable import flush_path, unlink


def backup(ledger: Ledger, target: Path) -> int:
    """Copy the ledger to the new file `target`, readable by its owner alone, and return its size in bytes.

    Raises Usage if `target` exists, Configuration if it cannot be written there, Transient if the disk is full.
    """
    try:
        target.touch(mode=0o600, exist_ok=False)
    except FileExistsError as error:
        raise Usage(f"{target} exists and is not overwritten; name another file") from error
    except OSError as error:
        raise Configuration(f"{target}: cannot be written: {error.strerror}") from error
    try:
        ledger.copy(target)
        flush_path(target)
    except BaseException:
        unlink(target, missing_ok=True)
        raise
    flush_path(target.parent)
    return target.stat().st_size
