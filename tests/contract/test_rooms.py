"""The rooms of the package stand in one order: each imports only rooms before it (ARCHITECTURE.md)."""

import ast
import pkgutil
import runpy
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "pipeline"
FLOORS = (
    ("errors", "events", "schedule", "model", "crash_points"),
    ("dicom", "spool", "processes", "languages", "engine"),
    ("config", "cstore", "ledger"),
    ("coercions", "dcmtk", "dicomweb"),
    ("disc", "guards", "patients"),
    ("destinations",),
    ("site",),
    ("line", "receiving"),
    ("orders", "operate", "fleet"),
    ("sending", "alarms"),
    ("web", "worker"),
    ("commands",),
    ("__main__",),
)
WORDS = FLOORS[0]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
PLUGINS = {"coercions": "rules", "destinations": "DESTINATION", "guards": "GUARD", "patients": "PATIENTS"}
STAGES = ["admit", "identify_arrival", "prepare_study", "consign", "deliver", "verify", "settle"]
MOST_FLAT = 7
MOST_IMPORTS_OF_THE_LOOP = 12


def imported(module: Path) -> Iterator[str]:
    """Yield the room of each import of ours, wherever in the module it stands."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pipeline":
            inner = node.module.split(".")[1:]
            yield from inner[:1] or (alias.name for alias in node.names if not alias.name.startswith("_"))
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("pipeline."))


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).with_suffix("").parts[0]


def test_every_room_stands_in_the_order() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.name not in {"__init__.py", "__pycache__"}}
    assert rooms == FLOOR.keys()


@pytest.mark.parametrize("room", sorted(FLOOR))
def test_a_room_imports_only_rooms_before_it(room: str) -> None:
    modules = (
        [PACKAGE / f"{room}.py"] if (PACKAGE / f"{room}.py").exists() else sorted((PACKAGE / room).rglob("*.py"))
    )
    assert modules
    upwards = {
        f"{module.relative_to(PACKAGE)} -> {other}"
        for module in modules
        for other in imported(module)
        if other != room and FLOOR[other] >= FLOOR[room] and not {room, other} <= set(WORDS)
    }
    assert upwards == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    house = runpy.run_path(str(PACKAGE.parent / "bench/house.py"))
    modules = house["modules_of"](PACKAGE)
    imports = {name: house["imports_of"](name, path, modules) for name, path in modules.items()}
    assert sum(map(len, imports.values())) > len(modules)
    TopologicalSorter(imports).prepare()  # a CycleError names the circle


def test_few_modules_lie_flat() -> None:
    flat = [path.name for path in PACKAGE.glob("*.py") if path.name != "__init__.py"]
    assert len(flat) <= MOST_FLAT


@pytest.mark.parametrize("room", sorted(PLUGINS))
def test_a_room_of_plug_ins_holds_nothing_else(room: str) -> None:
    for module in pkgutil.iter_modules([str(PACKAGE / room)]):
        tree = ast.parse((PACKAGE / room / f"{module.name}.py").read_text())
        offered = {
            name
            for node in tree.body
            for name in (
                [node.name]
                if isinstance(node, ast.FunctionDef | ast.ClassDef)
                else [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]
            )
        }
        assert PLUGINS[room] in offered, module.name


def test_the_loop_knows_few_modules() -> None:
    tree = ast.parse((PACKAGE / "worker" / "worker.py").read_text())
    modules = {
        f"{node.module}.{alias.name}" if (PACKAGE.parent / node.module.replace(".", "/")).is_dir() else node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pipeline"
        for alias in node.names
    }
    assert 0 < len(modules) <= MOST_IMPORTS_OF_THE_LOOP


def test_the_line_names_its_stages_in_the_order_a_study_takes_them() -> None:
    tree = ast.parse((PACKAGE / "line" / "line.py").read_text())
    (stages,) = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "stages")
    called = [node for node in ast.walk(stages) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    innermost_first = sorted(called, key=lambda call: (call.lineno, call.end_col_offset))
    names = [call.func.id for call in innermost_first if isinstance(call.func, ast.Name)]
    assert names == STAGES
    assert all((PACKAGE / "line" / f"{name}.py").exists() for name in STAGES)
