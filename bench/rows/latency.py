"""100 studies of one image, one after the other: after how long 90 % of them are delivered."""

import re
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path
from time import time

import pydicom
from rows_of_delivery import QUIET_SECONDS, sites
from studies import slices
from support.machine.dicom_programs import dcmsend, orthanc, wait_until
from support.sites.running_site import RunningSite
from table import Row

DELIVERED = re.compile(r"^(\S+ \S+) INFO delivered study=(\S+)", re.MULTILINE)


def _delivered(site: RunningSite) -> dict[str, float]:
    """Return when each study was delivered, by the site's log."""
    return {
        study: datetime.strptime(at, "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp()
        for at, study in DELIVERED.findall(site.text())
    }


@contextmanager
def _contenders(folder: Path, small: bool) -> Iterator[Mapping[str, Callable[[], float]]]:
    studies, numbers = 10 if small else 100, count()
    with ExitStack() as stack:
        archive = stack.enter_context(orthanc(folder / "archive"))

        def ninth_tenth(site: RunningSite) -> float:
            sent = {}
            for place in slices(folder / f"sent{next(numbers)}", 1, studies):
                (file,) = place.iterdir()
                assert dcmsend(site.port, file).acknowledged == 1
                sent[str(pydicom.dcmread(file, stop_before_pixels=True).StudyInstanceUID)] = time()
            wait_until(lambda: sent.keys() <= _delivered(site).keys(), seconds=120, what=site.end_of_text())
            took = [at - sent[study] for study, at in _delivered(site).items() if study in sent]
            return statistics.quantiles(took, n=10)[-1] - QUIET_SECONDS

        running = sites(folder, archive, stack, "none")
        yield {name: lambda site=site: ninth_tenth(site) for name, site in running.items()}


ROW = Row(
    "100 studies of one image, 90 % are delivered after, quiet time taken off",
    _contenders,
    {"ours, study": 0.7, "ours, association": 0.7},
    seconds=40,
    rounds=1,
    is_ratio=False,
)
