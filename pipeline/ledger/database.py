"""What the ledger needs of a database: `sqlite` is the usual one, `postgresql` is a server's."""

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection

from pipeline.errors import Transient


class LedgerDamaged(Transient):
    """Say that the file is no sound ledger any more: end, because the next start sets it aside and rebuilds."""


@dataclass(frozen=True, slots=True)
class Server:
    """A PostgreSQL database: its address, and what reads the password; None leaves it to libpq (PGPASSFILE)."""

    url: str
    password: Callable[[], str] | None = None


class Database(Protocol):
    """One database that holds a ledger."""

    @property
    def name(self) -> str:
        """Return the database's name for messages; it holds no secret."""

    @property
    def path(self) -> Path | None:
        """Return the file, None on a server."""

    def exists(self) -> bool:
        """Tell whether there is one to connect to; its tables may still be missing."""

    def identity(self) -> Hashable:
        """Return a value that changes when another ledger takes the place of this one, None if there is none."""

    def connected(self) -> AbstractContextManager[Connection]:
        """Connect without beginning a transaction.

        The block raises Transient, Configuration or LedgerDamaged for what the database cannot do now, and
        SQLAlchemy's errors for what a statement must not do, such as IntegrityError.
        """

    def begin_reading(self, connection: Connection) -> None:
        """Begin a transaction that sees one consistent state, and blocks no writer."""

    def begin_writing(self, connection: Connection, *, flushed: bool, alone: bool) -> None:
        """Begin a transaction that writes, if `alone` while no other such one does.

        An unflushed one may be lost with the machine.
        """

    def alone_in(self, folder: Path) -> AbstractContextManager[None]:
        """Hold a lock on `folder` during the block: whoever else of this ledger calls this waits."""

    def holds(self, subject: str, /) -> bool:
        """Tell whether this process is the one of the ledger that does `subject`, from now on.

        Another one gets it when this one has called `leave`, or its process or connection has ended.
        """

    def history(self) -> str:
        """Return a name of the line of commits, which another server that takes the place of this one changes."""

    def leave(self, subject: str, /) -> None:
        """Let another process do `subject`."""

    def require_fit(self) -> None:
        """Raise Configuration unless the database can hold a ledger."""

    def prepare_migration(self, connection: Connection, /, version: int) -> str:
        """Keep a copy of the ledger of `version`, and return its name.

        Raises Transient if there is no space for it, and Configuration if a person must make it.
        """

    def copy(self, target: Path) -> None:
        """Copy the ledger, as last committed, to the new or empty file `target`.

        Raises Transient if that is impossible now, and Usage on a server, which has a program for it.
        """

    def size(self) -> int:
        """Return the number of bytes that the ledger takes."""

    def check(self) -> None:
        """Read all of the ledger if it may be damaged: `must_be_checked`."""

    @property
    def must_be_checked(self) -> bool:
        """Say whether nobody ended the last use of the ledger in an orderly way."""

    def close(self) -> None:
        """Close every connection."""

    def end_use(self) -> None:
        """Close after orderly work, so that the next start need not check."""
