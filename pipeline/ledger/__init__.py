"""The ledger: what we know of every instance, in one SQLite file beside the rooms (docs/design.md, State).

The rooms carry the one fact that must outlive the ledger (where a folder is); the ledger carries the rest. Every
change is one explicit transaction for each stage and study. `tables` has the tables, `arrivals` and `deliveries`
the statements of the stages, `reports` the questions of people.
"""

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event, select
from sqlalchemy.exc import DatabaseError

from pipeline.crash_points import around, door
from pipeline.errors import Configuration, Transient
from pipeline.events import Event, emit
from pipeline.ledger import migrations
from pipeline.ledger.tables import note
from pipeline.ledger.upgrade_plan import UpgradePlan, plan_upgrade
from pipeline.spool.durable import flush_path, rename, unlink

FILE_NAME = "ledger.sqlite3"
LARGEST_REWRITTEN = 256 << 20  # bytes: seconds of a start
BEGUN = (
    # It records that a ledger existed: without one, arrivals alone may be older than the first start.
    "ledger.begun"
)
IN_USE = "ledger.in-use"  # A worker has the ledger open, or had it when it died.
SUSPECT = "ledger.suspect"  # Damage was met: the next start reads all of the ledger before anything else.
REBUILT = "rebuilt_at"  # The note that an earlier ledger was lost, and when.

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


class LedgerDamaged(Transient):
    """Say that the file is no sound ledger any more: end, because the next start sets it aside and rebuilds."""


class Ledger:
    """An open ledger; every method raises Transient if the disk is full, or cannot be read or written now."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 60})
        event.listen(self._engine, "connect", _prepare_connection)
        self._door = threading.Condition()
        self._inside = 0  # Number of running transactions.
        self._mine = threading.local()  # Number of running transactions of each thread.
        self._must_reopen = False
        self._is_damaged = False
        self.must_be_checked = False  # Nobody ended the last worker's use of it in an orderly way.

    def create(self, notes: Mapping[str, str] | None = None) -> bool:
        """Create missing tables, and bring older ones up to date after copying the ledger.

        Returns whether the ledger was created, which then holds `notes`. Raises Configuration if a newer program
        wrote it, and Transient if there is no space for the copy.
        """
        old = os.umask(0o027)
        try:
            with self.transaction() as change:
                version = migrations.version_of(change)
                if version is None:
                    migrations.create_tables(change)
                    for key, value in (notes or {}).items():
                        change.execute(note.insert().values(key=key, value=value))
                elif version != migrations.newest():
                    self._migrate(change, version)
        finally:
            os.umask(old)
        return version is None

    def _migrate(self, change: Connection, version: int) -> None:
        """Copy the ledger, then apply every missing step; if killed in between, the old ledger stays valid."""
        self._require_no_newer(version)
        plan = plan_upgrade(change, self.path, version)
        copy = plan.copy
        unfinished = copy.with_name(f"{copy.name}.new")
        if not plan.fits:
            raise Transient(
                f"{self.path}: a new release changes the ledger after it made a copy; {plan.free} bytes free are "
                f"too few for both, {plan.needed} bytes; free some of the spool's disk"
            )
        unlink(unfinished, missing_ok=True)
        migrations.copy_ledger(self.path, unfinished)
        flush_path(unfinished)
        rename(unfinished, copy)
        flush_path(copy.parent)
        migrations.migrate(change, version)
        emit(Event.LEDGER_MIGRATED, ledger=self.path, version=migrations.newest(), before=version, copy=copy.name)

    def upgrade_plan(self) -> UpgradePlan | None:
        """Return what the next start of a worker does to bring the ledger up to date, None if it has no tables.

        Raises Configuration if no step leads from its version to ours.
        """
        with self.reading() as look:
            version = migrations.version_of(look)
            if version is None:
                return None
            self._require_no_newer(version)
            return plan_upgrade(look, self.path, version)

    def require_tables(self) -> None:
        """Raise Configuration unless the tables exist and have our version: only the worker creates them."""
        with self.reading() as look:
            version = migrations.version_of(look)
        if version is None:
            raise Configuration(f"{self.path} is empty; start the worker first: storestow up, or storestow work")
        self._require_no_newer(version)
        if version < migrations.newest():
            raise Configuration(
                f"{self.path} is of an earlier release (version {version}, this one works with "
                f"{migrations.newest()}); start the worker of this release, which brings it up to date "
                "(`storestow migrate --dry-run` says how)"
            )

    def _require_no_newer(self, version: int) -> None:
        if version > migrations.newest():
            raise Configuration(
                f"{self.path} was written by a newer release (version {version}, this one works with "
                f"{migrations.newest()}); install that release again. Going back means going back to the copy "
                f"it left beside the ledger, and to what was known then: docs/operations.md, Upgrading"
            )
        if version < migrations.FIRST:
            raise Configuration(
                f"{self.path} is of a release before the first one (version {version}); move it aside: "
                "the ledger is then rebuilt from the rooms"
            )

    @contextmanager
    @door
    def transaction(self, *, flushed: bool = True) -> Iterator[Connection]:
        """Run one transaction that sees and changes a consistent state; an exception rolls it back.

        A transaction that is not `flushed` survives a crash of this process; it survives a crash of the machine
        only after the next flushed one. Use it for changes that happen hundreds of times a second.
        """
        with self._classified(), self._connected() as connection:
            connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if flushed else 'NORMAL'}")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            with around("commit"):
                connection.commit()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Read one consistent state without blocking writers."""
        with self._classified(), self._connected() as connection:
            connection.exec_driver_sql("BEGIN")
            yield connection

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
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
                self._suspect()
                raise LedgerDamaged(f"{self.path}: {error.orig}; restart the worker to have it rebuilt") from error
            if _code(error) in _NOT_OURS:
                with self._door:
                    self._must_reopen = True
            if _code(error) in _NOT_NOW:
                raise Transient(f"{self.path}: {error.orig}") from error
            raise

    def let_shrink(self) -> None:
        """Rewrite a small ledger of an earlier release so that it can give freed pages back; a large one not.

        That needs the file alone: where another process has it open just now, the next start tries again.
        """
        with contextlib.suppress(Transient), self._classified(), self._connected() as connection:
            can_shrink = connection.exec_driver_sql("PRAGMA auto_vacuum").scalar()
            if not can_shrink and self.path.stat().st_size <= LARGEST_REWRITTEN:
                connection.exec_driver_sql("PRAGMA busy_timeout=1000")
                connection.exec_driver_sql("PRAGMA auto_vacuum=INCREMENTAL")
                connection.exec_driver_sql("VACUUM")
                connection.exec_driver_sql("PRAGMA busy_timeout=60000")

    def noted(self, key: str) -> str | None:
        """Return the note `key`, None if it was never written."""
        with self.reading() as look:
            value: str | None = look.scalar(select(note.c.value).where(note.c.key == key))
        return value

    def check(self) -> None:
        """Read all of the ledger, which takes minutes where it is large; others work on it meanwhile.

        If it is damaged, every method raises LedgerDamaged from then on, and the next start sets it aside.
        """
        with contextlib.suppress(Transient):  # What cannot be read now is checked after the next start.
            with self.reading() as connection:
                is_sound = connection.exec_driver_sql(_CHECK_OF_ALL).scalar() == "ok"
            if is_sound:
                self.must_be_checked = False
            else:
                self._suspect()
                self._is_damaged = True

    def _suspect(self) -> None:
        with contextlib.suppress(OSError):
            self.path.with_name(SUSPECT).touch(mode=0o640)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def end_use(self) -> None:
        """Close the ledger after orderly work, so that the next start need not read all of it."""
        self.close()
        if not self.must_be_checked and not self.path.with_name(SUSPECT).exists():
            unlink(self.path.with_name(IN_USE), missing_ok=True)


