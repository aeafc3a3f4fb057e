"""The ledger: what we know of every instance, in one database (docs/design.md, State).

The rooms carry the one fact that must outlive the ledger (where a folder is); the ledger carries the rest. Every
change is one explicit transaction for each stage and study. `sqlite` and `postgresql` are the databases it may be
in, `tables` has the tables, `arrivals` and `deliveries` the statements of the stages, `reports` the questions of
people.
"""

import os
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from pipeline.crash_points import around, door
from pipeline.engine import Engine
from pipeline.engine.alone import Alone
from pipeline.errors import Configuration, Transient
from pipeline.events import Event, alarm, emit
from pipeline.ledger import migrations, notes, sqlite
from pipeline.ledger.database import Database, LedgerDamaged, Server
from pipeline.ledger.sqlite import FILE_NAME, IN_USE, Sqlite
from pipeline.ledger.upgrade_plan import UpgradePlan, plan_upgrade
from pipeline.spool.durable import flush_path
from pipeline.spool.identity_file import identity_of
from pipeline.spool.spool import MARK

__all__ = [
    "BEGUN",
    "FILE_NAME",
    "IN_USE",
    "REBUILT",
    "SPOOL",
    "Ledger",
    "LedgerDamaged",
    "Server",
    "open_ledger",
    "own_mark",
]

BEGUN = (
    # It records that a ledger existed: without one, arrivals alone may be older than the first start.
    "ledger.begun"
)
REBUILT = "rebuilt_at"  # The note that an earlier ledger was lost, and when.
SPOOL = MARK  # Note of which spool or store a ledger on a server is; the file of that name has its identity.
INSIST_SECONDS = 300.0  # Longer than a server's restart, a failover, or a network that is being repaired.
INSIST_PAUSE = 1.0  # Seconds between two tries.
Result = TypeVar("Result")


