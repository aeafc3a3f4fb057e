"""The typed rows of the ledger say of each table's columns what the table says."""

import re
import types
import typing
from dataclasses import fields

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.pool import NullPool

import pipeline.ledger.rows as module
from pipeline.ledger import tables
from pipeline.ledger.column_types import Word
from pipeline.ledger.rows import (
    ArrivalRow,
    ClaimedDeliveryRow,
    DeliveryRow,
    DestinationRow,
    InstanceRow,
    OrderRow,
    OrderStudyRow,
    ReceiptRow,
    RetrievalRow,
    SoundInstanceRow,
    StudyPatientRow,
)
from pipeline.ledger.scope import Scope, ScopeColumn

ROWS = {
    ArrivalRow: tables.arrival,
    InstanceRow: tables.instance,
    StudyPatientRow: tables.study_patient,
    DeliveryRow: tables.delivery,
    ReceiptRow: tables.receipt,
    DestinationRow: tables.destination,
    OrderRow: tables.orders,
    RetrievalRow: tables.retrieval,
    OrderStudyRow: tables.order_study,
}
PYTHON = {"VARCHAR": str, "TEXT": str, "FLOAT": float, "INTEGER": int, "BIGINT": int, "BOOLEAN": bool}


@pytest.mark.parametrize("kind", ROWS, ids=lambda kind: kind.__name__)
def test_a_row_has_the_columns_of_its_table_in_their_order(kind):
    assert [field.name for field in fields(kind)] == ROWS[kind].c.keys()


@pytest.mark.parametrize("kind", ROWS, ids=lambda kind: kind.__name__)
def test_a_row_may_be_none_where_its_column_may_be_null_and_has_the_type_of_it(kind):
    hints = typing.get_type_hints(kind)
    for column in ROWS[kind].columns:
        hint = hints[column.key]
        members = set(typing.get_args(hint)) if isinstance(hint, types.UnionType) else {hint}
        assert (type(None) in members) == bool(column.nullable), column
        (plain,) = members - {type(None)}
        if isinstance(column.type, Word):
            assert plain is column.type.words, column
        elif isinstance(column.type, ScopeColumn):
            assert plain is Scope, column
        elif str(column.type) in PYTHON and not typing.get_args(plain):
            assert plain is PYTHON[str(column.type)], column


def test_a_row_with_more_columns_begins_with_those_of_its_table():
    for kind in (SoundInstanceRow, ClaimedDeliveryRow, module.WantedStudyRow, module.TraceRow, module.SetAsideRow):
        own, table = [field.name for field in fields(kind)], ROWS[kind.__mro__[1]]
        assert own[: len(table.c)] == table.c.keys()


def test_several_values_are_read_as_they_were_written_and_a_text_is_not_taken_for_several():
    engine = create_engine("sqlite://", poolclass=NullPool)
    row = {"state": "queued", "created_at": 1.0, "last_progress_at": 1.0, "study_instance_uid": "1.2"}
    with engine.begin() as connection:
        tables.METADATA.create_all(connection)
        for modalities in (("CT", "MR"), ("CT",), ()):
            connection.execute(tables.retrieval.insert().values(modalities=modalities, **row))
        column = tables.retrieval.c.modalities
        assert list(connection.scalars(select(column).order_by(tables.retrieval.c.id))) == [
            ("CT", "MR"),
            ("CT",),
            (),
        ]
        assert connection.scalar(select(tables.retrieval.c.id).where(column == ("CT", "MR"))) == 1
        stored = connection.exec_driver_sql("SELECT modalities FROM retrieval ORDER BY id").scalars()
        assert list(stored) == ["CT\\MR", "CT", ""], "as earlier releases wrote them"
        with pytest.raises(Exception, match=re.escape("not the text 'CT'")):
            connection.execute(tables.retrieval.insert().values(modalities="CT", **row))
