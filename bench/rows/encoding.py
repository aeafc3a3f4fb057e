"""One CT encoded reversibly, in one process: ours proves it by decoding it again, gdcmconv does not."""

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from types import ModuleType

import pydicom
from studies import slices
from support.machine.dicom_programs import ENVIRONMENT, program
from table import Row

from pipeline.dicom.encodings import htj2k, j2k


def _by_gdcmconv(files: list[Path], target: Path) -> float:
    began = perf_counter()
    for file in files:
        argv = [program("gdcmconv"), "--j2k", str(file), str(target)]
        subprocess.run(argv, env=ENVIRONMENT, check=True, capture_output=True)
    return (perf_counter() - began) / len(files) * 1000


def _by_us(files: list[Path], codec: ModuleType) -> float:
    began = perf_counter()
    for file in files:
        header = pydicom.dcmread(file)
        pixels = header.PixelData
        del header.PixelData
        codec.encode(header, pixels, "OW")
    return (perf_counter() - began) / len(files) * 1000


@contextmanager
def _contenders(folder: Path, small: bool) -> Iterator[Mapping[str, Callable[[], float]]]:
    (study,) = slices(folder / "study", 2 if small else 30)
    files = sorted(study.iterdir())
    yield {
        "gdcmconv --j2k": lambda: _by_gdcmconv(files, folder / "out.dcm"),
        "ours, j2k": lambda: _by_us(files, j2k),
        "ours, htj2k": lambda: _by_us(files, htj2k),
    }


ROW = Row("one CT encoded", _contenders, {}, seconds=15, unit="ms")
