"""Print how large the ledger is at the end of each of 30 days with 500 studies, in simulated time.

`python bench/month.py [DAYS [STUDIES [INSTANCES]]]`: two destinations, originals kept a day, accounts ten days, so
that within a month what comes also goes. With the default of 400 days the ledger is flat after those, at 40 times
the size.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]

from support.sites.line_site import settings_for, working  # noqa: E402  # found by the path above
from support.sites.simulated_days import EndOfDay, SimulatedDays  # noqa: E402

DESTINATIONS = tuple({"name": name, "kind": "null"} for name in ("archive", "copy"))
WIDTH, MEBIBYTE = 50, 1 << 20


def month(folder: Path, days: int, studies: int, instances: int) -> list[EndOfDay]:
    """Return how the ledger stood at the end of each day, and print each as soon as it is over."""
    settings = settings_for(folder, destinations=DESTINATIONS, keep_originals="1d", keep_accounts="10d")
    with working(settings) as (site, worker):
        passing = SimulatedDays(site, worker, folder, studies=studies, instances_each=instances)
        found = []
        for day in range(days):
            began = time.monotonic()
            end = passing.pass_day(day)
            sizes = f"{end.ledger / MEBIBYTE:6.1f}M  {end.archive / MEBIBYTE:6.1f}M"
            print(f"{day + 1:3}  {end.instances:9}  {sizes}  {time.monotonic() - began:5.1f} s", flush=True)
            found.append(end)
        return found


def main() -> None:
    """Print a line a day while they pass, and the curve at the end."""
    days, studies, instances = [*map(int, sys.argv[1:]), *(30, 500, 20)[len(sys.argv) - 1 :]]
    began = time.monotonic()
    print(f"{studies} studies of {instances} instances a day, 2 destinations, keep_accounts = 10 days")
    print("day  instances   ledger  archive    took", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        found = month(Path(folder), days, studies, instances)
    most = max(end.ledger for end in found)
    for end in found:
        print(f"{end.day + 1:3}  {'#' * round(WIDTH * end.ledger / most)}")
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
