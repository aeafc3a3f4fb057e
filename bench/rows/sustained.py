"""20 studies of 100 CT by four senders at once, until the archive counts them all, with the quiet time."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from time import perf_counter

from rows_of_delivery import held, sites, wait_for
from studies import slices
from support.machine.dicom_programs import dcmsend, orthanc
from table import Row

SENDERS = 4


@contextmanager
def _contenders(folder: Path, small: bool) -> Iterator[Mapping[str, Callable[[], float]]]:
    studies, instances = (4, 5) if small else (20, 100)
    numbers = count()
    with ExitStack() as stack:
        archive = stack.enter_context(orthanc(folder / "archive"))
        senders = stack.enter_context(ThreadPoolExecutor(SENDERS))

        def through(port: int) -> float:
            place = folder / f"sent{next(numbers)}"
            folders = slices(place, instances, studies)
            before, began = held(archive), perf_counter()
            for sent in senders.map(lambda study: dcmsend(port, study), folders):
                assert sent.acknowledged == instances
            wait_for(archive, before + studies * instances)
            took = perf_counter() - began
            shutil.rmtree(place)
            return took * 1000 / (studies * instances)

        ports = {"dcmsend to the archive": archive.dicom_port}
        ports |= {name: site.port for name, site in sites(folder, archive, stack, "none", "j2k").items()}
        yield {name: lambda port=port: through(port) for name, port in ports.items()}


ROW = Row(
    "20 x 100 CT, 4 senders",
    _contenders,
    dict.fromkeys(("ours, study", "ours, association"), 5.0)
    | dict.fromkeys(("ours, j2k, study", "ours, j2k, association"), 18.0),
    seconds=235,  # Two cores took some 335, 240 of them for JPEG 2000; it is stopped at twice of this.
    unit="ms an instance",
    rounds=1,
    are_goals_ratios=False,
)