class Ledger:
    """An open ledger; every method raises Transient if its database cannot be read or written now.

    `engine` carries notices to other workers: who changes what they may do rings in the same transaction.
    """

    def __init__(self, place: Path | Server | Database, engine: Engine | None = None) -> None:
        self._database = _database_at(place)
        self.engine = engine or Alone()
        self._is_closed = threading.Event()

    @property
    def name(self) -> str:
        """Return where the ledger is, for messages."""
        return self._database.name

    @property
    def must_be_checked(self) -> bool:
        """Say whether nobody ended the last worker's use of it in an orderly way."""
        return self._database.must_be_checked

    def exists(self) -> bool:
        """Tell whether there is anything to open: before the first start of a worker there may not be."""
        return self._database.exists()

    def identity(self) -> Hashable:
        """Return a value that changes when another ledger takes the place of this one, None if there is none."""
        return self._database.identity()

    def size(self) -> int:
        """Return the bytes that the ledger takes."""
        return self._database.size()

    def create(self, values: Mapping[str, str] | None = None, *, has_copy: bool = False) -> bool:
        """Create missing tables, and bring older ones up to date after copying the ledger.

        Returns whether the ledger was created, which then holds the notes `values`. With `has_copy`, a person has
        made the copy. Raises Configuration if a newer program wrote it, or if a person must make the copy, and
        Transient if there is no space for the copy.
        """
        old = os.umask(0o027)
        try:
            with self.transaction() as connection:
                version = migrations.version_of(connection)
                if version is None:
                    migrations.create_tables(connection)
                    for key, value in (values or {}).items():
                        notes.write(connection, key, value)
                elif version != migrations.newest():
                    self._migrate(connection, version, has_copy=has_copy)
                self.engine.install(connection, may_replace=has_copy)
        finally:
            os.umask(old)
        return version is None

    def create_on_server(self, spool: Path, values: Mapping[str, str]) -> bool:
        """Create or check the ledger of `spool` on a server; return whether it was created.

        Raises Configuration if the database cannot hold a ledger, if it holds that of another spool, and if the
        spool has a ledger in a file, too: which was used last, a person has to know.
        """
        if isinstance(self._database, Sqlite):
            raise TypeError("a file belongs to the spool it lies in")
        self._database.require_fit()
        own = own_mark(spool)
        self.require_no_file(spool)
        is_new = self.create({**values, SPOOL: own})
        if self.noted(SPOOL) != own:
            raise Configuration(
                f"{self.name} is the ledger of another spool than {spool}; give each its own database. If that "
                f"spool's disk is lost and this one takes its place, set the note {SPOOL} to {own}: docs/scale.md"
            )
        return is_new

    def require_no_file(self, spool: Path) -> None:
        """Raise Configuration if the ledger is on a server, and the spool has one in a file, too."""
        if not isinstance(self._database, Sqlite) and (spool / FILE_NAME).exists():
            raise Configuration(
                f"{self.name} is to be the ledger of this spool, and there is {spool / FILE_NAME}: if the file "
                "was used last, stop the worker and `storestow serve`, and take it to the server with "
                "`storestow relocate`; if the server was, put the file elsewhere"
            )

    def require_fit(self) -> None:
        """Raise Configuration unless the database can hold a ledger."""
        self._database.require_fit()

    def _migrate(self, connection: Connection, version: int, *, has_copy: bool) -> None:
        """Copy the ledger, then apply every missing step; if killed in between, the old ledger stays valid."""
        self._require_no_newer(version)
        copy = "" if has_copy else self._database.prepare_migration(connection, version)
        migrations.migrate(connection, version)
        emit(Event.LEDGER_MIGRATED, ledger=self.name, version=migrations.newest(), before=version, copy=copy)

    def upgrade_plan(self) -> UpgradePlan | None:
        """Return what it takes to bring the ledger up to date, None if it has no tables.

        Raises Configuration if no step leads from its version to ours.
        """
        with self.reading() as connection:
            version = migrations.version_of(connection)
            if version is None:
                return None
            self._require_no_newer(version)
            return plan_upgrade(connection, version, self._database.path)

    def copy(self, target: Path) -> None:
        """Copy the ledger, as last committed, to the new or empty file `target`; raises Usage on a server."""
        self._database.copy(target)

    def require_tables(self) -> None:
        """Raise Configuration unless the tables exist and have our version: only the worker creates them."""
        if not self.exists():
            raise Configuration(
                f"{self.name} does not exist yet; start the worker first: storestow up, or storestow work"
            )
        with self.reading() as connection:
            version = migrations.version_of(connection)
            if version == migrations.newest():
                self.engine.require(connection)
        if version is None:
            raise Configuration(f"{self.name} is empty; start the worker first: storestow up, or storestow work")
        self._require_no_newer(version)
        if version < migrations.newest():
            raise Configuration(
                f"{self.name} is of an earlier release (version {version}, this one works with "
                f"{migrations.newest()}); start the worker of this release, which brings it up to date "
                "(`storestow migrate --dry-run` says how)"
            )

    def _require_no_newer(self, version: int) -> None:
        if version > migrations.newest():
            raise Configuration(
                f"{self.name} was written by a newer release (version {version}, this one works with "
                f"{migrations.newest()}); install that release again. Going back means going back to the copy "
                f"it left beside the ledger, and to what was known then: docs/operations.md, Upgrading"
            )
        if version < migrations.FIRST:
            raise Configuration(
                f"{self.name} is of a release before the first one (version {version}); move it aside: "
                "the ledger is then rebuilt from the rooms"
            )

    @contextmanager
    @door
    def transaction(self, *, flushed: bool = True, alone: bool = True) -> Iterator[Connection]:
        """Run one transaction that sees and changes a consistent state; an exception rolls it back.

        A transaction that is not `flushed` survives a crash of this process; it survives a crash of the machine
        only after the next flushed one. Use it for changes that happen hundreds of times a second. One that need
        not be `alone` does not wait for others on a server; use it only for rows that nobody else changes now.
        """
        with self._database.connected() as connection:
            self._database.begin_writing(connection, flushed=flushed, alone=alone)
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            with around("commit"):
                connection.commit()

    @contextmanager
    @door
    def step(self) -> Iterator[Connection]:
        """Run `transaction` for a step that is taken again if it is lost, and after which nothing leaves.

        A file is flushed with the next flushed transaction, which has to come before anything is sent: a power cut
        takes this process along, and what is left of the ledger is what it was at an earlier moment. A server may
        lose a transaction while this process lives: there it is flushed at once.
        """
        with self.transaction(flushed=self._database.path is None) as connection:
            yield connection

    def insist(self, write: Callable[[], Result]) -> Result:
        """Call `write` until it does not raise Transient, for `INSIST_SECONDS` at most, and return its result.

        This is for what a peer has answered, which would be lost with the attempt, and sent again. `write` must
        require its claim, because another worker may have it by now. An earlier call may have been committed, and
        only the answer to that was lost. The first failure is logged: a person may have to make room. Raises
        Transient after that time, or if the ledger is closed.
        """
        end = time.monotonic() + INSIST_SECONDS
        was_logged = False
        while True:
            try:
                return write()
            except LedgerDamaged:
                raise
            except Transient as error:
                if not was_logged:
                    alarm(Event.HELD, what="record", reason=error)
                    was_logged = True
                if time.monotonic() > end or self._is_closed.wait(INSIST_PAUSE):
                    raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Read one consistent state without blocking writers."""
        with self._database.connected() as connection:
            self._database.begin_reading(connection)
            yield connection

    def alone_in(self, folder: Path) -> AbstractContextManager[None]:
        """Return a lock on an arrival's folder: whoever else of this ledger wants it waits. Raises OSError."""
        return self._database.alone_in(folder)

    def holds(self, subject: str) -> bool:
        """Tell whether this process is the one that does `subject`, of all that use the ledger.

        It stays so while the process and its connection live. Raises nothing: while a server does not answer,
        nobody is the one.
        """
        return self._database.holds(subject)

    def history(self) -> str:
        """Return a name of the line of commits; another one says that a standby has taken over on a server.

        What the former server committed last may be missing then, if the standby was not a synchronous one.
        """
        return self._database.history()

    def leave(self, subject: str) -> None:
        """Let another process be the one that does `subject`."""
        self._database.leave(subject)

    def noted(self, key: str) -> str | None:
        """Return the note `key`, None if it was never written."""
        with self.reading() as connection:
            return notes.read(connection, key)

    def check(self) -> None:
        """Read all of the ledger if `must_be_checked`, which takes minutes where it is large; others work on.

        If it is damaged, every method raises LedgerDamaged from then on, and the next start sets it aside.
        """
        self._database.check()

    def close(self) -> None:
        """Close every connection."""
        self._is_closed.set()
        self._database.close()

    def end_use(self) -> None:
        """Close the ledger after orderly work, so that the next start need not read all of it."""
        self._database.end_use()


