"""[programs]: keys of earlier releases that no program uses any more."""

import pytest
from pydantic import ValidationError

from pipeline.config.program_tables import ProgramsTable


def test_keys_without_effect_are_accepted_and_named_with_the_remedy():
    table = ProgramsTable.model_validate({"storescp": "/opt/storescp", "dcmmkdir": "/opt/dcmmkdir", "dcmsend": ""})
    assert table.storescp == "/opt/storescp"
    assert not hasattr(table, "dcmmkdir")
    assert [note.partition(" ")[0] for note in table.notes()] == ["dcmsend", "dcmmkdir"]
    assert all(note.endswith("delete it") for note in table.notes())


def test_a_table_without_them_has_nothing_to_say():
    assert ProgramsTable.model_validate({}).notes() == []
    assert ProgramsTable().notes() == []


def test_any_other_unknown_key_is_still_an_error():
    with pytest.raises(ValidationError):
        ProgramsTable.model_validate({"dcmsnd": ""})
