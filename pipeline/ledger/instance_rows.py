"""The ledger's statements about instances: who holds a key, and what each stage found out."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import (
    Connection,
    Select,
    bindparam,
    select,
    update,
)

from pipeline.ledger import tallies
from pipeline.ledger.rows import SoundInstanceRow, read_all, read_one
from pipeline.ledger.scope import Scope
from pipeline.ledger.tables import arrival, instance
from pipeline.model import InstanceKey, InstanceState

HOLDS_ITS_KEY = (InstanceState.RECEIVED, InstanceState.PASSED, InstanceState.ENCODED)


GOOD = (*HOLDS_ITS_KEY, InstanceState.DUPLICATE)


def sound_instances() -> Select[Any]:
    """Return the SELECT of instances with the columns of their arrivals that `SoundInstanceRow` has."""
    return select(instance, arrival.c.admitted_at, arrival.c.peer).join(
        arrival, arrival.c.name == instance.c.arrival
    )


def row(connection: Connection, identity: int) -> SoundInstanceRow:
    """Return the row of one instance, with what its arrival knows of the sender."""
    return read_one(SoundInstanceRow, connection.execute(sound_instances().where(instance.c.id == identity)))


def first_received(
    connection: Connection, scope: Scope, keys: Iterable[InstanceKey]
) -> dict[InstanceKey, SoundInstanceRow]:
    """Return the row that holds each of `keys` within `scope`."""
    rows: dict[InstanceKey, SoundInstanceRow] = {}
    studies = sorted({key.study_instance_uid for key in keys})
    for study in studies:
        found = connection.execute(_FIRST_RECEIVED, {"scope": scope, "study": study})
        rows |= {row.key: row for row in read_all(SoundInstanceRow, found)}
    return rows


_FIRST_RECEIVED = sound_instances().where(
    instance.c.scope == bindparam("scope"),
    instance.c.study_instance_uid == bindparam("study"),
    instance.c.state.in_(HOLDS_ITS_KEY),
)


def change_rows(connection: Connection, found_out: Mapping[int, Mapping[str, Any]]) -> None:
    """Write what a stage found out about many instances, by row number: a statement for each set of columns."""
    by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for identity, values in found_out.items():
        by_columns.setdefault(tuple(sorted(values)), []).append({"row_number": identity, **values})
    for rows in by_columns.values():
        connection.execute(_CHANGE, rows)
    for identity, values in found_out.items():
        if values.get("state") in tallies.SET_ASIDE:
            tallies.set_aside(connection, identity, values)


_CHANGE = update(instance).where(instance.c.id == bindparam("row_number"))


def change_row(connection: Connection, identity: int, values: Mapping[str, Any]) -> None:
    """Write the results of a stage for one instance."""
    connection.execute(update(instance).where(instance.c.id == identity).values(**values))
    if values.get("state") in tallies.SET_ASIDE:
        tallies.set_aside(connection, identity, values)