def _database_at(place: Path | Server | Database) -> Database:
    if isinstance(place, Path):
        return Sqlite(place)
    if not isinstance(place, Server):
        return place
    from pipeline.ledger.postgresql import Postgresql  # noqa: PLC0415  # a site without a server loads no driver

    return Postgresql(place)


def open_ledger(spool: Path, server: Server | None = None, engine: Engine | None = None) -> tuple[Ledger, bool]:
    """Return the spool's ledger, and whether it is new because an earlier one is lost.

    The loss is noted in the transaction that creates the tables, so that a crash cannot make it forgotten. After a
    crash, `must_be_checked` may ask the caller for `check` beside the work.
    """
    had_one = (spool / BEGUN).exists() or _worker_was_here(spool)
    notes_if_new = {REBUILT: str(_after_all_arrivals(spool))} if had_one else {}
    file = sqlite.opened(spool) if server is None else None
    ledger = Ledger(file or server or spool, engine)
    try:
        if file:
            is_new = ledger.create(notes_if_new)
            file.let_shrink()
        else:
            is_new = ledger.create_on_server(spool, notes_if_new)
    except BaseException:
        ledger.close()
        raise
    (spool / BEGUN).touch(mode=0o640)
    flush_path(spool)
    return ledger, is_new and had_one


def _after_all_arrivals(spool: Path) -> float:
    """Return now, or the moment after the last admission if the clock has been set back since."""
    room = spool / "arrivals"
    begins = (folder.name.partition("-")[0] for folder in (room.iterdir() if room.is_dir() else ()))
    last = max((int(begin) for begin in begins if begin.isdecimal()), default=0)
    return max(time.time(), last / 1e9 + 0.001)


def _worker_was_here(spool: Path) -> bool:
    """Tell whether a file exists that only a worker creates; the arrivals may be the hook's work alone."""
    rooms = (spool / room for room in ("settled", "quarantine", "outputs"))
    return any(room.is_dir() and any(room.iterdir()) for room in rooms)


def own_mark(spool: Path) -> str:
    """Return the identity of a spool, made at the first call."""
    return identity_of(spool / SPOOL)
