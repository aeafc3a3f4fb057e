"""The ledger in a PostgreSQL database, which several machines can reach; it needs the extra `storestow[cluster]`.

Every transaction that writes is alone, as in SQLite: it holds one advisory lock until it ends. Excepted are those
that say they need not be, such as an attempt's own receipts.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from pipeline.errors import Configuration, Transient, Usage
from pipeline.ledger.database import Server

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict
except ImportError as missing:
    raise Configuration(
        "[site] ledger: PostgreSQL needs a package that is not installed: pip install 'storestow[cluster]'"
    ) from missing

OLDEST = 14  # Major version of the server.
_LOCK = 0x73746F7765  # Key of the advisory lock of writers, within the ledger's own database.
_FOLDERS, _SUBJECTS = 0x73746F, 0x77  # Spaces of two-part keys, which are others than keys of one part.
_TRY = "SELECT pg_try_advisory_lock(%s, hashtext(%s))"
_GIVE_BACK = "SELECT pg_advisory_unlock(%s, hashtext(%s))"
_ALONE_IN = text("SELECT pg_advisory_xact_lock(:space, hashtext(:subject))")
_TIMELINE = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
_SESSION = {
    "lock_timeout": 60_000,  # Milliseconds, as the next two.
    "statement_timeout": 600_000,
    # A process that hangs within a transaction would keep all others from writing.
    "idle_in_transaction_session_timeout": 300_000,
    # The server notices within 11 s that a machine is gone, and ends its transaction: sooner than the shortest
    # `lost_after`. Keepalives are sent only while nothing else is under way; an answer has a limit of its own.
    "tcp_keepalives_idle": 5,
    "tcp_keepalives_interval": 2,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
_CONNECT: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "application_name": "storestow",
    "client_encoding": "UTF8",
}
# Appendix A of the manual of PostgreSQL 15, "Error Codes": whole classes by two characters, and single codes.
_NOT_NOW = (
    "08",  # Connection exception.
    "40",  # Transaction rollback: a deadlock, a conflict.
    "53",  # Insufficient resources: disk full, out of memory, too many connections.
    "55P03",  # Lock not available, by lock_timeout.
    "57",  # Operator intervention: shutdown, crash, cannot connect now, statement_timeout.
    "58",  # System error, outside PostgreSQL: an I/O error.
    "25P03",  # The session was idle within a transaction.
    "25006",  # Read only: after a failover, this server is a standby.
    "XX",  # Internal error, damaged data: another attempt is as good as any, and a person reads of it.
)
_BY_A_PERSON = "42501"  # Insufficient privilege.
_PORT = "5432"  # Where an address names none.


def arguments_of(server: Server) -> dict[str, Any]:
    """Return the arguments of a connection to `server`, its password among them, if it is in a file."""
    about = conninfo_to_dict(server.url)
    secret = {"password": server.password()} if server.password else {}
    options = " ".join(f"-c {name}={value}" for name, value in _SESSION.items())
    options = f"{options} {about.get('options', '')}".strip()  # The later ones win: a site's own limits.
    return {**_CONNECT, **about, **secret, "options": options}


def led_by(last: tuple[str, str], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return `arguments` with the host and port `last` before all others, if it is one of several.

    A host that has vanished costs each connection its whole time limit, if it is asked first.
    """
    hosts, ports = (str(arguments.get(name, "")).split(",") for name in ("host", "port"))
    if len(hosts) == 1 or "hostaddr" in arguments:
        return arguments
    pairs = list(zip(hosts, ports if len(ports) == len(hosts) else ports * len(hosts), strict=True))
    pairs.sort(key=lambda pair: (pair[0], pair[1] or _PORT) != last)
    return {**arguments, "host": ",".join(host for host, _ in pairs), "port": ",".join(port for _, port in pairs)}


