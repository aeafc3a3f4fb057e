"""Take the ledger of a spool from its file to an empty database on a server."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, insert, select

from pipeline.errors import Configuration
from pipeline.ledger import FILE_NAME, SPOOL, Ledger, migrations, notes, own_mark
from pipeline.ledger.tables import METADATA
from pipeline.spool.durable import rename_durably

ROWS_AT_ONCE = 1000
MOVED = "ledger.moved"  # Note on the server: the SHA-256 of every row that was in the file.


def move(spool: Path, server: Ledger) -> int:
    """Copy every row in one transaction, and return their number; the file stays as `ledger.sqlite3.moved`.

    No worker and no `serve` may run. Killed before the commit, the file is the ledger still; killed after it, the
    next call only renames the file, and returns 0. Raises Configuration if the server has a ledger of another
    spool, or one that is not this file's, if there is the file of an earlier move, or if the file is of another
    release.
    """
    file, moved = Ledger(spool / FILE_NAME), spool / f"{FILE_NAME}.moved"
    if moved.exists():
        raise Configuration(f"{moved} is the ledger of an earlier move: put it elsewhere, then move this one")
    try:
        file.require_tables()
        with server.transaction() as target:
            if migrations.version_of(target) is None:
                migrations.create_tables(target)
                with file.reading() as source:
                    copied, seen = _copy(source, target)
                notes.write(target, SPOOL, own_mark(spool))
                notes.write(target, MOVED, seen)
            elif notes.read(target, SPOOL) != own_mark(spool):
                raise Configuration(f"{server.name} holds a ledger already, and it is of another spool")
            else:
                _require_same(file, notes.read(target, MOVED), server.name)
                copied = 0
    finally:
        file.close()
    for suffix in ("-wal", "-shm", ""):
        beside = spool / f"{FILE_NAME}{suffix}"
        if beside.exists():
            rename_durably(beside, spool / f"{FILE_NAME}.moved{suffix}")
    return copied


def _require_same(file: Ledger, moved: str | None, server: str) -> None:
    """Raise Configuration unless what was moved to the server is all that the file holds now."""
    digest = hashlib.sha256()
    with file.reading() as source:
        for table in METADATA.sorted_tables:
            for rows in _batches(source, table):
                _digest(digest, table, rows)
    if digest.hexdigest() != moved:
        raise Configuration(
            f"{server} holds a ledger of this spool, and {file.name} is not what was moved to it: if the file was "
            "used last, copy the database with pg_dump, empty the database, and call this again; if the server "
            "was, put the file elsewhere (docs/scale.md)"
        )


def _copy(source: Connection, target: Connection) -> tuple[int, str]:
    """Copy every table; return the number of rows, and the SHA-256 of them all."""
    copied, digest = 0, hashlib.sha256()
    for table in METADATA.sorted_tables:
        of_table = 0
        for rows in _batches(source, table):
            _digest(digest, table, rows)
            _insert(target, table, rows)
            of_table += len(rows)
        if "id" in table.c and table.c.id.type.python_type is int and of_table:
            sequence = func.pg_get_serial_sequence(table.name, "id")
            target.execute(select(func.setval(sequence, select(func.max(table.c.id)).scalar_subquery())))
        copied += of_table
    return copied, digest.hexdigest()


def _digest(digest: Any, table: Any, rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        digest.update(f"{table.name} {row}\n".encode())


def _insert(target: Connection, table: Any, rows: Sequence[dict[str, Any]]) -> None:
    if table.name == "note":  # The version is written already.
        for row in rows:
            notes.write(target, row["key"], row["value"])
    else:
        target.execute(insert(table), rows)


def _batches(source: Connection, table: Any) -> Iterator[Sequence[dict[str, Any]]]:
    wanted = select(table).order_by(*table.primary_key.columns)
    found = source.execution_options(yield_per=ROWS_AT_ONCE).execute(wanted)
    for rows in found.mappings().partitions(ROWS_AT_ONCE):
        yield [dict(row) for row in rows]
