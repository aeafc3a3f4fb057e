"""A row of the ledger leaves it with a type: a misspelt column is found by mypy, not by a hospital."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "pipeline"
ROOMS = ("line", "orders", "sending", "web", "worker", "commands", "operate", "site")
MOST = 10


def bare(annotation: ast.expr) -> bool:
    """Tell whether an annotation says `Any` other than for the values of a mapping, which is JSON or columns."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in {"dict", "Mapping"}:
        return False
    if isinstance(annotation, ast.Name):
        return annotation.id == "Any"
    return any(bare(part) for part in ast.iter_child_nodes(annotation) if isinstance(part, ast.expr))


def untyped() -> Iterator[str]:
    for room in ROOMS:
        for path in sorted((PACKAGE / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                    annotations = [one.annotation for one in given if one.annotation]
                    annotations += [node.returns] if node.returns else []
                    for annotation in annotations:
                        if bare(annotation):
                            yield f"{path.relative_to(PACKAGE)}: {node.name}: {ast.unparse(annotation)}"


def test_no_row_goes_through_the_rooms_without_a_type():
    found = list(untyped())
    assert len(found) <= MOST, "\n".join(found)


def test_no_row_of_sqlalchemy_leaves_the_ledger():
    those = [
        str(path)
        for path in PACKAGE.rglob("*.py")
        if "ledger" not in path.parts and ("._mapping" in (text := path.read_text()) or "Row[Any]" in text)
    ]
    assert those == []
