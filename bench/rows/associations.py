"""How long as many associations take as there are images, one after the other."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from studies import slices
from support.machine.dicom_programs import dcmsend, storescp
from support.sites.receiving import receiving
from table import Row


def _sending(port: int, files: list[Path]) -> float:
    began = perf_counter()
    for file in files:
        assert dcmsend(port, file).acknowledged == 1
    return perf_counter() - began


@contextmanager
def _contenders(folder: Path, small: bool) -> Iterator[Mapping[str, Callable[[], float]]]:
    (study,) = slices(folder / "study", 5 if small else 100)
    files = sorted(study.iterdir())
    with (
        storescp(folder / "plain", "+B") as plain,
        receiving(folder / "s", "study", quiet_seconds=10) as by_study,
        receiving(folder / "a", "association", quiet_seconds=10) as by_association,
    ):
        ports = {"storescp +B": plain, "ours, study": by_study.port, "ours, association": by_association.port}
        yield {name: lambda port=port: _sending(port, files) for name, port in ports.items()}


ROW = Row("100 associations of one image", _contenders, {"ours, study": 1.2, "ours, association": 1.2}, seconds=45)
