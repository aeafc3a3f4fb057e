"""Where the ledgers of the running test are: files, or databases of a PostgreSQL server that the tests start."""

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

from support.machine.postgresql import PostgresqlServer

from pipeline.ledger import FILE_NAME, Ledger, Server, open_ledger

_urls: list[str] = []  # Of the database of the running test; empty where ledgers are files.


def url() -> str:
    """Return the address for [site] ledger, as empty as it may be there."""
    return _urls[-1] if _urls else ""


def server() -> Server | None:
    return Server(url()) if url() else None


def opened(spool: Path) -> tuple[Ledger, bool]:
    """Open the ledger of a spool as its worker does."""
    return open_ledger(spool, server())


def ledger_of(spool: Path) -> Ledger:
    """Return the ledger of a spool, whether or not it has been made."""
    return Ledger(server() or spool / FILE_NAME)


def lose(spool: Path) -> None:
    """Lose the ledger, which nobody has open, as with a broken disk."""
    if url():
        import psycopg

        with psycopg.connect(url(), autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
    for file in spool.glob(f"{FILE_NAME}*"):
        file.unlink()


@contextlib.contextmanager
def on(server: PostgresqlServer) -> Iterator[str]:
    """Have the sites made in this block keep their ledger in a new database; return its address."""
    with server.database(f"ledger_{uuid.uuid4().hex[:12]}") as address, at(address):
        yield address


@contextlib.contextmanager
def at(address: str) -> Iterator[None]:
    """Have the sites made in this block keep their ledger at `address`."""
    _urls.append(address)
    try:
        yield
    finally:
        _urls.pop()
