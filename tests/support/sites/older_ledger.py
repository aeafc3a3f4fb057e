"""Turn a ledger back into what an earlier release had written, row for row, so that an upgrade can be tried."""

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import select

from pipeline.ledger import Ledger, migrations
from pipeline.ledger.tables import METADATA, note

VERSIONS = (2, 16)  # 2: the last release without migrations, which kept its version in the notes alone


def empty(path: Path, version: int) -> None:
    """Make the ledger that the release of this version made."""
    script = Path(__file__).with_name(f"ledger_version_{version}.sql").read_text()
    with closing(sqlite3.connect(path)) as ledger:
        ledger.executescript(script)


def empty_version_2(path: Path) -> None:
    """Make the ledger that the last release without migrations made."""
    empty(path, 2)


def as_version(path: Path, version: int) -> None:
    """Replace the ledger at `path`, which nobody has open, by one of an older version with the same rows."""
    newer = path.with_name("newer.sqlite3")
    with closing(sqlite3.connect(path)) as ledger:
        ledger.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path.rename(newer)
    for beside in ("-wal", "-shm"):
        Path(f"{path}{beside}").unlink(missing_ok=True)
    empty(path, version)
    with closing(sqlite3.connect(path)) as ledger:
        ledger.execute("ATTACH ? AS newer", (str(newer),))
        tables = [name for (name,) in ledger.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = ", ".join(f'"{row[1]}"' for row in ledger.execute(f"PRAGMA main.table_info({table})"))
            where = "WHERE key <> 'schema'" if table == "note" else ""
            ledger.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM newer.{table} {where}")
        ledger.commit()
    newer.unlink()


def back_to_version_2(ledger: Ledger) -> None:
    """Replace the tables by empty ones of version 2, in whichever database; the notes stay."""
    lines = Path(__file__).with_name("ledger_version_2.sql").read_text().splitlines()
    script = "\n".join(line for line in lines if not line.startswith("--"))
    with ledger.transaction() as connection:
        kept = connection.execute(select(note).where(note.c.key != "schema")).mappings().all()
        METADATA.drop_all(connection)
        for statement in filter(None, map(str.strip, script.split(";"))):
            words = statement
            if connection.dialect.name == "postgresql":
                words = words.replace("( id INTEGER NOT NULL,", "( id BIGSERIAL NOT NULL,")
            connection.exec_driver_sql(migrations.in_the_words_of(connection.dialect.name, words))
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA user_version = 0")
        for row in kept:
            connection.execute(note.insert().values(**row))
