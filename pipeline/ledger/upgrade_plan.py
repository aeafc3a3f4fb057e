"""What it takes to bring a ledger up to date: the steps, the rows, where the copy goes, and the room for it."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, func, inspect, select

from pipeline.ledger import migrations
from pipeline.ledger.tables import METADATA

_TABLES = re.compile(r"\b(?:TABLE|UPDATE|INTO|FROM|ON)\s+\"?(\w+)\"?", re.IGNORECASE)
ROOM_FACTOR = 2  # Space for the copy, and as much again for the steps themselves.


@dataclass(frozen=True, slots=True)
class UpgradeStep:
    """One step: the version it leads to, what it does, and how many rows its tables hold now."""

    version: int
    name: str
    rows: int


@dataclass(frozen=True, slots=True)
class UpgradePlan:
    """The steps from `version` to the newest, the file of the copy, and bytes needed and free in the spool.

    On a server `copy` is None: a person makes it, with the server's own program.
    """

    version: int
    newest: int
    steps: tuple[UpgradeStep, ...]
    copy: Path | None
    needed: int
    free: int

    @property
    def fits(self) -> bool:
        """Say whether the spool has room for the copy and the steps."""
        return self.free >= self.needed


def plan_upgrade(connection: Connection, version: int, path: Path | None) -> UpgradePlan:
    """Return what the steps from `version` on do with a ledger, the SQLite file `path` or a server's.

    Nothing is changed.
    """
    known = set(inspect(connection).get_table_names())
    steps = tuple(
        UpgradeStep(step.version, step.name, _rows(connection, step, known))
        for step in migrations.migrations()
        if step.version > version
    )
    return UpgradePlan(
        version=version,
        newest=migrations.newest(),
        steps=steps,
        copy=path and path.with_name(f"{path.name}.version-{version}"),
        needed=ROOM_FACTOR * _size_of(connection) if path and steps else 0,
        free=shutil.disk_usage(path.parent).free if path else 0,
    )


def _size_of(connection: Connection) -> int:
    """Return how many bytes a copy of a SQLite ledger takes."""
    pages, bytes_each = (
        connection.exec_driver_sql(f"PRAGMA {what}").scalar_one() for what in ("page_count", "page_size")
    )
    return int(pages) * int(bytes_each)


def _rows(connection: Connection, step: migrations.Migration, known: set[str]) -> int:
    """Return how many rows stand in the tables that the step changes and that are there already."""
    named = {name for statement in step.statements for name in _TABLES.findall(statement)}
    tables = (METADATA.tables[name] for name in named & known & METADATA.tables.keys())
    return sum(connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables)
