"""What a large ledger costs beside an empty one: start of the worker, `status`, and a worker that waits."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from growth import fill, new_site, started, status
from table import Row

IDLE_SECONDS = 10.0


@contextmanager
def _contenders(folder: Path, small: bool) -> Iterator[Mapping[str, Callable[[], float]]]:
    sites = {name: new_site(folder / name, number) for number, name in enumerate(("empty", "large"))}
    for site in sites.values():
        started(site, 0.0)
    fill(sites["large"].parent / "spool", 1000 if small else 1_000_000)
    named: dict[str, Callable[[], float]] = {}
    for name, site in sites.items():
        named[f"start, {name}"] = lambda site=site: started(site, 0.0)[0]
        named[f"status, {name}"] = lambda site=site: median(status(site) for _ in range(3))
        named[f"10 s of waiting, {name}"] = lambda site=site: started(site, IDLE_SECONDS)[1]
    yield named


WHAT = ("start", "status", "10 s of waiting")
ROW = Row(
    "a ledger of a million instances",
    _contenders,
    {f"{what}, large": 1.2 for what in WHAT},
    seconds=190,
    peers={f"{what}, {name}": f"{what}, empty" for what in WHAT for name in ("empty", "large")},
)
