"""Turn a ledger back into what an earlier release had written, row for row, so that an upgrade can be tried."""

import sqlite3
from contextlib import closing
from pathlib import Path

VERSION_2 = Path(__file__).with_name("ledger_version_2.sql")


def empty_version_2(path: Path) -> None:
    """Make the ledger that the last release without migrations made."""
    with closing(sqlite3.connect(path)) as ledger:
        ledger.executescript(VERSION_2.read_text())


def as_version_2(path: Path) -> None:
    """Replace the ledger at `path`, which nobody has open, by one of version 2 with the same rows."""
    newer = path.with_name("newer.sqlite3")
    with closing(sqlite3.connect(path)) as ledger:
        ledger.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path.rename(newer)
    for beside in ("-wal", "-shm"):
        Path(f"{path}{beside}").unlink(missing_ok=True)
    empty_version_2(path)
    with closing(sqlite3.connect(path)) as ledger:
        ledger.execute("ATTACH ? AS newer", (str(newer),))
        tables = [name for (name,) in ledger.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = ", ".join(f'"{row[1]}"' for row in ledger.execute(f"PRAGMA main.table_info({table})"))
            where = "WHERE key <> 'schema'" if table == "note" else ""
            ledger.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM newer.{table} {where}")
        ledger.commit()
    newer.unlink()
