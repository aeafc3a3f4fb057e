"""The ledger in one SQLite file beside the rooms: the usual one, without any server."""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DatabaseError

from pipeline.errors import Configuration, Transient
from pipeline.ledger.database import LedgerDamaged
from pipeline.ledger.upgrade_plan import plan_upgrade
from pipeline.spool.durable import flush_path, rename, unlink
from pipeline.spool.spool import alone_in

FILE_NAME = "ledger.sqlite3"
IN_USE = "ledger.in-use"  # A worker has the ledger open, or had it when it died.
SUSPECT = "ledger.suspect"  # Damage was met: the next start reads all of the ledger before anything else.
MOST_IDLE = 5  # Connections that are kept open while nobody uses them.
LARGEST_REWRITTEN = 256 << 20  # bytes: seconds of a start

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

_CHECK_OF_ALL = "PRAGMA quick_check(1)"
_CHECK_OF_SCHEMA = "SELECT 'ok' FROM (SELECT count(*) FROM sqlite_master)"
_FLUSHES = "flushes"  # In `Connection.info`: whether its commits are flushed now.


class Sqlite:
    """One SQLite file; every method raises Transient if the disk is full, or cannot be read or written now."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = create_engine(
            f"sqlite:///{path}",
            connect_args={"timeout": 60},
            hide_parameters=True,  # The text of an error would quote accession numbers and names.
        )
        event.listen(self._engine, "connect", _prepare_connection)
        self._door = threading.Condition()
        self._inside = 0  # Number of running transactions.
        self._idle: list[Connection] = []  # To get one from SQLAlchemy costs more than most statements.
        self._mine = threading.local()  # Number of running transactions of each thread.
        self._must_reopen = False
        self._is_closed = False
        self._is_damaged = False
        self.must_be_checked = False

    @property
    def name(self) -> str:
        """Return the path."""
        return str(self.path)

    def alone_in(self, folder: Path) -> AbstractContextManager[None]:
        """Hold a lock on `folder`, which is on a local disk. Raises OSError."""
        return alone_in(folder)

    def holds(self, _subject: str, /) -> bool:
        """Return True: one worker has the spool, and with it the file."""
        return True

    def leave(self, _subject: str, /) -> None:
        """Do nothing: there is no other worker."""

    def exists(self) -> bool:
        """Tell whether the file exists."""
        return self.path.exists()

    def identity(self) -> tuple[int, int] | None:
        """Return device and inode of the file: the worker sets a damaged one aside and begins another."""
        try:
            about = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Transient(f"{self.path}: {error.strerror}") from error
        return about.st_dev, about.st_ino

    def begin_reading(self, connection: Connection) -> None:
        """Begin a transaction that reads."""
        connection.exec_driver_sql("BEGIN")

    def begin_writing(self, connection: Connection, *, flushed: bool, alone: bool) -> None:  # noqa: ARG002
        """Begin a transaction that writes, once no other one does: SQLite knows no other way."""
        if connection.info.get(_FLUSHES, True) is not flushed:
            connection.info.pop(_FLUSHES, None)
            connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if flushed else 'NORMAL'}")
            connection.info[_FLUSHES] = flushed
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """Yield a connection; connections of a time without writable disk are closed first.

        SQLite's connections of one process share how the index of the write-ahead log was opened: after a
        read-only one every later one is read-only too, so all must be closed at the same moment.
        """
        if self._is_damaged:
            raise LedgerDamaged(f"{self.path} does not hold together; restart the worker to have it rebuilt")
        depth = getattr(self._mine, "depth", 0)
        with self._door:
            self._door.wait_for(lambda: depth or not (self._must_reopen and self._inside))
            if self._must_reopen and not self._inside:
                self._dispose()
                self._must_reopen = False
            self._inside += 1
            connection = self._idle.pop() if self._idle else None
        self._mine.depth = depth + 1
        try:
            with self._classified():
                connection = connection or self._engine.connect()
                yield connection
                connection.rollback()  # Ends what was only read.
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        else:
            self._keep(connection)
        finally:
            self._mine.depth = depth
            with self._door:
                self._inside -= 1
                if self._is_closed and not self._inside:
                    self._dispose()
                self._door.notify_all()

    def _keep(self, connection: Connection) -> None:
        """Keep a connection for the next transaction, or close it if enough are kept: each holds memory."""
        with self._door:
            if len(self._idle) < MOST_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _dispose(self) -> None:
        """Close all connections that are not in use; the caller holds the lock."""
        while self._idle:
            self._idle.pop().close()
        self._engine.dispose()

    @contextmanager
    def _classified(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            if _code(error) in _CORRUPT:
                self._suspect()
                raise LedgerDamaged(f"{self.path}: {error.orig}; restart the worker to have it rebuilt") from error
            if _code(error) in _NOT_OURS:
                with self._door:
                    self._must_reopen = True
            if _code(error) in _NOT_NOW:
                raise Transient(f"{self.path}: {error.orig}") from error
            raise

    def require_fit(self) -> None:
        """Return: a file can always hold a ledger."""

    def prepare_migration(self, connection: Connection, /, version: int) -> str:
        """Copy the ledger beside itself; killed in between, the next start copies it again."""
        plan = plan_upgrade(connection, version, self.path)
        assert plan.copy is not None
        unfinished = plan.copy.with_name(f"{plan.copy.name}.new")
        if not plan.fits:
            raise Transient(
                f"{self.path}: a new release changes the ledger after it made a copy; {plan.free} bytes free are "
                f"too few for both, {plan.needed} bytes; free some of the spool's disk"
            )
        unlink(unfinished, missing_ok=True)
        # The transaction of `connection` keeps writers away. SQLite cannot copy from a connection that has itself
        # begun to write.
        self._copy(unfinished)
        flush_path(unfinished)
        rename(unfinished, plan.copy)
        flush_path(plan.copy.parent)
        return plan.copy.name

    def copy(self, target: Path) -> None:
        """Copy the ledger, as last committed, to the new or empty file `target`."""
        try:
            self._copy(target)
        except (OSError, sqlite3.Error) as error:
            raise Transient(f"{self.path} cannot be copied to {target} now: {error}") from error

    def _copy(self, target: Path) -> None:
        with (
            closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as old,
            closing(sqlite3.connect(target)) as new,
        ):
            old.backup(new)

    def let_shrink(self) -> None:
        """Rewrite a small ledger of an earlier release so that it can give freed pages back; a large one not.

        That needs the file alone: where another process has it open just now, the next start tries again.
        """
        with contextlib.suppress(Transient), self.connected() as connection:
            can_shrink = connection.exec_driver_sql("PRAGMA auto_vacuum").scalar()
            if not can_shrink and self.path.stat().st_size <= LARGEST_REWRITTEN:
                connection.exec_driver_sql("PRAGMA busy_timeout=1000")
                connection.exec_driver_sql("PRAGMA auto_vacuum=INCREMENTAL")
                connection.exec_driver_sql("VACUUM")
                connection.exec_driver_sql("PRAGMA busy_timeout=60000")

    def size(self) -> int:
        """Return the bytes of the file and of its write-ahead log."""
        beside = self.path.with_name(f"{self.path.name}-wal")
        return sum(file.stat().st_size for file in (self.path, beside) if file.exists())

    def check(self) -> None:
        """Read all of the ledger, which takes minutes where it is large; others work on it meanwhile.

        If it is damaged, every method raises LedgerDamaged from then on, and the next start sets it aside.
        """
        with contextlib.suppress(Transient):  # What cannot be read now is checked after the next start.
            with self.connected() as connection:
                self.begin_reading(connection)
                is_sound = connection.exec_driver_sql(_CHECK_OF_ALL).scalar() == "ok"
            if is_sound:
                self.must_be_checked = False
            else:
                self._suspect()
                self._is_damaged = True

    def _suspect(self) -> None:
        with contextlib.suppress(OSError):
            self.path.with_name(SUSPECT).touch(mode=0o640)

    def history(self) -> str:
        """Return "": no other file takes the place of this one while it is in use."""
        return ""

    def close(self) -> None:
        """Close every connection, at once or when the last running transaction of another thread has ended."""
        with self._door:
            self._is_closed = True
            if not self._inside:  # The pool would forget a connection in use, and nobody would close it.
                self._dispose()

    def end_use(self) -> None:
        """Close the ledger after orderly work, so that the next start need not read all of it."""
        self.close()
        if not self.must_be_checked and not self.path.with_name(SUSPECT).exists():
            unlink(self.path.with_name(IN_USE), missing_ok=True)


def opened(spool: Path) -> Sqlite:
    """Return the spool's ledger for its worker; a corrupt file is moved aside first, never deleted.

    All of the file is read here only if damage was met before; after a crash `must_be_checked` asks the caller for
    `check` beside the work.
    """
    path, suspect = spool / FILE_NAME, spool / SUSPECT
    is_suspect = suspect.exists()
    if path.exists() and not _is_sound(path, _CHECK_OF_ALL if is_suspect else _CHECK_OF_SCHEMA):
        _set_aside(path)
    unlink(suspect, missing_ok=True)
    database = Sqlite(path)
    database.must_be_checked = path.exists() and (spool / IN_USE).exists() and not is_suspect
    (spool / IN_USE).touch(mode=0o640)
    return database


def _set_aside(path: Path) -> None:
    """Move the write-ahead log first: beside a new ledger it would be deleted, and it may be worth reading."""
    aside = path.with_name(f"{FILE_NAME}.corrupt-{time.time_ns()}")
    for suffix in ("-wal", "-shm", ""):
        beside = Path(f"{path}{suffix}")
        if beside.exists():
            rename(beside, Path(f"{aside}{suffix}"))


def _is_sound(path: Path, check: str) -> bool:
    """Tell whether the file is a sound ledger, as far as the statement `check` reads it.

    Raises Transient if it cannot be read now, and Configuration if it cannot be read by us.
    """
    database = Sqlite(path)
    try:
        with database.connected() as connection:
            database.begin_reading(connection)
            sound: bool = connection.exec_driver_sql(check).scalar() == "ok"
    except LedgerDamaged:
        return False
    except Transient as error:
        if _code(error.__cause__) in _NOT_OURS:
            raise Configuration(f"{error}; give it to the user storestow runs as") from error
        raise
    finally:
        database.close()
    return sound


def give_pages_back(connection: Connection, at_most: int) -> None:
    """Give up to `at_most` free pages of the file back to the file system, where it was made to allow that."""
    free: int = connection.exec_driver_sql("PRAGMA freelist_count").scalar() or 0
    if connection.exec_driver_sql("PRAGMA auto_vacuum").scalar():
        for _ in range(min(free, at_most)):  # the driver takes one step of a statement: one page
            connection.exec_driver_sql("PRAGMA incremental_vacuum(1)")


def _code(error: BaseException | None) -> int:
    """Return SQLite's primary result code, 0 if there is none."""
    return getattr(getattr(error, "orig", None), "sqlite_errorcode", 0) & 0xFF


def _prepare_connection(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # We begin transactions, never the driver.
    cursor = connection.cursor()
    if cursor.execute("PRAGMA page_count").fetchone()[0] == 0:
        # It counts for a new file only, and lets it give freed pages back. It is a write, for which a full disk
        # has no room.
        cursor.execute("PRAGMA auto_vacuum=INCREMENTAL")
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=60000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
