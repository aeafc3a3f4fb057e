"""Take the ledger of a spool from its file to an empty database on a server."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, insert, select

from pipeline.errors import Configuration
from pipeline.ledger import FILE_NAME, SPOOL, Ledger, migrations, notes, own_mark
from pipeline.ledger.tables import METADATA
from pipeline.spool.durable import rename_durably

ROWS_AT_ONCE = 1000


def move(spool: Path, server: Ledger) -> int:
    """Copy every row in one transaction, and return their number; the file stays as `ledger.sqlite3.moved`.

    No worker and no `serve` may run. Killed before the commit, the file is the ledger still; killed after it, the
    next call only renames the file. Raises Configuration if the server has a ledger of another spool, or if the
    file is of another release.
    """
    file = Ledger(spool / FILE_NAME)
    try:
        file.require_tables()
        with server.transaction() as target:
            if migrations.version_of(target) is None:
                migrations.create_tables(target)
                with file.reading() as source:
                    copied = sum(_copy(source, target, table) for table in METADATA.sorted_tables)
                notes.write(target, SPOOL, own_mark(spool))
            elif notes.read(target, SPOOL) != own_mark(spool):
                raise Configuration(f"{server.name} holds a ledger already, and it is of another spool")
            else:
                copied = 0
    finally:
        file.close()
    for suffix in ("-wal", "-shm", ""):
        beside = spool / f"{FILE_NAME}{suffix}"
        if beside.exists():
            rename_durably(beside, spool / f"{FILE_NAME}.moved{suffix}")
    return copied


def _copy(source: Connection, target: Connection, table: Any) -> int:
    copied = 0
    for rows in _batches(source, table):
        if table.name == "note":  # The version is written already.
            for row in rows:
                notes.write(target, row["key"], row["value"])
        else:
            target.execute(insert(table), rows)
        copied += len(rows)
    if "id" in table.c and table.c.id.type.python_type is int and copied:
        sequence = func.pg_get_serial_sequence(table.name, "id")
        target.execute(select(func.setval(sequence, select(func.max(table.c.id)).scalar_subquery())))
    return copied


def _batches(source: Connection, table: Any) -> Iterator[Sequence[dict[str, Any]]]:
    found = source.execution_options(yield_per=ROWS_AT_ONCE).execute(select(table))
    for rows in found.mappings().partitions(ROWS_AT_ONCE):
        yield [dict(row) for row in rows]
