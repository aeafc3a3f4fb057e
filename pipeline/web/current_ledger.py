"""The current ledger in the spool: the worker sets a damaged one aside and begins another."""

import threading
from pathlib import Path

from pipeline.errors import Configuration, Transient
from pipeline.ledger import Ledger
from pipeline.ledger.file_identity import FileIdentity, file_at


class CurrentLedger:
    """One open ledger for all threads; a thread that uses an earlier one may finish there."""

    def __init__(self) -> None:
        self._door = threading.Lock()
        self._ledger: Ledger | None = None
        self._file: FileIdentity | None = None

    def at(self, path: Path) -> Ledger:
        """Return the open ledger, opened anew if `path` is another file by now.

        Raises Transient if there is none, or none that the worker has made.
        """
        with self._door:
            # The file is identified before it is opened: if it is replaced meanwhile, it is opened once more.
            file = file_at(path)
            if self._ledger is not None and file != self._file:
                self._ledger.close()
                self._ledger = None
            if file is None:
                raise Transient(f"{path} does not exist yet; start the worker")
            if self._ledger is None:
                self._ledger, self._file = _opened(path), file
            return self._ledger


def _opened(path: Path) -> Ledger:
    ledger = Ledger(path)
    try:
        ledger.require_tables()
    except (Configuration, Transient) as error:
        ledger.close()
        raise Transient(str(error)) from error
    return ledger
