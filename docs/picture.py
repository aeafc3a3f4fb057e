"""Draw docs/rooms.svg, the rooms of the package and their imports, from the package itself: `make picture`.

Upper part: a room stands on the lowest floor that is above all rooms it imports. An arrow goes from a room to
each room it imports, unless other arrows lead there anyway. Lower part: every pair of rooms, with the number of
import statements.
"""

import ast
import itertools
import json
import math
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pipeline"
PICTURE = Path(__file__).with_name("rooms.svg")
WORDS = "words"  # the modules that lie flat in the package, which every room imports
CAPTIONS = {
    WORDS: "model, errors, events ...",
    "dicom": "data sets and pixels",
    "spool": "folders, durable files",
    "processes": "process pool, signals",
    "languages": "every word people read",
    "engine": "notices between nodes",
    "config": "site.toml as types",
    "ledger": "all SQL",
    "cstore": "C-STORE and C-ECHO SCU",
    "dicomweb": "STOW, QIDO, WADO client",
    "dcmtk": "DCMTK's programs",
    "coercions": "rules that change values",
    "guards": "may this study go out?",
    "disc": "patient discs",
    "patients": "whose accession number?",
    "destinations": "where studies go",
    "site": "one site as a whole",
    "receiving": "storescp in its modes",
    "line": "the stages of a study",
    "orders": "by accession number",
    "sending": "files of this machine",
    "operate": "what people see, decide",
    "fleet": "other sites",
    "alarms": "who is told, and how",
    "worker": "the loop",
    "web": "HTTP for HIS and people",
    "commands": "the command line",
}
PLUGINS = {"coercions", "destinations", "guards", "patients"}
BOX, HEIGHT, GAP, FLOOR, MARGIN = 180, 56, 30, 104, 40
CELL = 26
INK, PALE = "#1f2937", "#6b7280"
FILL, FILL_PLUGIN, FILL_WORDS = "#e8f0fb", "#e6f4ea", "#f3f4f6"

Edge = tuple[str, str]


@dataclass(frozen=True)
class House:
    """What the picture is drawn from: modules and lines of each room, import statements between two rooms."""

    modules: dict[str, int]
    lines: dict[str, int]
    imports: dict[Edge, int]

    def below(self, room: str) -> set[str]:
        """Return the rooms that `room` imports."""
        return {imported for importer, imported in self.imports if importer == room}

    def floors(self) -> list[list[str]]:
        """Return the rooms by floor, the lowest first; raises RecursionError for a circle of imports."""

        @cache
        def floor_of(room: str) -> int:
            return max((floor_of(below) + 1 for below in self.below(room)), default=0)

        floors = defaultdict(list)
        for room in sorted(self.modules):
            floors[floor_of(room)].append(room)
        return [floors[number] for number in sorted(floors)]

    def arrows(self) -> list[Edge]:
        """Return the imports that no longer way through other rooms implies (the transitive reduction)."""

        @cache
        def reached(room: str) -> frozenset[str]:
            return frozenset(self.below(room)).union(*(reached(below) for below in self.below(room)))

        return [
            (importer, imported)
            for importer, imported in sorted(self.imports)
            if not any(imported in reached(other) for other in self.below(importer) - {imported})
        ]


