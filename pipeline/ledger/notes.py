"""Single values that the ledger keeps by a key."""

from sqlalchemy import Connection, insert, select, update

from pipeline.ledger.tables import note


def read(connection: Connection, key: str) -> str | None:
    """Return the value of `key`, None if there is none."""
    return connection.scalar(select(note.c.value).where(note.c.key == key))


def write(connection: Connection, key: str, value: str) -> None:
    """Set the value of `key`."""
    if not connection.execute(update(note).where(note.c.key == key).values(value=value)).rowcount:
        connection.execute(insert(note).values(key=key, value=value))