class Postgresql:
    """One PostgreSQL database; every method raises Transient if it cannot be reached or used now."""

    path = None
    must_be_checked = False  # PostgreSQL recovers by itself.

    def __init__(self, server: Server) -> None:
        self._server = server
        try:
            about = conninfo_to_dict(server.url)
        except psycopg.ProgrammingError as error:
            raise Configuration(f"[site] ledger is no address of PostgreSQL: {error}") from error
        self._last = ("", "")  # Host and port of the last connection.
        self._held: Any = None  # The connection whose session holds the locks of `holds`.
        self._subjects: set[str] = set()
        self._holding = threading.Lock()
        self.name = f"postgresql://{about.get('host', '')}/{about.get('dbname', '')}"
        self._engine = create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            isolation_level="AUTOCOMMIT",  # We begin transactions, never the driver.
            hide_parameters=True,  # The text of an error would quote accession numbers and names.
            pool_pre_ping=True,  # A restart of the server leaves dead connections.
            pool_size=5,
            max_overflow=25,
        )
        self._is_closed = False
        event.listen(self._engine, "checkin", self._end_if_closed)

    def _end_if_closed(self, connection: Any, _record: object) -> None:
        """Close a connection that a thread gives back after `close`: nobody else would."""
        if self._is_closed and connection is not None:
            connection.close()

    def _connect(self) -> Any:
        connection = psycopg.connect(**led_by(self._last, arguments_of(self._server)), autocommit=True)
        self._last = (connection.info.host, str(connection.info.port))
        return connection

    def exists(self) -> bool:
        """Return True: a database that is missing is an error of the configuration."""
        return True

    def identity(self) -> str:
        """Return the name: no other ledger takes its place while it is in use."""
        return self.name

    def begin_reading(self, connection: Connection) -> None:
        """Begin a transaction that reads one snapshot."""
        connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def begin_writing(self, connection: Connection, *, flushed: bool, alone: bool) -> None:
        """Begin a transaction that writes; each statement sees all that was committed.

        One that is `alone` begins once no other such one is under way.
        """
        connection.exec_driver_sql("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
        if alone:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        if not flushed:
            connection.exec_driver_sql("SET LOCAL synchronous_commit = off")

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """Yield a connection."""
        try:
            with self._engine.connect() as connection:
                yield connection
        except PoolExhausted as error:
            raise Transient(f"{self.name}: all connections are in use: {error}") from error
        except DatabaseError as error:
            if (told := self._classified(error)) is None:
                raise
            raise told from error

    def _classified(self, error: DatabaseError) -> Transient | Configuration | None:
        """Return what an error means, None if it is none of the database's state but of the statement.

        The server's message only: its details and its context quote values of rows and parameters.
        """
        state = getattr(error.orig, "sqlstate", None)
        said = error.orig.diag.message_primary if isinstance(error.orig, psycopg.Error) else None
        sentence = f"{self.name}: {' '.join((said or str(error.orig)).split())}"
        if state is None and isinstance(error.orig, psycopg.OperationalError):
            # It could not connect, or lost the connection. libpq gives no code: a wrong password looks the same.
            return Transient(sentence)
        if state and state.startswith(_NOT_NOW):
            return Transient(sentence)
        if state == _BY_A_PERSON:
            return Configuration(sentence)
        return None

    @contextmanager
    def alone_in(self, folder: Path) -> Iterator[None]:
        """Hold an advisory lock with the folder's name: NFS refuses locks on folders."""
        with self.connected() as connection:
            connection.exec_driver_sql("BEGIN")
            connection.execute(_ALONE_IN, {"space": _FOLDERS, "subject": folder.name})
            yield
            connection.rollback()

    def holds(self, subject: str, /) -> bool:
        """Take a lock that the server gives to another process when this one, or its connection, has ended."""
        with self._holding:
            try:
                self._held = self._held or self._connect()
                if subject in self._subjects:
                    self._held.execute("SELECT 1")  # The locks have gone with the connection.
                elif self._held.execute(_TRY, (_SUBJECTS, subject)).fetchone()[0]:
                    self._subjects.add(subject)
            except psycopg.OperationalError:
                self._forget_held()
            return subject in self._subjects

    def history(self) -> str:
        """Return the timeline, which changes when a standby takes over; "" where the server does not tell it."""
        try:
            with self.connected() as connection:
                return str(connection.exec_driver_sql(_TIMELINE).scalar_one())
        except (Configuration, DatabaseError):
            return ""

    def leave(self, subject: str, /) -> None:
        """Give the lock of `holds` back; where the connection is broken, the server has done so."""
        with self._holding:
            if subject in self._subjects:
                self._subjects.discard(subject)
                try:
                    self._held.execute(_GIVE_BACK, (_SUBJECTS, subject))
                except psycopg.OperationalError:
                    self._forget_held()

    def _forget_held(self) -> None:
        if self._held is not None:
            self._held.close()
        self._held = None
        self._subjects.clear()

    def require_fit(self) -> None:
        """Raise Configuration unless server and database can hold a ledger."""
        with self.connected() as connection:
            version = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one())
            encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
            by_bytes = connection.exec_driver_sql("SELECT 'B' < 'a' AND '1-B' < '10-A'").scalar_one()
        if version < OLDEST * 10_000:
            raise Configuration(
                f"{self.name}: PostgreSQL {version // 10_000} is too old, at least {OLDEST} is needed"
            )
        # Names begin with the moment of admission, and are compared as SQLite compares them.
        if encoding != "UTF8" or not by_bytes:
            order = "byte by byte" if by_bytes else "by the rules of a language"
            raise Configuration(
                f"{self.name} has the encoding {encoding} and compares texts {order}; make it with "
                "createdb --template=template0 --encoding=UTF8 --locale=C"
            )

    def prepare_migration(self, _connection: Connection, /, version: int) -> str:
        """Raise Configuration: a copy is made by a person, with the server's own program."""
        raise Configuration(
            f"{self.name} is of an earlier release (version {version}): stop every worker and every `storestow "
            f"serve` that uses it, copy it with pg_dump --format=custom --file=ledger.version-{version}, "
            "then run `storestow migrate`"
        )

    def copy(self, target: Path) -> None:
        """Raise Usage: the server's own program does it."""
        raise Usage(f"copy {self.name} with pg_dump --format=custom --file={target}, of PostgreSQL")

    def size(self) -> int:
        """Return the bytes of the database."""
        with self.connected() as connection:
            return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())

    def check(self) -> None:
        """Do nothing: PostgreSQL recovers by itself."""

    def close(self) -> None:
        """Close every connection; one that is in use is closed once it is given back."""
        self._is_closed = True
        self._forget_held()
        self._engine.dispose()

    def end_use(self) -> None:
        """Close every connection."""
        self.close()