def open_ledger(spool: Path) -> tuple[Ledger, bool]:
    """Return the spool's ledger, and whether it is new because an earlier one is lost.

    A corrupt file is moved aside, never deleted, and counts as lost. The loss is noted in the transaction that
    creates the tables, so that a crash cannot make it forgotten. All of the file is read here only if damage was
    met before; after a crash `must_be_checked` asks the caller for `check` beside the work.
    """
    path, suspect = spool / FILE_NAME, spool / SUSPECT
    is_suspect = suspect.exists()
    if path.exists() and not _is_sound(path, _CHECK_OF_ALL if is_suspect else _CHECK_OF_SCHEMA):
        _set_aside(path)
    unlink(suspect, missing_ok=True)
    ledger = Ledger(path)
    ledger.must_be_checked = path.exists() and (spool / IN_USE).exists() and not is_suspect
    (spool / IN_USE).touch(mode=0o640)
    had_one = (spool / BEGUN).exists() or _worker_was_here(spool)
    is_new = ledger.create({REBUILT: str(_after_all_arrivals(spool))} if had_one else {})
    ledger.let_shrink()
    (spool / BEGUN).touch(mode=0o640)
    flush_path(spool)
    return ledger, is_new and had_one


def _after_all_arrivals(spool: Path) -> float:
    """Return now, or the moment after the last admission if the clock has been set back since."""
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
            rename(beside, Path(f"{aside}{suffix}"))


def _worker_was_here(spool: Path) -> bool:
    """Tell whether a file exists that only a worker creates; the arrivals may be the hook's work alone."""
    rooms = (spool / room for room in ("settled", "quarantine", "outputs"))
    return any(room.is_dir() and any(room.iterdir()) for room in rooms)


def _is_sound(path: Path, check: str) -> bool:
    """Tell whether the file is a sound ledger, as far as the statement `check` reads it.

    Raises Transient if it cannot be read now, and Configuration if it cannot be read by us.
    """
    ledger = Ledger(path)
    try:
        with ledger.reading() as look:
            sound: bool = look.exec_driver_sql(check).scalar() == "ok"
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
