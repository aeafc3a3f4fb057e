"""Print how fast the gateway is beside its peers, and write it to bench/results.md.

`python bench/table.py [--small] [--patience N] [ROW ...]`: all rows, or those named. A row is a file of
`bench/rows`: its contenders take turns, the order changes from round to round, and what counts is the median of
the ratios within a round.

A row starts no round that would end after its `seconds`, and is stopped at twice of them; all rows together are
stopped after 20 minutes. A row that fails says why, and the others go on. `--patience 3` gives three times the
time, for a machine that has other work. `--small` runs each once with few instances: it shows that a row works,
and its numbers mean nothing.
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
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from support.machine.dicom_programs import program  # noqa: E402  # found by the path above

ROUNDS = 3
TABLE_SECONDS = 20 * 60 - 20  # the rest is for the versions, and for the last row to end what it has started
RESULTS = HERE / "results.md"
PROGRAMS = ("storescp", "dcmsend", "dcmodify", "movescu", "Orthanc", "gdcmconv", "curl", "xorriso")
PACKAGES = ("pydicom", "imagecodecs", "pylibjpeg-openjpeg", "dicomweb-client")


@dataclass(frozen=True)
class Row:
    """One comparison: `contenders` yields each contender's function, which returns what it measured, in `unit`.

    The first contender is the peer, or of each contender the one that `peers` names. `goals` are ratios to it, by
    contender; values in `unit` where `are_goals_ratios` or `is_ratio` is false. `seconds` is the time for all
    rounds on a quiet machine of two cores, with what has to be started and made before.
    """

    what: str
    contenders: Callable[[Path, bool], AbstractContextManager[Mapping[str, Callable[[], float]]]]
    goals: Mapping[str, float]
    seconds: float
    unit: str = "s"
    rounds: int = ROUNDS
    is_ratio: bool = True
    are_goals_ratios: bool = True
    peers: Mapping[str, str] = field(default_factory=dict)


def row_names() -> list[str]:
    """Return the rows there are: the modules of `rows`."""
    return sorted(module.name for module in pkgutil.iter_modules([str(HERE / "rows")]))


Found = dict[str, list[float]]


class OutOfTimeError(Exception):
    """A row has taken longer than it may."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise OutOfTimeError in the block, once, when the seconds are over; what it has started it then ends."""

    def over(*_: object) -> None:
        raise OutOfTimeError(f"stopped after {seconds:.0f} s")

    handler = signal.signal(signal.SIGALRM, over)
    timer = signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)


def measure(row: Row, found: Found, *, seconds: float, small: bool) -> None:
    """Add to `found` what each contender takes in each round; start no round that would not end in time."""
    began, rounds = time.monotonic(), 1 if small else row.rounds
    with tempfile.TemporaryDirectory() as folder, row.contenders(Path(folder), small) as contenders:
        names, longest = list(contenders), 0.0
        for number in range(rounds):
            round_began = time.monotonic()
            if number and round_began + longest > began + seconds:
                return
            for name in names if number % 2 == 0 else reversed(names):
                value = contenders[name]()  # first: a contender that fails has no list
                found.setdefault(name, []).append(value)
            longest = max(longest, time.monotonic() - round_began)


def lines_of(name: str, row: Row, found: Found, load: str, failure: str = "") -> Iterator[str]:
    """Yield a line of the table for each contender, and one for what went wrong."""
    what, first = row.what, next(iter(found), "")
    for contender, values in found.items():
        median, peer = statistics.median(values), found.get(row.peers.get(contender, first), [])
        ratios = [ours / theirs for ours, theirs in zip(values, peer, strict=False)]  # one may lack the last round
        ratio = statistics.median(ratios) if ratios and row.is_ratio else None
        goal, verdict = "", ""
        if contender in row.goals:
            against = ratio if row.are_goals_ratios and row.is_ratio else median
            goal = f"<= {row.goals[contender]:g}" + ("" if against is ratio else f" {row.unit}")
            verdict = "" if against is None else "met" if against <= row.goals[contender] else "**missed**"
        cells = [name, what, contender, f"{median:.3g} {row.unit}", "" if ratio is None else f"{ratio:.2f}"]
        yield line([*cells, goal, verdict, str(len(values)), load])
        name = what = load = ""
    if failure:
        yield line([name, what, f"failed: {failure}", "", "", "", "", "", load])


