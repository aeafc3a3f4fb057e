"""A scope is read from the ledger as it was written, and each condition finds its own instances."""

import contextlib

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import StatementError
from support.sites import ledger_place

from pipeline.ledger import accounts
from pipeline.ledger.instance_rows import sound_instances
from pipeline.ledger.rows import SoundInstanceRow, read_one
from pipeline.ledger.scope import (
    AT_THE_RECEIVER_OF_ORDERS,
    LINE,
    Scope,
    ScopeKind,
    is_of,
    is_of_kind,
    is_of_send,
    of_retrieval,
    of_send,
)
from pipeline.ledger.tables import arrival, instance, orders

NAME = "1-r-1"
TEXTS = {
    "line": LINE,
    "receiver:odd:name": Scope(ScopeKind.RECEIVER, "odd:name"),
    "retrieval:7": of_retrieval(7),
    "unclaimed:1-r-1": Scope(ScopeKind.UNCLAIMED, NAME),
    "stranger:1-r-1": Scope(ScopeKind.STRANGER, NAME),
    "sent:9": of_send(9),
    "sent:None": of_send(None),  # the envelope was lost
}


@pytest.fixture
def connection(tmp_path):
    """Yield a connection to a ledger that holds an instance of each scope, in the order of TEXTS."""
    ledger, _ = ledger_place.opened(tmp_path)
    with contextlib.closing(ledger), ledger.transaction() as change:
        about = {"receiver": "r", "state": "processing", "admitted_at": 0.0, "newest_file_at": 0.0}
        change.execute(insert(arrival).values(name=NAME, **about))
        for number, scope in enumerate(TEXTS.values()):
            change.execute(insert(instance).values(id=number + 1, scope=scope, file=f"CT.{number}", **_KNOWN))
        yield change


_KNOWN = {
    "arrival": NAME,
    "state": "received",
    "calling_ae_title": "CT",
    "called_ae_title": "R",
    "size": 1,
    "study_instance_uid": "1.1",
    "series_instance_uid": "1.2",
    "sop_instance_uid": "1.3",
    "sop_class_uid": "1",
    "received_sha256": "a",
    "data_set_sha256": "b",
    "transfer_syntax_received": "1",
}


def found(connection, condition) -> set[str]:
    return {scope.text for scope in connection.scalars(select(instance.c.scope).where(condition))}


def test_the_text_of_a_scope_is_that_of_every_release_and_is_read_back(connection) -> None:
    assert {scope.text: Scope.of_text(scope.text) for scope in TEXTS.values()} == TEXTS
    raw = connection.exec_driver_sql("SELECT scope FROM instance ORDER BY id").scalars()
    assert list(raw) == list(TEXTS)


def test_a_row_has_the_type_and_not_the_text(connection) -> None:
    row = read_one(SoundInstanceRow, connection.execute(sound_instances().where(instance.c.id == 3)))
    assert row.scope == of_retrieval(7)


def test_a_text_is_no_scope_for_the_ledger(connection) -> None:
    with pytest.raises(StatementError, match="a Scope is expected"):
        connection.execute(insert(instance).values(scope="line", file="x", **_KNOWN))


@pytest.mark.parametrize("text", ["", "lines", "line:", "line:7", "retrieval", "order:7"])
def test_what_no_release_has_written_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no scope|is not a valid ScopeKind"):
        Scope.of_text(text)


def test_the_conditions_find_the_instances_of_their_scopes_alone(connection) -> None:
    assert found(connection, is_of(instance, of_send(9))) == {"sent:9"}
    assert found(connection, is_of(instance, [of_send(9), of_retrieval(7), of_retrieval(8)])) == {
        "sent:9",
        "retrieval:7",
    }
    assert found(connection, is_of_kind(instance, ScopeKind.SENT)) == {"sent:9", "sent:None"}
    assert found(connection, is_of_kind(instance, *AT_THE_RECEIVER_OF_ORDERS)) == {
        "retrieval:7",
        "unclaimed:1-r-1",
        "stranger:1-r-1",
    }


def test_the_files_of_a_send_are_found_by_the_column_of_its_number(connection) -> None:
    about = {"verb": "send", "accessions": (), "destination": "d", "state": "open", "stage": "placed"}
    for number in (8, 9):
        values = {**about, "key": str(number), "modalities": (), "created_at": 0.0, "last_progress_at": 0.0}
        connection.execute(insert(orders).values(id=number, **values))
    wanted = select(orders.c.id, instance.c.scope).join(instance, is_of_send(instance, orders.c.id))
    assert list(map(tuple, connection.execute(wanted))) == [(9, of_send(9))]


def test_an_account_has_the_texts_and_brings_the_scopes_back(connection) -> None:
    account = accounts.account_of(connection, NAME, 1.0)
    assert [entry["scope"] for entry in account["instances"]] == list(TEXTS)
    connection.execute(instance.delete())
    connection.execute(arrival.delete())
    accounts.restore(connection, account)
    assert list(connection.scalars(select(instance.c.scope).order_by(instance.c.id))) == list(TEXTS.values())
