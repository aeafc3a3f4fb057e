"""What closing the file of a SQLite ledger does to connections that are in use."""

import contextlib
import sqlite3
import threading

import pytest

from pipeline.ledger import Ledger, notes, open_ledger, sqlite

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


def test_the_next_transaction_has_the_connection_of_the_last_one_and_nothing_of_its_transaction(tmp_path):
    ledger, _ = open_ledger(tmp_path)
    with ledger.reading() as connection:
        assert notes.read(connection, "mark") is None
        first = connection.connection.driver_connection
    with ledger.transaction() as connection:  # it could not begin in a transaction that was left open
        notes.write(connection, "mark", "kept")
        assert connection.connection.driver_connection is first
    with contextlib.suppress(LookupError), ledger.transaction() as connection:
        notes.write(connection, "mark", "rolled back")
        raise LookupError
    assert ledger.noted("mark") == "kept"
    ledger.close()
    require_closed(first)


def test_connections_of_many_threads_at_once_are_kept_up_to_a_number(tmp_path):
    ledger, _ = open_ledger(tmp_path)
    count = sqlite.MOST_IDLE + 3
    all_inside, found = threading.Barrier(count), []

    def read() -> None:
        with ledger.reading() as connection:
            found.append(connection.connection.driver_connection)
            all_inside.wait(30)

    threads = [threading.Thread(target=read) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(set(found)) == count
    assert len(ledger._database._idle) == sqlite.MOST_IDLE
    ledger.close()
    for connection in found:
        require_closed(connection)


def test_each_transaction_is_flushed_as_it_asks(tmp_path):
    ledger, _ = open_ledger(tmp_path)
    said = {False: 1, True: 2}  # https://www.sqlite.org/pragma.html#pragma_synchronous: NORMAL, FULL
    for flushed in (True, False, False, True, True, False, True):
        with ledger.transaction(flushed=flushed) as connection:
            own = connection.exec_driver_sql("PRAGMA synchronous").scalar()
            assert own == said[flushed]
    ledger.close()
