"""Only ledger/scope.py knows how the tables write a scope; all other code passes the type."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.ledger.scope import ScopeKind

PACKAGE = Path(__file__).parents[2] / "pipeline"
OWNER = PACKAGE / "ledger/scope.py"
KINDS = "|".join(kind.value for kind in ScopeKind)
# An alarm about a receiver has a key of this form, too, and is no scope.
PREFIX = re.compile(rf"(?!receiver:)({KINDS}):")
IN_SQL = re.compile(r"\bscope\s*(<>|=|LIKE)", re.IGNORECASE)


def texts_of_scopes(source: str) -> Iterator[int]:
    """Yield the lines of a source that write a scope as a text, or compare one with a text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if PREFIX.match(node.value) or IN_SQL.search(node.value):
                yield node.lineno
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(is_scope(side) for side in sides) and any(isinstance(side, ast.Constant) for side in sides):
                yield node.lineno
        elif isinstance(node, ast.Attribute) and node.attr in {"startswith", "like"} and is_scope(node.value):
            yield node.lineno


def is_scope(node: ast.expr) -> bool:
    """Tell whether an expression is an attribute, a key or a name `scope`, or the text of one."""
    if isinstance(node, ast.Attribute) and node.attr == "text":
        return is_scope(node.value)
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Constant) and node.slice.value == "scope"
    return getattr(node, "attr", getattr(node, "id", None)) == "scope"


def test_only_one_file_knows_the_text_of_a_scope() -> None:
    modules = [path for path in PACKAGE.rglob("*.py") if path != OWNER]
    found = [f"{path.relative_to(PACKAGE)}:{n}" for path in modules for n in texts_of_scopes(path.read_text())]
    assert found == [], "use pipeline.ledger.scope"


@pytest.mark.parametrize(
    "source",
    [
        'f"sent:{number}"',
        'PREFIX = "retrieval:"',
        'row.scope.startswith("x")',
        'row["scope"].startswith(OF_A_STRANGER)',
        'instance.c.scope == "line"',
        'scope.text == "line"',
        "text(\"scope <> 'line'\")",
    ],
)
def test_each_way_to_write_the_text_elsewhere_is_found(source: str) -> None:
    assert list(texts_of_scopes(source)) == [1]