def line(cells: Sequence[str]) -> str:
    """Return a line of the table; no text of a failure can be taken for another cell."""
    return f"| {' | '.join(' '.join(cell.replace('|', '/').split()) for cell in cells)} |"


def row_named(name: str) -> Row:
    """Return a row by the name of its module; where it needs a package that is not there, one that says so."""
    try:
        row: Row = importlib.import_module(f"rows.{name}").ROW
    except ImportError as error:
        missing = error

        @contextmanager
        def contenders(_folder: Path, _small: bool) -> Iterator[Mapping[str, Callable[[], float]]]:
            raise missing
            yield {}

        return Row("not measured", contenders, {}, seconds=1)
    return row


def row_lines(name: str, row: Row, *, seconds: float, at_most_seconds: float, small: bool) -> list[str]:
    """Measure a row, and return its lines, whatever happens in it."""
    found: Found = {}
    before, failure = os.getloadavg()[0], ""
    try:
        with at_most(at_most_seconds):
            measure(row, found, seconds=seconds, small=small)
    except Exception as error:  # noqa: BLE001  # one row must not cost the others
        traceback.print_exc()
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = (
            next(iter(str(error).splitlines()), "") or f"{where.line} ({Path(where.filename).name}:{where.lineno})"
        )
        failure = f"{type(error).__name__}: {said[:200]}"
    return list(lines_of(name, row, found, f"{before:.1f} to {os.getloadavg()[0]:.1f}", failure))


def versions() -> Iterator[str]:
    """Yield what was measured: the machine, the programs, the packages."""
    yield f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    for name in PROGRAMS:
        try:
            said = subprocess.run([program(name), "--version"], capture_output=True, text=True, check=False)
        except AssertionError as error:  # the rows that need it say so
            yield str(error)
            continue
        lines = (said.stdout + said.stderr).splitlines()
        first = next((line for line in lines if any(map(str.isdigit, line))), "")
        yield f"{name}: {first.strip(' $')[:80]}"
    yield from (f"{name}: {version(name)}" for name in PACKAGES)


HEAD = [
    "| Row | What | Contender | Median | Ratio | Goal | Verdict | Rounds | Load |",
    "|---|---|---|---|---|---|---|---|---|",
]


def written(table: Sequence[str], began: float, about: Sequence[str]) -> None:
    """Write what was measured so far to bench/results.md."""
    took = f"Written by `make bench` in {(time.monotonic() - began) / 60:.0f} minutes."
    read = "The ratio is to the first contender of the row; the load is that before the row and at its end."
    text = ["# Speed", "", took, read, "", *HEAD, *table, "", *(f"- {one}" for one in about), ""]
    RESULTS.write_text("\n".join(text), encoding="utf-8")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("rows", nargs="*", choices=[[], *row_names()], help=f"one of {', '.join(row_names())}")
    parser.add_argument("--small", action="store_true", help="few instances, one round")
    parser.add_argument("--patience", type=float, default=1.0, metavar="N", help="N times the time for each row")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything a row has started is ended
    print("\n".join(HEAD), flush=True)
    table: list[str] = []
    began, about = time.monotonic(), list(versions())
    end = began + TABLE_SECONDS * chosen.patience
    rows = {name: row_named(name) for name in chosen.rows or row_names()}
    later = sum(row.seconds for row in rows.values()) * chosen.patience
    for name, row in rows.items():
        left, own = end - time.monotonic(), row.seconds * chosen.patience
        later -= own
        # After a row that took long the next ones have fewer rounds, so that the last ones are measured, too.
        seconds = min(own, max(left - later, 0.0))
        lines = row_lines(name, row, seconds=seconds, at_most_seconds=min(2 * own, left), small=chosen.small)
        print("\n".join(lines), flush=True)
        table += lines
        if not chosen.rows and not chosen.small:
            written(table, began, about)


if __name__ == "__main__":
    sys.modules["table"] = sys.modules["__main__"]  # a row imports Row from here
    main()
