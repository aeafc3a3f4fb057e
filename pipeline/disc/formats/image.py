"""Write the tree of a disc as ISO 9660 level 1 with Joliet and Rock Ridge, by xorriso, in one sequential run."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import dcmtk
from pipeline.config.program_tables import ProgramsTable
from pipeline.disc.errors import NoSpace
from pipeline.errors import Transient
from pipeline.processes.signal_handling import held_back

if TYPE_CHECKING:
    import subprocess  # For its type only; pipeline.dcmtk starts processes.

SECTOR = 2048  # Bytes.
_PATIENCE_SECONDS = 300.0  # Seconds without a byte written: a share that is not mounted, a disk that hangs.
_LOOK_SECONDS = 0.05
_FULL = re.compile(r"No space left|Disk quota exceeded|Insufficient", re.IGNORECASE)


def image_argv(xorriso: Path, graft_points: Path, image: Path, volume_id: str, *more: str) -> tuple[str, ...]:
    """Return the command line; with `-print-size` xorriso prints the size and writes nothing.

    `graft_points` is a file of lines `path on the disc=file`. `-no_rc`: no configuration of the machine changes
    the result. `-pacifier`: this often xorriso checks whether the image is done; its default of once a second is
    longer than a small disc takes. `-f`: links are followed.
    """
    return (
        *(str(xorriso), "-no_rc", "-pacifier", "interval=0.1"),
        *("-as", "mkisofs", "-quiet", "-iso-level", "1", "-J", "-r", "-f"),
        *("-V", volume_id, "-o", str(image), *more, "-graft-points", "-path-list", str(graft_points)),
    )


def image_size(graft_points: Path, image: Path, volume_id: str, programs: ProgramsTable) -> int:
    """Return the exact size of the image in bytes; raises Transient if xorriso does not tell it."""
    argv = image_argv(dcmtk.program(programs, "xorriso"), graft_points, image, volume_id, "-print-size")
    said = dcmtk.run(argv, dcmtk.environment(programs), timeout_seconds=_PATIENCE_SECONDS)
    found = re.search(r"^(\d+)(?=xorriso|\s|$)", said.output, re.MULTILINE)
    if said.exit_code or not found:
        raise Transient(f"xorriso does not tell the size of the image: {_last_words(said.output)}")
    return int(found[1]) * SECTOR


def write_image(
    graft_points: Path, image: Path, volume_id: str, programs: ProgramsTable, progress: Callable[[int], None]
) -> None:
    """Write the image; `progress` is called with the number of bytes written, and may raise to cancel.

    Raises:
        NoSpace: the disk is full.
        Transient: xorriso failed, was killed, or made no progress.
    """
    argv = image_argv(dcmtk.program(programs, "xorriso"), graft_points, image, volume_id)
    words = image.with_suffix(".words")
    process = None
    with words.open("wb") as output:
        try:
            with held_back():  # A signal between its start and our knowledge of it would leave it running.
                process = dcmtk.start(argv, dcmtk.environment(programs), output=output)
            _attend(process, image, progress)
        finally:
            if process is not None:
                process.kill()
                process.wait()
    if process.returncode:
        _explain(process.returncode, words.read_text("utf-8", "replace"))


def _attend(process: "subprocess.Popen[bytes]", image: Path, progress: Callable[[int], None]) -> None:
    """Return when the program has ended; raises Transient if the image has not grown for long."""
    size, since = 0, time.monotonic()
    while process.poll() is None:
        time.sleep(_LOOK_SECONDS)
        now_size = image.stat().st_size if image.exists() else 0
        if now_size != size:
            size, since = now_size, time.monotonic()
            progress(size)
        elif time.monotonic() - since > _PATIENCE_SECONDS:
            raise Transient(f"xorriso has written nothing for {_PATIENCE_SECONDS:g} s")


def _explain(exit_code: int, output: str) -> None:
    if _FULL.search(output):
        raise NoSpace("the disk became full while the image was written")
    how = f"was killed by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
    raise Transient(f"xorriso {how}: {_last_words(output)}")


def _last_words(output: str) -> str:
    """Return the last meaningful line of the output; paths on the disc hold no person's name."""
    lines = [line for line in output.splitlines() if line.strip() and not line.startswith("xorriso 1")]
    return re.sub(r"'[^']*'", "a file", lines[-1])[:200] if lines else "it said nothing"
