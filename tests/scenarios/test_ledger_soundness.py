"""When all of a ledger is read: after an end that was not orderly, beside the work; never after an orderly one."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event, select

from pipeline.ledger import FILE_NAME, IN_USE, Ledger, LedgerDamaged, open_ledger
from pipeline.ledger.tables import note


def filled(spool: Path) -> None:
    ledger, _ = open_ledger(spool)
    with ledger.transaction() as connection:
        rows = [{"key": f"key {number:05d}", "value": "x" * 3000} for number in range(200)]
        connection.execute(note.insert(), rows)
    ledger.end_use()


def damage_a_page(spool: Path) -> None:
    """Overwrite a page that is not read when the ledger is opened."""
    path = spool / FILE_NAME
    with closing(sqlite3.connect(path)) as ledger:
        ledger.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 40 * 4096)
        file.write(b"\xff" * 20 * 4096)


def set_aside(spool: Path) -> list[Path]:
    return list(spool.glob(f"{FILE_NAME}.corrupt-*"))


def read_all(ledger: Ledger) -> None:
    with ledger.reading() as connection:
        list(connection.execute(select(note)))


def test_after_an_orderly_end_nobody_reads_all_of_it(tmp_path):
    filled(tmp_path)
    statements: list[str] = []

    def hear(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    from sqlalchemy.engine import Engine

    event.listen(Engine, "before_cursor_execute", hear)
    try:
        ledger, was_lost = open_ledger(tmp_path)
        ledger.end_use()
    finally:
        event.remove(Engine, "before_cursor_execute", hear)
    assert (was_lost, ledger.must_be_checked) == (False, False)
    assert statements
    assert not [statement for statement in statements if "check" in statement]


def test_after_a_crash_it_is_checked_once_and_then_not_again(tmp_path):
    filled(tmp_path)
    open_ledger(tmp_path)[0].close()  # as a process that is killed
    ledger, was_lost = open_ledger(tmp_path)
    assert (was_lost, ledger.must_be_checked) == (False, True)
    ledger.end_use()
    assert (tmp_path / IN_USE).exists(), "nobody has checked it yet"
    ledger, _ = open_ledger(tmp_path)
    ledger.check()
    ledger.end_use()
    assert not (tmp_path / IN_USE).exists()
    ledger, _ = open_ledger(tmp_path)
    assert ledger.must_be_checked is False
    ledger.close()


def test_damage_after_a_crash_ends_the_work_and_the_next_start_rebuilds(tmp_path):
    filled(tmp_path)
    open_ledger(tmp_path)[0].close()
    damage_a_page(tmp_path)
    ledger, was_lost = open_ledger(tmp_path)
    assert not was_lost
    thread = threading.Thread(target=ledger.check)
    thread.start()
    thread.join()
    with pytest.raises(LedgerDamaged, match="restart the worker"), ledger.transaction():
        pass
    ledger.end_use()
    ledger, was_lost = open_ledger(tmp_path)
    assert was_lost, "and begun anew"
    ledger.close()
    assert len(set_aside(tmp_path)) == 1


def test_damage_that_is_met_at_work_has_the_next_start_read_all_of_it(tmp_path):
    filled(tmp_path)
    damage_a_page(tmp_path)
    ledger, was_lost = open_ledger(tmp_path)
    assert not was_lost
    with pytest.raises(LedgerDamaged):
        read_all(ledger)
    ledger.end_use()
    ledger, was_lost = open_ledger(tmp_path)
    assert was_lost
    assert len(set_aside(tmp_path)) == 1
    read_all(ledger)
    ledger.close()


def test_what_was_suspected_in_vain_stays(tmp_path):
    filled(tmp_path)
    (tmp_path / "ledger.suspect").touch()
    ledger, was_lost = open_ledger(tmp_path)
    assert (was_lost, ledger.must_be_checked, set_aside(tmp_path)) == (False, False, [])
    assert not (tmp_path / "ledger.suspect").exists()
    read_all(ledger)
    ledger.close()
