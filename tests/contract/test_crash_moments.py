"""Each moment at which tests kill names a function of the package: a renamed one made tests wait in vain."""

import ast
from pathlib import Path

import pytest
from support.crash.moments import MOMENTS

PACKAGE = Path(__file__).parents[2] / "pipeline"


@pytest.mark.parametrize("moment", sorted(MOMENTS))
def test_its_function_exists(moment: str) -> None:
    module, _, function = MOMENTS[moment].rpartition(" in ")[2].rpartition(".")
    path = PACKAGE.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(file.read_text())
    assert function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
