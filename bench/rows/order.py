"""From the link of the HIS to the last byte of the disc image, beside a C-MOVE and xorriso alone."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from time import perf_counter

import pydicom
from disc import xorriso_alone
from order import move, ours, pacs
from studies import slices
from support.machine.dicom_programs import free_port
from table import Row


def _image(files: list[Path], folder: Path) -> float:
    grafts = folder / "grafts"
    grafts.write_text("".join(f"/DICOM/I{number:07}={file}\n" for number, file in enumerate(files)))
    began = perf_counter()
    xorriso_alone(grafts, folder / "image.iso")
    return perf_counter() - began


@contextmanager
def _contenders(folder: Path, small: bool) -> Iterator[Mapping[str, Callable[[], float]]]:
    (study,) = slices(folder / "study", 10 if small else 500)
    files = sorted(study.iterdir())
    for file in files:
        data_set = pydicom.dcmread(file)
        data_set.AccessionNumber = "BENCH1"
        data_set.save_as(file)
    uid = str(pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
    ports, numbers = {"CDRECORD": free_port(), "BENCH": free_port()}, count()
    with pacs(folder / "pacs", files, ports) as archive:

        def theirs() -> float:
            moved = move(archive, folder / f"in{next(numbers)}", ports["BENCH"], uid, len(files))
            return moved["movescu alone"] + _image(files, folder)

        def by_link() -> float:
            asked, _ = ours(folder / f"site{next(numbers)}", archive, ports["CDRECORD"], "BENCH1")
            return asked["to the last byte"]

        yield {"movescu + xorriso": theirs, "ours": by_link}


ROW = Row("HIS link to last byte, 500 CT", _contenders, {"ours": 1.8}, seconds=60)
