"""Print how fast the gateway is beside its peers, and write it to bench/results.md.

`python bench/table.py [--small] [ROW ...]`: all rows, or those named. A row is a file of `bench/rows`: its
contenders take turns, the order changes from round to round, and what counts is the median of the ratios within
a round.
`--small` runs each once with few instances: it shows that a row works, and its numbers mean nothing.
"""

import argparse
import importlib
import os
import pkgutil
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from support.machine.dicom_programs import program  # noqa: E402  # found by the path above

ROUNDS = 3
RESULTS = HERE / "results.md"
PROGRAMS = ("storescp", "dcmsend", "dcmodify", "movescu", "Orthanc", "gdcmconv", "curl", "xorriso")
PACKAGES = ("pydicom", "imagecodecs", "pylibjpeg-openjpeg")


@dataclass(frozen=True)
class Row:
    """One comparison: `contenders` yields each contender's function, which returns what it measured, in `unit`.

    The first contender is the peer, or of each contender the one that `peers` names. `goals` are ratios to it, by
    contender; values in `unit` where `are_goals_ratios` or `is_ratio` is false.
    """

    what: str
    contenders: Callable[[Path, bool], AbstractContextManager[Mapping[str, Callable[[], float]]]]
    goals: Mapping[str, float]
    unit: str = "s"
    rounds: int = ROUNDS
    is_ratio: bool = True
    are_goals_ratios: bool = True
    peers: Mapping[str, str] = field(default_factory=dict)


def row_names() -> list[str]:
    """Return the rows there are: the modules of `rows`."""
    return sorted(module.name for module in pkgutil.iter_modules([str(HERE / "rows")]))


def measured(row: Row, *, small: bool) -> tuple[dict[str, list[float]], str]:
    """Return what each contender took in each round, and the load meanwhile."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, row.contenders(Path(folder), small) as contenders:
        names = list(contenders)
        for number in range(1 if small else row.rounds):
            for name in names if number % 2 == 0 else reversed(names):
                found.setdefault(name, []).append(contenders[name]())
    return found, f"{os.getloadavg()[0]:.1f}"


def lines_of(name: str, row: Row, found: Mapping[str, list[float]], load: str) -> Iterator[str]:
    """Yield a line of the table for each contender."""
    first, what = next(iter(found)), row.what
    for contender, values in found.items():
        median, peer = statistics.median(values), found[row.peers.get(contender, first)]
        ratios = [ours / theirs for ours, theirs in zip(values, peer, strict=True)]
        ratio = f"{statistics.median(ratios):.2f}" if row.is_ratio else ""
        goal = f"<= {row.goals[contender]:g}" if contender in row.goals else ""
        if goal and row.is_ratio and not row.are_goals_ratios:
            goal += f" {row.unit}"
        yield f"| {name} | {what} | {contender} | {median:.3g} {row.unit} | {ratio} | {goal} | {load} |"
        name = what = ""


def versions() -> Iterator[str]:
    """Yield what was measured: the machine, the programs, the packages."""
    yield f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    for name in PROGRAMS:
        said = subprocess.run([program(name), "--version"], capture_output=True, text=True, check=False)
        first = next(
            (line for line in (said.stdout + said.stderr).splitlines() if any(map(str.isdigit, line))), ""
        )
        yield f"{name}: {first.strip(' $')[:80]}"
    yield from (f"{name}: {version(name)}" for name in PACKAGES)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("rows", nargs="*", choices=[[], *row_names()], help=f"one of {', '.join(row_names())}")
    parser.add_argument("--small", action="store_true", help="few instances, one round")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything a row has started is ended
    head = ["| Row | What | Contender | Median | Ratio | Goal | Load |", "|---|---|---|---|---|---|---|"]
    print("\n".join(head), flush=True)
    table, began = [], time.monotonic()
    for name in chosen.rows or row_names():
        row: Row = importlib.import_module(f"rows.{name}").ROW
        lines = list(lines_of(name, row, *measured(row, small=chosen.small)))
        print("\n".join(lines), flush=True)
        table += lines
    if not chosen.rows and not chosen.small:
        about = f"Written by `make bench` in {(time.monotonic() - began) / 60:.0f} minutes.\n"
        RESULTS.write_text(
            "\n".join(["# Speed", "", about, *head, *table, "", *(f"- {v}" for v in versions()), ""])
        )


if __name__ == "__main__":
    sys.modules["table"] = sys.modules["__main__"]  # a row imports Row from here
    main()
