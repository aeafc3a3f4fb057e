"""Whatever outlives a process goes through a door with crash points (docs/adr/0013-crash-points.md)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "pipeline"
DOORS = {"spool/durable.py", "ledger/__init__.py"}
OF_FILES = {"rename", "renames", "unlink", "rmtree", "hardlink_to", "fsync", "fdatasync"}
OF_OS = {"link", "remove", "replace", "removedirs"}


def effects(source: str) -> Iterator[str]:
    """Yield each call that renames, removes, flushes or commits, as it is written."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, owner = node.func.attr, node.func.value
        is_of_os = isinstance(owner, ast.Name) and owner.id in {"os", "posix", "shutil"}
        replaces_a_file = name == "replace" and len(node.args) == 1 and not node.keywords  # that of str has two
        if name in OF_FILES or (is_of_os and name in OF_OS) or replaces_a_file or name == "commit":
            yield f"line {node.lineno}: {ast.unparse(node)}"


def test_no_module_has_an_effect_past_the_doors() -> None:
    past = {
        f"{module.relative_to(PACKAGE)} {effect}"
        for module in sorted(PACKAGE.rglob("*.py"))
        if str(module.relative_to(PACKAGE)) not in DOORS
        for effect in effects(module.read_text(encoding="utf-8"))
    }
    assert past == set(), "use pipeline/spool/durable.py and Ledger.transaction"


def test_the_doors_are_where_this_test_believes_them() -> None:
    for door in DOORS:
        assert list(effects((PACKAGE / door).read_text(encoding="utf-8"))), door


@pytest.mark.parametrize(
    "source",
    [
        "path.rename(target)",
        "path.replace(target)",
        "os.replace(path, target)",
        "path.unlink(missing_ok=True)",
        "os.remove(path)",
        "shutil.rmtree(folder)",
        "os.fsync(descriptor)",
        "os.link(path, target)",
        "connection.commit()",
    ],
)
def test_an_effect_is_seen_however_it_is_written(source: str) -> None:
    assert list(effects(source))


@pytest.mark.parametrize("source", ["text.replace('a', 'b')", "rename(path, target)", "files.remove(name)"])
def test_what_is_no_effect_is_not_taken_for_one(source: str) -> None:
    assert not list(effects(source))
