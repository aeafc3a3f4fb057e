"""docs/configuration.md and docs/site.schema.json say what the models of site.toml say, of every key."""

import importlib.util
import json
import tomllib
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import TypeAdapter

from pipeline.config.keys import Table
from pipeline.site.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("configuration_reference", ROOT / "docs/configuration_reference.py")
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)

TABLES = list(reference.tables())


def test_the_page_and_the_schema_are_as_the_models_say():
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "run `make reference`"
    assert json.loads(reference.SCHEMA.read_text(encoding="utf-8")) == json.loads(
        json.dumps(reference.schema(), default=str)
    ), "run `make reference`"


@pytest.mark.parametrize(("heading", "model"), TABLES, ids=[f"{heading}" for heading, _ in TABLES])
def test_every_key_has_a_meaning_and_an_example_that_its_model_accepts(heading, model):
    keys = list(reference.keys_of(model))
    assert [key.name for key in keys] == list(model.model_fields)
    for key in keys:
        assert key.meaning.endswith("."), key
        field = model.model_fields[key.name]
        value = tomllib.loads(f"key = {key.example}")["key"]
        annotated = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        TypeAdapter(annotated).validate_python(value)


def test_every_table_of_a_site_is_on_the_page():
    known = {heading.split("]")[0].strip("[") for heading, _ in TABLES}
    assert set(Settings.model_fields) - {"folder"} <= known


def test_a_key_without_a_text_is_refused():
    class Undocumented(Table):
        odd: int = 5

    with pytest.raises(LookupError, match="odd has no text"):
        list(reference.keys_of(Undocumented))
