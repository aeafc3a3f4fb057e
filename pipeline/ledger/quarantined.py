"""Which set-aside instances a person has decided about, read in the transaction that acts on it."""

from sqlalchemy import Connection

from pipeline.ledger import reports
from pipeline.ledger.rows import InstanceRow
from pipeline.model import ArrivalState


def is_aside(connection: Connection, name: str) -> bool:
    """Tell whether a whole arrival is set aside and kept."""
    row = reports.arrival_row(connection, name)
    return row is not None and row.state == ArrivalState.QUARANTINED and row.gone_at is None


def undecided(connection: Connection, name: str) -> set[int]:
    """Return the instances of an arrival that are set aside and kept."""
    return {
        row.id for row in reports.instances_of(connection, name) if _is_aside(row) and row.discarded_at is None
    }


def discarded(connection: Connection, name: str) -> dict[int, str]:
    """Return the instances of an arrival that a person has discarded, with the file of each."""
    rows = reports.instances_of(connection, name)
    return {row.id: row.file for row in rows if _is_aside(row) and row.discarded_at is not None}


def _is_aside(row: InstanceRow) -> bool:
    return row.state in reports.SET_ASIDE
