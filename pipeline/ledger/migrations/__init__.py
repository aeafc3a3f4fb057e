"""The ledger's version, and the numbered steps from each version to the next.

A step is a file `NNNN-what-it-does.sql` beside this one; its number is the resulting version. Its statements must
be valid in SQLite and PostgreSQL, each ended by a semicolon at the end of a line. INTEGER has 64 bits there, as in
SQLite, and INTEGER NOT NULL PRIMARY KEY numbers its rows. `tables` must describe the result too: new ledgers are
created from it, and a test compares the two.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

from sqlalchemy import Connection, func, inspect, select

from pipeline.ledger.tables import METADATA, note

FIRST = 2  # The oldest version that can be brought up to date.
_NAME = re.compile(r"(\d{4})-([a-z0-9-]+)\.sql")
_VERSION_KEY = "schema"  # Releases without migrations read this note; they refuse every number other than 2.


@dataclass(frozen=True, slots=True)
class Migration:
    """One step: the version it leads to, what it does, its statements in order."""

    version: int
    name: str
    statements: tuple[str, ...]


@cache
def migrations() -> tuple[Migration, ...]:
    """Return every step, in order; raises RuntimeError if numbers are missing or repeated."""
    found = sorted(_read(), key=lambda migration: migration.version)
    numbers = [migration.version for migration in found]
    if numbers != list(range(FIRST + 1, FIRST + 1 + len(found))):
        raise RuntimeError(f"migrations must be numbered from {FIRST + 1} without gap, not {numbers}")
    return tuple(found)


def _read() -> Iterator[Migration]:
    for file in resources.files(__package__).iterdir():
        if match := _NAME.fullmatch(file.name):
            text = re.sub(r"^\s*--.*\n", "", file.read_text("utf-8"), flags=re.MULTILINE)
            statements = tuple(part.strip() for part in re.split(r";\s*(?:\n|$)", text) if part.strip())
            yield Migration(int(match[1]), match[2], statements)


def newest() -> int:
    """Return the version this program works with."""
    return FIRST + len(migrations())


def version_of(connection: Connection) -> int | None:
    """Return the version of the ledger behind `connection`, None if it has no tables yet."""
    if not inspect(connection).has_table(note.name):
        return None
    if written := (_user_version(connection) if connection.dialect.name == "sqlite" else 0):
        return written
    noted = connection.scalar(select(note.c.value).where(note.c.key == _VERSION_KEY))
    return int(noted) if noted else None


def create_tables(connection: Connection) -> None:
    """Make the tables of a new ledger, at the newest version."""
    METADATA.create_all(connection)
    _write_version(connection, newest())


def migrate(connection: Connection, version: int) -> None:
    """Bring the ledger from `version` to the newest, within the transaction of `connection`."""
    for migration in migrations():
        if migration.version > version:
            for statement in migration.statements:
                connection.exec_driver_sql(in_the_words_of(connection.dialect.name, statement))
            _write_version(connection, migration.version)


def in_the_words_of(dialect: str, statement: str) -> str:
    """Return a statement of a step as a database understands it."""
    if dialect != "postgresql":
        return statement
    numbered = statement.replace("INTEGER NOT NULL PRIMARY KEY", "BIGSERIAL PRIMARY KEY")
    return re.sub(r"\bINTEGER\b", "BIGINT", numbered)


def _user_version(connection: Connection) -> int:
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())


def _write_version(connection: Connection, version: int) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA user_version = {version}")
    key = note.c.key == _VERSION_KEY
    if connection.scalar(select(func.count()).select_from(note).where(key)):
        connection.execute(note.update().where(key).values(value=str(version)))
    else:
        connection.execute(note.insert().values(key=_VERSION_KEY, value=str(version)))
