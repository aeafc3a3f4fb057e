"""Compare a disc, guards and read-back included, with xorriso alone on the same tree and with Orthanc's archive.

`python bench/disc.py [FOLDER | COUNT]`: interleaved rounds over the study in FOLDER, else over COUNT slices (500)
made of pydicom's small CT; the table has medians, and the medians of the ratios within each round: to xorriso as
everybody calls it, and to xorriso as we do, which looks more often whether it is done. Orthanc compresses, we do
not: its archive is smaller, and on a slow line the whole may be faster for it (docs/adr/0006-disc.md).
"""

import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
import requests
from pydicom.data import get_testdata_file

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.machine.dicom_programs import orthanc, program
from support.machine.process_memory import Peak

from pipeline.disc.make.make import make_disc
from pipeline.disc.make.writing import image_argv
from pipeline.disc.model import DiscOptions, SourceFile

ROUNDS = 5


def synthetic(folder: Path, count: int = 500) -> Path:
    """Write `count` slices of 512 x 512, each a little different."""
    data_set = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    pixels = np.tile(data_set.pixel_array, (4, 4)).astype("<i2")
    data_set.Rows, data_set.Columns = pixels.shape
    noise = np.random.default_rng(1).integers(-20, 20, pixels.shape, "i2")
    folder.mkdir()
    for number in range(count):
        data_set.SOPInstanceUID = f"1.2.3.4.{number + 1}"
        data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
        data_set.InstanceNumber = number + 1
        data_set.PixelData = (np.roll(pixels, number) + np.roll(noise, 7 * number)).tobytes()
        data_set.save_as(folder / f"{number:05d}")
    return folder


def timed(function: Callable[[], object]) -> float:
    """Return the seconds it took."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def xorriso_alone(grafts: Path, target: Path) -> None:
    """Write the image by xorriso as everybody calls it, and nothing else."""
    argv = [program("xorriso"), "-as", "mkisofs", "-quiet", "-iso-level", "1", "-J", "-r", "-f", "-V", "BENCH"]
    argv += ["-o", str(target), "-graft-points", "-path-list", str(grafts)]
    subprocess.run(argv, check=True, capture_output=True)
    target.unlink()


def xorriso_as_we_call_it(grafts: Path, target: Path) -> None:
    """Write the image by xorriso, told to look more often whether it is done."""
    argv = image_argv(Path(program("xorriso")), grafts, target, "BENCH")
    subprocess.run([*argv], check=True, capture_output=True)
    target.unlink()


def ratio(seconds: list[float], base: list[float]) -> float:
    """Return the median of the ratios within each round."""
    return statistics.median(one / other for one, other in zip(seconds, base, strict=True))


def disc(sources: list[SourceFile], target: Path) -> None:
    """Make the whole disc."""
    make_disc(sources, target, DiscOptions(made_at=datetime.now(UTC)))
    target.unlink()


def orthanc_archive(study: str, rest: str) -> tuple[float, float, int]:
    """Return seconds to the first byte, to the last, and bytes, of Orthanc's archive with a DICOMDIR."""
    start = time.perf_counter()
    with requests.get(f"{rest}/studies/{study}/media", stream=True, timeout=600) as answer:
        answer.raise_for_status()
        pieces = answer.iter_content(1 << 20)
        size = len(next(pieces))
        first = time.perf_counter() - start
        size += sum(len(piece) for piece in pieces)
    return first, time.perf_counter() - start, size


def main() -> None:
    """Run the rounds and print the table."""
    with tempfile.TemporaryDirectory(prefix="bench-disc-", dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        wanted = sys.argv[1] if len(sys.argv) > 1 else "500"
        study = synthetic(folder / "study", int(wanted)) if wanted.isdigit() else Path(wanted)
        files = sorted(path for path in study.rglob("*") if path.is_file())
        unknown = [SourceFile(path) for path in files]
        known = [SourceFile(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
        grafts = folder / "grafts"
        names = (f"DICOM/ST000001/SE000001/IM{number:06d}" for number in range(1, len(files) + 1))
        grafts.write_text("".join(f"{name}={path.absolute()}\n" for name, path in zip(names, files, strict=True)))
        rows: dict[str, list[float]] = {
            "xorriso alone": [],
            "the same, as we call it": [],
            "disc, hashes known": [],
            "disc, hashes not known": [],
        }
        for _ in range(ROUNDS):
            rows["xorriso alone"].append(timed(lambda: xorriso_alone(grafts, folder / "x.iso")))
            rows["the same, as we call it"].append(timed(lambda: xorriso_as_we_call_it(grafts, folder / "x.iso")))
            rows["disc, hashes known"].append(timed(lambda: disc(known, folder / "k.iso")))
            rows["disc, hashes not known"].append(timed(lambda: disc(unknown, folder / "u.iso")))
        with Peak() as peak:  # by itself: who watches takes time from who is watched
            disc(unknown, folder / "u.iso")
        size = sum(path.stat().st_size for path in files)
        print(f"{len(files)} objects, {size / 1e6:.0f} MB; peak memory of all processes {peak.bytes / 1e6:.0f} MB")
        print(f"load of the machine meanwhile: {os.getloadavg()[1]:.1f} on {os.cpu_count()} cores")
        for name_of, seconds in rows.items():
            spread = f"{min(seconds):.2f}-{max(seconds):.2f}"
            ratios = (ratio(seconds, base) for base in (rows["xorriso alone"], rows["the same, as we call it"]))
            shown = ", ".join(f"{one:.2f}" for one in ratios)
            print(f"{name_of:24} {statistics.median(seconds):7.2f} s ({spread})  {shown} x xorriso")
        if shutil.which("Orthanc"):
            compare_with_orthanc(files, folder, statistics.median(rows["disc, hashes not known"]))


def compare_with_orthanc(files: list[Path], folder: Path, ours: float) -> None:
    """Print what Orthanc's archive of the same study takes, once."""
    with orthanc(folder / "orthanc", StorageCompression=False) as archive:
        for path in files:
            requests.post(f"{archive.rest}/instances", data=path.read_bytes(), timeout=60).raise_for_status()
        (study,) = requests.get(f"{archive.rest}/studies", timeout=60).json()
        first, last, size = orthanc_archive(study, archive.rest)
    print(
        f"{'Orthanc /media':24} {last:7.2f} s, first byte after {first:.2f} s, {size / 1e6:.0f} MB compressed, "
        f"length not told beforehand; {last / ours:.1f} x ours, which is not compressed"
    )


if __name__ == "__main__":
    main()
