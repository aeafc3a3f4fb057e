"""The ledger's statements about destinations as a whole: which is paused, and which does not answer."""

from typing import Any

from sqlalchemy import Connection, insert, select, update

from pipeline.ledger.tables import destination


def change_row(connection: Connection, name: str, **values: Any) -> None:
    """Write the state of a destination as a whole: paused, down since when, and why."""
    known = connection.scalar(select(destination.c.name).where(destination.c.name == name))
    if known is None:
        connection.execute(insert(destination).values(name=name))
    connection.execute(update(destination).where(destination.c.name == name).values(**values))


def try_soon(connection: Connection) -> None:
    """Let each destination that is down be tried at once."""
    connection.execute(update(destination).where(destination.c.down_since.is_not(None)).values(try_at=None))


def down_since(connection: Connection, name: str) -> float | None:
    """Return since when a destination as a whole has not answered, None if it answers."""
    return connection.scalar(select(destination.c.down_since).where(destination.c.name == name))


def paused(connection: Connection) -> set[str]:
    """Return the names of the destinations a person has paused."""
    return set(connection.scalars(select(destination.c.name).where(destination.c.paused)))
