"""How long dcmsend takes to hand over one study in one association."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from studies import slices
from support.machine.dicom_programs import dcmsend, storescp
from support.sites.receiving import receiving
from table import Row


def sending(port: int, *paths: Path, count: int) -> float:
    """Return the seconds that a sender takes; every object must be acknowledged."""
    began = perf_counter()
    assert dcmsend(port, *paths).acknowledged == count
    return perf_counter() - began


@contextmanager
def _contenders(folder: Path, small: bool) -> Iterator[Mapping[str, Callable[[], float]]]:
    count = 20 if small else 500
    (study,) = slices(folder / "study", count)
    options = ("+B", "-pdu", "131072")
    with (
        storescp(folder / "plain", *options) as plain,
        receiving(folder / "s", "study", quiet_seconds=10) as by_study,
        receiving(folder / "a", "association", quiet_seconds=10) as by_association,
    ):
        ports = {"storescp +B": plain, "ours, study": by_study.port, "ours, association": by_association.port}
        yield {name: lambda port=port: sending(port, study, count=count) for name, port in ports.items()}


ROW = Row("500 CT in one association", _contenders, {"ours, study": 1.0, "ours, association": 1.0}, seconds=25)
