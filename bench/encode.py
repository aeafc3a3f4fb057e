"""Compare ways to share JPEG 2000 encoding and its proof among cores (docs/adr/0003).

`python bench/encode.py [FOLDER]`: every way in turn over the uncompressed instances of FOLDER (pydicom's small
CT without one), several rounds, the order changing; the table has medians and their ratio to one process.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pydicom
from imagecodecs import jpeg2k_encode
from openjpeg.utils import decode
from pydicom.data import get_testdata_file

from pipeline.dicom.pixels.layout import PixelLayout

ROUNDS = 5
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
WIDE = "threads inside a frame"


@dataclass(frozen=True)
class Slice:
    """One frame as it was received."""

    layout: PixelLayout
    pixels: bytes

    @property
    def array(self) -> np.ndarray:
        """Return the samples."""
        return self.layout.array(memoryview(self.pixels))


def encode(one: Slice, threads: int = 1) -> bytes:
    """Encode without proof."""
    return jpeg2k_encode(
        one.array,
        level=0,
        codecformat="J2K",
        reversible=True,
        bitspersample=one.layout.bits_stored,
        mct=one.layout.photometric_interpretation == "RGB",
        numthreads=threads,
    )


def prove(one: Slice, frame: bytes) -> None:
    """Decode and compare."""
    if one.layout.piece(decode(frame, j2k_format=0)) != one.pixels:
        raise AssertionError("not reversible")


def both(one: Slice, threads: int = 1) -> int:
    """Encode and prove; return the encoded length."""
    frame = encode(one, threads)
    prove(one, frame)
    return len(frame)


def wide(one: Slice) -> int:
    """Encode with a thread for each core, and prove."""
    return both(one, CORES)


def slices_of(files: Sequence[Path]) -> list[Slice]:
    """Read the frames."""
    found = []
    for file in files:
        dataset = pydicom.dcmread(file)
        layout = PixelLayout.of(dataset, "OW")
        found += [Slice(layout, bytes(piece)) for piece in layout.pieces(layout.in_order(dataset.PixelData))]
    return found


def ways(processes: Executor, threads: Executor) -> dict[str, Callable[[list[Slice]], object]]:
    """Return what is compared, by name."""

    def encode_in_threads_prove_in_processes(slices: list[Slice]) -> None:
        frames = threads.map(encode, slices)
        list(processes.map(prove, slices, frames))

    return {
        "one process": lambda slices: [both(one) for one in slices],
        "one process, encoding only": lambda slices: [encode(one) for one in slices],
        f"{CORES} processes": lambda slices: list(processes.map(both, slices)),
        f"{CORES} threads": lambda slices: list(threads.map(both, slices)),
        f"{CORES} threads encode, {CORES} processes prove": encode_in_threads_prove_in_processes,
        f"one process, {CORES} {WIDE}": lambda slices: [wide(one) for one in slices],
        f"{CORES} processes, {CORES} {WIDE} each": lambda slices: list(processes.map(wide, slices)),
    }


def main() -> None:
    """Print the table."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    files = (
        sorted(f for f in folder.rglob("*") if f.is_file())
        if folder
        else [Path(get_testdata_file("CT_small.dcm"))]
    )
    slices = slices_of(files) if folder else slices_of(files) * 40
    total = sum(len(one.pixels) for one in slices)
    ratio = total / sum(len(encode(one)) for one in slices)
    print(f"{len(slices)} frames, {total / 1e6:.1f} MB, compression {ratio:.2f}")
    with ProcessPoolExecutor(CORES, get_context("spawn")) as processes, ThreadPoolExecutor(CORES) as threads:
        arms = ways(processes, threads)
        seconds: dict[str, list[float]] = {name: [] for name in arms}
        list(processes.map(both, slices))  # the processes have started and imported
        for turn in range(ROUNDS):
            names = list(arms)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                start = time.perf_counter()
                arms[name](slices)
                seconds[name].append(time.perf_counter() - start)
    base = statistics.median(seconds["one process"])
    for name, taken in seconds.items():
        median = statistics.median(taken)
        print(f"{name:45} {median:7.2f} s {total / median / 1e6:7.1f} MB/s {base / median:6.2f}")


if __name__ == "__main__":
    main()
