"""What closing the file of a SQLite ledger does to connections that are in use."""

import sqlite3
import threading

import pytest

from pipeline.ledger import Ledger, notes, open_ledger

pytestmark = pytest.mark.sqlite_file


def require_closed(connection: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


def test_a_connection_in_use_is_closed_when_its_transaction_has_ended(tmp_path):
    ledger, _ = open_ledger(tmp_path)
    with ledger.transaction() as connection:
        in_use = connection.connection.driver_connection
        closing = threading.Thread(target=ledger.close)
        closing.start()
        closing.join(10)
        assert not closing.is_alive(), "closing waits for nobody"
        notes.write(connection, "mark", "kept")
    require_closed(in_use)
    again = Ledger(tmp_path / "ledger.sqlite3")
    assert again.noted("mark") == "kept"
    again.close()


def test_what_uses_a_closed_ledger_leaves_no_connection_open(tmp_path):
    ledger, _ = open_ledger(tmp_path)
    ledger.close()
    with ledger.reading() as connection:
        late = connection.connection.driver_connection
    require_closed(late)
