"""Count how large and how tangled the package is, in the numbers its layout is judged by.

A folder may be named, which holds a checkout of another commit:
.venv/bin/python bench/house.py
git archive SOME-COMMIT | tar x -C /somewhere && .venv/bin/python bench/house.py /somewhere
"""

import ast
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

PLUGIN_ROOMS = {"coercions", "destinations", "dicom/encodings", "guards", "patients", "web/translations", "codecs"}
SAID_BY_THE_FOLDER = {"__init__", "errors", "model"}
NOT_IN_THE_REPOSITORY = re.compile(
    r"\((?:design|facts|style|scale|house)[ /.][^)]*\d[^)]*\)|\bstyle rule\b|\bfacts/[a-z]+\.md\b"
)
JSON = re.compile(r"\b(?:dict|Mapping)\[str, Any\]")
ROW_NAMES = re.compile(r"row|order|link|move|stud(y|ies)|wish|retrieval|delivery|instance")


def modules_of(package: Path) -> dict[str, Path]:
    """Return the modules of the package by their dotted names."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(name: str, path: Path, modules: dict[str, Path]) -> set[str]:
    """Return the modules of the package that the module `name` imports, wherever the import stands."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                imported |= {inner if inner in modules else node.module} & modules.keys()
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names} & modules.keys()
    return imported - {name}


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of more than one unit that reach each other."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        ahead = [start]
        while ahead:
            new = imports.get(ahead.pop(), set()) - seen
            seen |= new
            ahead += new
        return seen

    reach = {unit: reached(unit) for unit in imports}
    groups = {tuple(sorted({o for o in reach[u] if u in reach.get(o, ())} | {u})) for u in imports}
    return sorted(list(group) for group in groups if len(group) > 1)


def floors_of(imports: dict[str, set[str]]) -> dict[str, int]:
    """Return the floor of each unit, above all it imports; members of a circle count as one."""
    group_of = {unit: group[0] for group in circles(imports) for unit in group}
    head = {unit: group_of.get(unit, unit) for unit in imports}
    merged: dict[str, set[str]] = defaultdict(set)
    for unit, others in imports.items():
        merged[head[unit]] |= {head[other] for other in others} - {head[unit]}
    floors: dict[str, int] = {}

    def floor(unit: str) -> int:
        if unit not in floors:
            floors[unit] = max((floor(other) + 1 for other in merged[unit]), default=0)
        return floors[unit]

    return {unit: floor(head[unit]) for unit in imports}


def repeated(names: Iterable[str]) -> list[str]:
    """Return the names that come more than once."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def classes(modules: dict[str, Path]) -> Iterator[str]:
    """Yield the name of every class, without a leading underscore."""
    for path in modules.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                yield node.name.removeprefix("_")


def rows_without_type(path: Path) -> int:
    """Count the functions that take a row of the ledger, by the name of the parameter, as `Any`."""
    count = 0
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            said = [ast.unparse(a.annotation) for a in arguments if a.annotation and ROW_NAMES.search(a.arg)]
            count += any(re.search(r"\bAny\b", JSON.sub("", words)) for words in said)
    return count


def lines_in(paths: Iterable[Path]) -> int:
    """Count the lines of all these files."""
    return sum(len(path.read_text(encoding="utf-8", errors="replace").splitlines()) for path in paths)


def main(root: Path) -> None:
    """Print one line a number."""
    package = root / "pipeline"
    modules = modules_of(package)
    entries = [p for p in package.iterdir() if p.name not in {"__init__.py", "__pycache__"}]
    flat = [entry for entry in entries if entry.suffix == ".py"]
    imports = {name: imports_of(name, path, modules) for name, path in modules.items()}

    units: dict[str, set[str]] = defaultdict(set)
    for name, others in imports.items():
        unit = name.split(".")[1] if "." in name else ""
        if unit:
            units[unit] |= {other.split(".")[1] for other in others if "." in other} - {unit}
    floors = floors_of(units)
    arrows = [(unit, other) for unit, others in units.items() for other in others]
    upwards = [pair for pair in arrows if floors[pair[0]] <= floors[pair[1]]]

    importers = Counter(other for others in imports.values() for other in others)
    single = [name for name, path in modules.items() if importers[name] == 1 and path.stem != "__init__"]
    total = lines_in(modules.values())
    stems = [
        path.stem
        for path in modules.values()
        if path.stem not in SAID_BY_THE_FOLDER and str(path.parent.relative_to(package)) not in PLUGIN_ROOMS
    ]
    sources = [*modules.values(), *root.glob("hooks/*"), *root.glob("tests/**/*.py"), *root.glob("docs/**/*.md")]
    dead = sum(
        len(NOT_IN_THE_REPOSITORY.findall(source.read_text(encoding="utf-8", errors="replace")))
        for source in sources
        if source.is_file() and source.name != "test_references.py"
    )
    untyped = sum(rows_without_type(p) for n, p in modules.items() if not n.startswith("pipeline.ledger"))
    told = {
        "entries directly in pipeline/": f"{len(entries)} ({len(flat)} modules, {len(entries) - len(flat)} rooms)",
        "floors, arrows, arrows upwards": f"{max(floors.values()) + 1}, {len(arrows)}, {len(upwards)}",
        "circles of rooms": ", ".join(f"{len(group)} rooms" for group in circles(units)) or "0",
        "circles of modules": str(len(circles(imports))),
        "modules": f"{len(modules)}, {total} lines",
        "modules with exactly one importer": f"{len(single)}, {lines_in(modules[n] for n in single)} lines",
        "class names used more than once": str(len(repeated(classes(modules)))),
        "file stems used more than once, plug-ins aside": str(len(repeated(stems))),
        "citations of documents not in the repository": str(dead),
        "functions outside the ledger with a row as Any": str(untyped),
        "lines of tests": str(lines_in(root.glob("tests/**/*.py"))),
        "files of tests": str(len(list(root.glob("tests/**/test_*.py")))),
    }
    for what, number in told.items():
        print(f"{what:<50} {number}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1])
