"""One name means one thing: no class of the package and no module has the name of another."""

import ast
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "pipeline"
MODULES = sorted(PACKAGE.rglob("*.py"))
PLUGIN_ROOMS = {"coercions", "destinations", "dicom/encodings", "guards", "patients", "languages"}
SAID_BY_THE_FOLDER = {"__init__", "errors", "model"}  # `pipeline.disc.errors` is read together with its folder


def repeated(named: Iterable[tuple[str, Path]]) -> dict[str, list[str]]:
    places = defaultdict(list)
    for name, module in named:
        places[name].append(str(module.relative_to(PACKAGE)))
    return {name: modules for name, modules in places.items() if len(modules) > 1}


def is_plugin(module: Path) -> bool:
    return str(module.parent.relative_to(PACKAGE)) in PLUGIN_ROOMS


def test_no_two_classes_have_one_name() -> None:
    classes = (
        (node.name.removeprefix("_"), module)
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.ClassDef)
    )
    assert repeated(classes) == {}


def test_no_two_modules_have_one_name() -> None:
    """A plug-in bears the word of site.toml for it: `guard = "qido"` is guards/qido.py."""
    stems = ((m.stem, m) for m in MODULES if m.stem not in SAID_BY_THE_FOLDER and not is_plugin(m))
    assert repeated(stems) == {}
