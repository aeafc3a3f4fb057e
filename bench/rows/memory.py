"""What a whole site holds while it waits: the resident memory of all its processes."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
from support.sites.running_site import running_site
from table import Row

SETTLING_SECONDS = 3.0


def _tree(pid: int) -> list[psutil.Process]:
    top = psutil.Process(pid)
    return [top, *top.children(recursive=True)]


@contextmanager
def _contenders(folder: Path, small: bool) -> Iterator[Mapping[str, Callable[[], float]]]:  # noqa: ARG001
    with running_site(folder / "site", mode="association") as site:
        time.sleep(SETTLING_SECONDS)
        yield {
            "resident": lambda: sum(p.memory_info().rss for p in _tree(site.process.pid)) / 2**20,
            "proportional": lambda: sum(p.memory_full_info().pss for p in _tree(site.process.pid)) / 2**20,
        }


ROW = Row(
    "memory of a site that waits",
    _contenders,
    {"resident": 220},
    seconds=15,
    unit="MB",
    rounds=1,
    is_ratio=False,
)
