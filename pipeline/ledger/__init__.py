"""The ledger: what we know of every instance, in one SQLite file beside the rooms (design 5).

The rooms carry the one fact that must outlive it (where a folder stands); the ledger carries the rest.
Every change is one explicit transaction a stage and study. The tables are in `tables`, the statements of
each stage in `arrivals` and `deliveries`, what people ask in `reports`.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event, inspect, select
from sqlalchemy.exc import DatabaseError

from pipeline.errors import Configuration, Transient
from pipeline.ledger.tables import METADATA, SCHEMA, note
from pipeline.spool.spool import flush_path
from pipeline.waypoints import reached

FILE_NAME = "ledger.sqlite3"
BEGUN = (
    "ledger.begun"  # that there ever was a ledger: without one, arrivals alone may be older than the first start
)
REBUILT = "rebuilt_at"  # the note that an earlier ledger was lost, and when

# https://www.sqlite.org/rescode.html, primary codes
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_NOT_OURS = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
_NOT_NOW = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
    *_NOT_OURS,
}
_SCHEMA_NOTE = select(note.c.value).where(note.c.key == "schema")


class LedgerDamaged(Transient):
    """Say that the file is no sound ledger any more: end, because the next start sets it aside and rebuilds."""


class Ledger:
    """An open ledger; every method raises Transient where the disk is full, or cannot be read or written now."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 60})
        event.listen(self._engine, "connect", _prepare_connection)
        self._door = threading.Condition()
        self._inside = 0  # transactions under way
        self._mine = threading.local()  # how many of them are this thread's
        self._must_reopen = False

    def create(self, notes: Mapping[str, str] | None = None) -> bool:
        """Create the tables where they are missing; return whether they were, and with them take `notes`.

        Raises Configuration if a newer program made them.
        """
        old = os.umask(0o027)
        try:
            with self.transaction() as change:
                METADATA.create_all(change)
                written = change.scalar(_SCHEMA_NOTE)
                if written is None:
                    for key, value in {"schema": SCHEMA, **(notes or {})}.items():
                        change.execute(note.insert().values(key=key, value=value))
                reached("ledger-creating")
        finally:
            os.umask(old)
        self._require_ours(written or SCHEMA)
        return written is None

    def require_tables(self) -> None:
        """Raise Configuration unless the tables are there, and ours: only the worker makes them."""
        with self.reading() as look:
            is_begun = inspect(look).has_table(note.name)
            self._require_ours(look.scalar(_SCHEMA_NOTE) if is_begun else None)

    def _require_ours(self, written: str | None) -> None:
        if written is None:
            raise Configuration(f"{self.path} is empty; start the worker first: storestow up, or storestow work")
        if written != SCHEMA:
            raise Configuration(f"{self.path}: was written by another version (schema {written}, not {SCHEMA})")

    @contextmanager
    def transaction(self, *, flushed: bool = True) -> Iterator[Connection]:
        """Run one transaction that sees and changes a consistent state; an exception takes all of it back.

        What is not `flushed` outlives this process, and the machine only with the next transaction that is:
        for what happens hundreds of times a second.
        """
        with self._classified(), self._connected() as connection:
            connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if flushed else 'NORMAL'}")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Look at one consistent state without keeping anybody from writing."""
        with self._classified(), self._connected() as connection:
            connection.exec_driver_sql("BEGIN")
            yield connection

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """Lend a connection; what was opened while nothing could be written is closed before another is opened.

        SQLite's connections of one process share how the write-ahead log's index was opened, so that one that may
        only read makes every later one so: all must be closed at the same moment.
        """
        depth = getattr(self._mine, "depth", 0)
        with self._door:
            self._door.wait_for(lambda: depth or not (self._must_reopen and self._inside))
            if self._must_reopen and not self._inside:
                self._engine.dispose()
                self._must_reopen = False
            self._inside += 1
        self._mine.depth = depth + 1
        try:
            with self._engine.connect() as connection:
                yield connection
        finally:
            self._mine.depth = depth
            with self._door:
                self._inside -= 1
                self._door.notify_all()

    @contextmanager
    def _classified(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            if _code(error) in _CORRUPT:
                raise LedgerDamaged(f"{self.path}: {error.orig}; restart the worker to have it rebuilt") from error
            if _code(error) in _NOT_OURS:
                with self._door:
                    self._must_reopen = True
            if _code(error) in _NOT_NOW:
                raise Transient(f"{self.path}: {error.orig}") from error
            raise

    def noted(self, key: str) -> str | None:
        """Return the note `key`, None where it was never taken."""
        with self.reading() as look:
            value: str | None = look.scalar(select(note.c.value).where(note.c.key == key))
        return value

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def open_ledger(spool: Path) -> tuple[Ledger, bool]:
    """Return the spool's ledger, and whether it had to be begun anew because an earlier one is lost.

    A corrupt file is moved aside, never deleted, and counts as lost. That it was is noted together with the
    tables: a crash in between must not make the loss forgotten.
    """
    path = spool / FILE_NAME
    if path.exists() and not _is_sound(path):
        _set_aside(path)
    ledger = Ledger(path)
    had_one = (spool / BEGUN).exists() or _worker_was_here(spool)
    is_new = ledger.create({REBUILT: str(_after_all_arrivals(spool))} if had_one else {})
    (spool / BEGUN).touch(mode=0o640)
    flush_path(spool)
    return ledger, is_new and had_one


def _after_all_arrivals(spool: Path) -> float:
    """Return now, or the moment after the last admission where the clock has been set back since."""
    room = spool / "arrivals"
    begins = (folder.name.partition("-")[0] for folder in (room.iterdir() if room.is_dir() else ()))
    last = max((int(begin) for begin in begins if begin.isdecimal()), default=0)
    return max(time.time(), last / 1e9 + 0.001)


def _set_aside(path: Path) -> None:
    """Move the write-ahead log first: beside a new ledger it would be deleted, and it may be worth reading."""
    aside = path.with_name(f"{FILE_NAME}.corrupt-{time.time_ns()}")
    for suffix in ("-wal", "-shm", ""):
        beside = Path(f"{path}{suffix}")
        if beside.exists():
            beside.rename(f"{aside}{suffix}")
    reached("ledger-set-aside")


def _worker_was_here(spool: Path) -> bool:
    """Tell whether anything is where only a worker puts it; the arrivals can be the hook's work alone."""
    rooms = (spool / room for room in ("settled", "quarantine", "outputs"))
    return any(room.is_dir() and any(room.iterdir()) for room in rooms)


def _is_sound(path: Path) -> bool:
    """Tell whether the file is a ledger; what merely cannot be read now, or by us, is an error."""
    ledger = Ledger(path)
    try:
        with ledger.reading() as look:
            sound: bool = look.exec_driver_sql("PRAGMA quick_check(1)").scalar() == "ok"
    except LedgerDamaged:
        return False
    except Transient as error:
        if _code(error.__cause__) in _NOT_OURS:
            raise Configuration(f"{error}; give it to the user storestow runs as") from error
        raise
    finally:
        ledger.close()
    return sound


def _code(error: BaseException | None) -> int:
    """Return SQLite's primary result code, 0 where there is none."""
    return getattr(getattr(error, "orig", None), "sqlite_errorcode", 0) & 0xFF


def _prepare_connection(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by us, never by the driver behind our back
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=60000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