def imported_rooms(module: Path, package: Path = PACKAGE) -> Iterator[str]:
    """Yield the first name below the package of each of our imports, wherever in the module it stands."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == package.name:
            inner = node.module.split(".")[1:]
            yield from inner[:1] or (alias.name for alias in node.names if not alias.name.startswith("_"))
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith(f"{package.name}."))


def measured(package: Path = PACKAGE) -> House:
    """Read the package; its flat modules together are the room `words`."""
    flat = {path.stem for path in package.glob("*.py")} - {"__init__", "__main__"}
    modules: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    imports: Counter[Edge] = Counter()
    for module in sorted(package.rglob("*.py")):
        name = module.relative_to(package).with_suffix("").parts[0]
        if name in {"__init__", "__main__"}:
            continue
        room = WORDS if name in flat else name
        modules[room] += 1
        lines[room] += len(module.read_text(encoding="utf-8").splitlines())
        others = (WORDS if other in flat else other for other in imported_rooms(module, package))
        imports.update((room, other) for other in others if other != room)
    return House(dict(modules), dict(lines), dict(imports))


# --- where everything stands -----------------------------------------------------------------------------


class Layout:
    """Positions of the boxes, and of the points where an arrow passes a floor in between."""

    def __init__(self, house: House) -> None:
        self.floors = [list(rooms) for rooms in house.floors()]
        floor_of = {room: number for number, rooms in enumerate(self.floors) for room in rooms}
        self.ways: dict[Edge, list[str]] = {}
        self.links: list[Edge] = []  # between neighbouring floors, upper first
        for importer, imported in house.arrows():
            passed = [
                f"{importer}>{imported}@{at}" for at in range(floor_of[importer] - 1, floor_of[imported], -1)
            ]
            for at, name in zip(range(floor_of[importer] - 1, floor_of[imported], -1), passed, strict=True):
                self.floors[at].append(name)
            way = [importer, *passed, imported]
            self.ways[importer, imported] = way
            self.links += itertools.pairwise(way)
        self._order()
        self._place()

    def _order(self) -> None:
        """Put the boxes of each floor into the order with the fewest crossings found in many trials."""
        best = (math.inf, 0.0)
        chance = random.Random(1)  # noqa: S311 # the same picture every time
        found = [list(floor) for floor in self.floors]
        for _ in range(300):
            for floor in self.floors:
                chance.shuffle(floor)
            for sweep in range(12):
                self._sweep(downwards=sweep % 2 == 0)
            cost = (self._crossings(), self._length())
            if cost < best:
                best, found = cost, [list(floor) for floor in self.floors]
        self.floors = found

    def _sweep(self, *, downwards: bool) -> None:
        floors = list(reversed(self.floors)) if downwards else self.floors
        for before, floor in itertools.pairwise(floors):
            at = {name: number / max(1, len(before) - 1) for number, name in enumerate(before)}
            centre = {}
            for name in floor:
                near = [at[o] for link in self.links if name in link for o in link if o != name and o in at]
                centre[name] = sum(near) / len(near) if near else 0.5
            floor.sort(key=lambda name: centre[name])

    def _crossings(self) -> int:
        at = {name: number for floor in self.floors for number, name in enumerate(floor)}
        floor_of = {name: number for number, floor in enumerate(self.floors) for name in floor}
        crossings = 0
        by_floor = defaultdict(list)
        for upper, lower in self.links:
            by_floor[floor_of[upper]].append((at[upper], at[lower]))
        for links in by_floor.values():
            crossings += sum(
                (a[0] - b[0]) * (a[1] - b[1]) < 0 for number, a in enumerate(links) for b in links[:number]
            )
        return crossings

    def _length(self) -> float:
        at = {name: number / max(1, len(floor) - 1) for floor in self.floors for number, name in enumerate(floor)}
        return sum(abs(at[upper] - at[lower]) for upper, lower in self.links)

    def _place(self) -> None:
        """Give every box its x: near the boxes it is linked to, in order, and apart."""
        self.x = {}
        for floor in self.floors:
            left = 0.0
            for name in floor:
                self.x[name] = left + width_of(name) / 2
                left += width_of(name) + GAP
            for name in floor:
                self.x[name] -= left / 2
        for trial in range(200):
            floors = self.floors if trial % 2 else list(reversed(self.floors))
            for floor in floors:
                wished = {}
                for name in floor:
                    near = [self.x[o] for link in self.links if name in link for o in link if o != name]
                    wished[name] = sum(near) / len(near) if near else self.x[name]
                self._spread(floor, wished)
        leftmost = min(self.x[name] - width_of(name) / 2 for floor in self.floors for name in floor)
        self.x = {name: x - leftmost + MARGIN for name, x in self.x.items()}
        self.width = max(self.x[name] + width_of(name) / 2 for floor in self.floors for name in floor) + MARGIN
        self.height = len(self.floors) * FLOOR + MARGIN
        self.y = {
            name: self.height - MARGIN - number * FLOOR - HEIGHT / 2
            for number, floor in enumerate(self.floors)
            for name in floor
        }

    def _spread(self, floor: list[str], wished: dict[str, float]) -> None:
        """Move the boxes of a floor as near to their wishes as their order and widths allow."""
        groups: list[list[str]] = []
        for name in floor:
            groups.append([name])
            while (
                len(groups) > 1
                and self._centre(groups[-1], wished) - self._centre(groups[-2], wished)
                < (self._extent(groups[-1]) + self._extent(groups[-2])) / 2 + GAP
            ):
                last = groups.pop()
                groups[-1] += last
        for group in groups:
            left = self._centre(group, wished) - self._extent(group) / 2
            for name in group:
                self.x[name] = left + width_of(name) / 2
                left += width_of(name) + GAP

    @staticmethod
    def _extent(group: list[str]) -> float:
        return sum(width_of(name) + GAP for name in group) - GAP

    def _centre(self, group: list[str], wished: dict[str, float]) -> float:
        """Return where the middle of a group stands best: the mean of what its members wish for it."""
        middle = self._extent(group) / 2
        wishes, left = [], 0.0
        for name in group:
            wishes.append(wished[name] - (left + width_of(name) / 2) + middle)
            left += width_of(name) + GAP
        return sum(wishes) / len(wishes)


def width_of(name: str) -> float:
    """Return the width of a box, or of the room an arrow needs that passes a floor."""
    return 6 if ">" in name else BOX


# --- what is drawn ---------------------------------------------------------------------------------------


def text(  # noqa: PLR0913 # the attributes of an SVG text
    x: float, y: float, words: str, size: int = 12, *, anchor: str = "middle", more: str = ""
) -> str:
    """Return a line of text."""
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" text-anchor="{anchor}" {more}>{escape(words)}</text>'


def boxes(house: House, layout: Layout) -> Iterator[str]:
    """Yield a box for each room: its name, what it is for, how large it is."""
    for room in house.modules:
        x, y = layout.x[room], layout.y[room]
        fill = FILL_WORDS if room == WORDS else FILL_PLUGIN if room in PLUGINS else FILL
        yield (
            f'<rect x="{x - BOX / 2:.0f}" y="{y - HEIGHT / 2:.0f}" width="{BOX}" height="{HEIGHT}" rx="8" '
            f'fill="{fill}" stroke="#94a3b8"/>'
        )
        yield text(x, y - 11, room, 15, more='font-weight="600"')
        yield text(x, y + 5, CAPTIONS.get(room, ""), more=f'fill="{PALE}"')
        yield text(x, y + 20, size_of(house, room), 11, more=f'fill="{PALE}"')


def size_of(house: House, room: str) -> str:
    """Return the size of a room in words."""
    modules = "1 module" if house.modules[room] == 1 else f"{house.modules[room]} modules"
    return f"{modules}, {house.lines[room]:,} lines"


def arrows(house: House, layout: Layout) -> Iterator[str]:
    """Yield the arrows, each as wide as there are many imports, with their number at its beginning."""
    numbers = []
    for (importer, imported), way in layout.ways.items():
        starts = sorted((w for w in layout.ways.values() if w[0] == importer), key=lambda w: layout.x[w[1]])
        ends = sorted((w for w in layout.ways.values() if w[-1] == imported), key=lambda w: layout.x[w[-2]])
        first = layout.x[importer] + BOX * ((starts.index(way) + 1) / (len(starts) + 1) - 0.5)
        last = layout.x[imported] + BOX * ((ends.index(way) + 1) / (len(ends) + 1) - 0.5)
        points = [(first, layout.y[importer] + HEIGHT / 2)]
        for name in way[1:-1]:
            points += [
                (layout.x[name], layout.y[name] - HEIGHT / 2),
                (layout.x[name], layout.y[name] + HEIGHT / 2),
            ]
        points.append((last, layout.y[imported] - HEIGHT / 2 - 7))
        path = f"M{points[0][0]:.0f},{points[0][1]:.0f}"
        for (x1, y1), (x2, y2) in itertools.pairwise(points):
            bend = (y2 - y1) / 2
            path += f" C{x1:.0f},{y1 + bend:.0f} {x2:.0f},{y2 - bend:.0f} {x2:.0f},{y2:.0f}"
        count = house.imports[importer, imported]
        width = 1 + math.log2(count) * 0.5
        yield (
            f'<path d="{path}" fill="none" stroke="#64748b" stroke-width="{width:.1f}" marker-end="url(#head)">'
            f"<title>{importer} imports {imported}: {count} times</title></path>"
        )
        numbers.append(
            text(first + 10, points[0][1] + 13, str(count), 10, more='fill="#334155" paint-order="stroke" '
                 'stroke="#ffffff" stroke-width="4"')
        )  # fmt: skip
    yield from numbers


def matrix(house: House, top: float, width: float) -> Iterator[str]:
    """Yield the table of every pair of rooms: how often the room of the row imports the room of the column."""
    rooms = [room for floor in house.floors() for room in floor]
    left = (width - CELL * len(rooms) - 100) / 2 + 100
    most = max(house.imports.values())
    for number, room in enumerate(rooms):
        y = top + CELL * number
        yield text(left - 8, y + CELL / 2 + 4, room, anchor="end")
        x = left + CELL * number
        yield f'<rect x="{x:.0f}" y="{y:.0f}" width="{CELL}" height="{CELL}" fill="#cbd5e1"/>'
        turned = f'transform="rotate(-45 {x + CELL / 2:.0f} {top - 8:.0f})"'
        yield text(x + CELL / 2, top - 8, room, anchor="start", more=turned)
        for column, other in enumerate(rooms):
            count = house.imports.get((room, other), 0)
            if count:
                x = left + CELL * column
                shade = 0.12 + 0.5 * math.log(count + 1) / math.log(most + 1)
                yield (
                    f'<rect x="{x:.0f}" y="{y:.0f}" width="{CELL}" height="{CELL}" fill="#3b82f6" '
                    f'fill-opacity="{shade:.2f}"><title>{room} imports {other}: {count} times</title></rect>'
                )
                yield text(x + CELL / 2, y + CELL / 2 + 4, str(count), 10)
    side = CELL * len(rooms)
    for step in range(len(rooms) + 1):
        at = left + CELL * step
        yield f'<path d="M{at:.0f},{top:.0f} v{side}" stroke="#e2e8f0"/>'
        yield f'<path d="M{left:.0f},{top + CELL * step:.0f} h{side}" stroke="#e2e8f0"/>'


def drawn(house: House) -> str:
    """Return the whole picture as SVG, with what it is drawn from as JSON in its metadata."""
    layout = Layout(house)
    rooms = len(house.modules)
    width = max(layout.width, CELL * rooms + 200)
    for name in layout.x:
        layout.x[name] += (width - layout.width) / 2
    head = 64
    top = head + layout.height + 150
    height = top + CELL * rooms + MARGIN
    total = f"{sum(house.modules.values())} modules, {sum(house.lines.values()):,} lines in {rooms} rooms"
    lower = text(
        width / 2, head + layout.height + 46, "Who imports whom, and how often", 18, more='font-weight="600"'
    )
    parts = [
        (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" font-family="Helvetica, Arial, sans-serif" fill="{INK}" role="img" '
        'aria-label="The rooms of the package">'),
        f"<metadata>{escape(json.dumps(as_json(house), sort_keys=True))}</metadata>",
        ('<defs><marker id="head" viewBox="0 0 8 8" refX="1" refY="4" markerWidth="7" markerHeight="7" '
        'markerUnits="userSpaceOnUse" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#64748b"/></marker></defs>'),
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        text(width / 2, 32, "The rooms of storestow", 22, more='font-weight="600"'),
        text(width / 2, 54, f"{total}. A room imports only rooms below it. Green rooms hold plug-ins.", 13,
             more=f'fill="{PALE}"'),
        f'<g transform="translate(0 {head})">',
        *arrows(house, layout),
        *boxes(house, layout),
        "</g>",
        lower,
        text(width / 2, head + layout.height + 66, "The room of the row imports the room of the column; "
             "all numbers stand left of the diagonal.", 13, more=f'fill="{PALE}"'),
        *matrix(house, top, width),
        "</svg>",
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def as_json(house: House) -> dict[str, dict[str, int]]:
    """Return what a picture of this house is drawn from."""
    return {
        "modules": house.modules,
        "lines": house.lines,
        "imports": {f"{importer} > {imported}": count for (importer, imported), count in house.imports.items()},
    }


def told_by(picture: Path = PICTURE) -> dict[str, dict[str, int]]:
    """Return what the picture in the repository was drawn from."""
    found = re.search(r"<metadata>(.*?)</metadata>", picture.read_text(encoding="utf-8"))
    told: dict[str, dict[str, int]] = (
        json.loads(found[1].replace("&quot;", '"').replace("&gt;", ">")) if found else {}
    )
    return told


if __name__ == "__main__":
    PICTURE.write_text(drawn(measured()), encoding="utf-8")
    sys.stdout.write(f"written: {PICTURE.relative_to(ROOT)}\n")
