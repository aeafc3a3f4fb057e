"""Write the composed disc as an image or a ZIP file, and read it back.

xorriso writes the image, ISO 9660 level 1 with Joliet and Rock Ridge, in one sequential run. Objects are neither
copied nor linked: graft points lead from each path on the disc to its file.
"""

import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import dcmtk
from pipeline.config.program_tables import ProgramsTable
from pipeline.disc.errors import NoSpace, NotAsWritten, TooLarge
from pipeline.disc.formats.archive import write_archive
from pipeline.disc.formats.scratch import check_space
from pipeline.disc.make.composition import ComposedDisc
from pipeline.disc.make.viewer import ViewerFile
from pipeline.disc.model import CD, DVD, DiscOptions, Medium, Progress
from pipeline.disc.objects.arrangement import Tree
from pipeline.disc.verify.read_back import Digests, ReadBehind, read_back
from pipeline.errors import Transient
from pipeline.processes.process_pool import ProcessPool
from pipeline.processes.signal_handling import held_back
from pipeline.spool.durable import flush_path, flush_so_far

# In a list of graft points `=` and the backslash have a meaning, and lines end at line breaks. Both characters can
# be quoted in a path on the disc; a source file with such a name is linked under a plain name.
_PLAIN = re.compile(r"[^=\\\x00-\x1f\x7f]+")
_IMAGE, _GRAFTS = "image", "image.grafts"


@dataclass(frozen=True, slots=True)
class Making:
    """The target, options, viewer files, temporary folder, pool and progress callback for making one disc."""

    target: Path
    options: DiscOptions
    viewer: tuple[ViewerFile, ...]
    scratch: Path
    pool: ProcessPool
    progress: Progress


@dataclass(frozen=True, slots=True)
class WrittenDisc:
    """A disc that has been written and read back, and has not been published under its name yet."""

    composed: ComposedDisc
    file: Path
    sha256: str
    patients: Tree


def check_capacity(needed: int, medium: Medium) -> None:
    """Raise TooLarge, with both sizes, if the medium holds fewer bytes."""
    if medium.capacity_bytes is not None and needed > medium.capacity_bytes:
        raise TooLarge(
            f"the disc would be {needed:,} bytes; a {medium.name.upper()} holds {medium.capacity_bytes:,}: "
            f"{_what_holds_more(medium)}",
            needed_bytes=needed,
            capacity_bytes=medium.capacity_bytes,
        )


def _what_holds_more(medium: Medium) -> str:
    more = f'"dvd" holds {DVD.capacity_bytes:,}, ' if medium.name == CD.name else ""
    return f'of `media`, {more}"usb" has no limit, nor has a ZIP file'


def measured(composed: ComposedDisc, making: Making) -> int:
    """Write the list of graft points, and return the exact size of the image in bytes.

    Raises TooLarge if the medium holds fewer bytes, Transient if xorriso does not tell the size.
    """
    grafts = making.scratch / _GRAFTS
    grafts.write_bytes(graft_points(composed.tree, making.scratch / "image.links"))
    size = image_size(grafts, making.scratch / _IMAGE, composed.volume_id, making.options.programs)
    check_capacity(size, composed.medium)
    return size


def written_image(composed: ComposedDisc, size: int, making: Making) -> tuple[Path, Digests]:
    """Write the image; return its path, and the digests of the files that were read meanwhile.

    Raises NotAsWritten unless it has the measured `size` in bytes; NoSpace and Transient as `write_image` does.
    """
    image, grafts = making.scratch / _IMAGE, making.scratch / _GRAFTS
    check_space(making.scratch, size)
    digests = write_image(
        grafts,
        image,
        composed.volume_id,
        making.options.programs,
        lambda done: making.progress("write", done, size),
    )
    if image.stat().st_size != size:
        raise NotAsWritten(f"the image has {image.stat().st_size:,} bytes, not the {size:,} it was to have")
    return image, digests


def written_archive(composed: ComposedDisc, making: Making) -> Path:
    """Write the ZIP file and return its path; raises TooLarge and NoSpace by the size before compression."""
    size = composed.size
    check_capacity(size, composed.medium)
    check_space(making.scratch, size)
    archive = making.scratch / "archive"
    progress = making.progress
    write_archive(composed.tree, archive, making.options.pass_phrase, lambda done: progress("write", done, size))
    return archive


def proven(composed: ComposedDisc, written: Path, digests: Digests, making: Making) -> str:
    """Read the medium back while the system flushes it to the disk; return its SHA-256.

    `digests` are those of files that were read while it was written. Raises NotAsWritten.
    """
    total = composed.size
    with ThreadPoolExecutor(1, thread_name_prefix="flush") as beside:
        flushed = beside.submit(flush_path, written)
        sha256 = read_back(
            written,
            composed.volume_id,
            composed.expected,
            making.options.pass_phrase,
            making.pool,
            lambda done: making.progress("verify", done, total),
            making.options.placeholders,
            hashes_medium=making.options.hashes_image,
            known=digests,
        )
        flushed.result()
    return sha256


if TYPE_CHECKING:
    import subprocess  # Only its type is used; pipeline.dcmtk starts processes.


SECTOR = 2048  # Bytes.


_PATIENCE_SECONDS = 300.0  # xorriso is ended if it writes no byte for so long, because a share or a disk hangs.


_LOOK_SECONDS = 0.01  # Between two looks at what xorriso has written.


_FULL = re.compile(r"No space left|Disk quota exceeded|Insufficient", re.IGNORECASE)


def graft_points(tree: Mapping[str, Path], folder: Path) -> bytes:
    """Return the tree as a list for xorriso; source files with unsuitable names are linked in `folder`."""
    lines = []
    for number, (path, source) in enumerate(tree.items()):
        named = source
        if not _PLAIN.fullmatch(str(source)):
            folder.mkdir(exist_ok=True)
            named = folder / f"{number:06d}"
            named.symlink_to(source)
        quoted = re.sub(r"([=\\])", r"\\\1", path)
        lines.append(f"{quoted}={named}\n")
    return "".join(lines).encode("utf-8", "surrogateescape")


def image_argv(xorriso: Path, graft_points: Path, image: Path, volume_id: str, *more: str) -> tuple[str, ...]:
    """Return the command line; with `-print-size` xorriso prints the size and writes nothing.

    `graft_points` is a file of lines `path on the disc=file`. With `-no_rc` no configuration of the machine
    changes the result. `-pacifier` sets how often xorriso checks whether the image is done; a small disc takes
    less than its default of one second. With `-f` it follows links.
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
) -> Digests:
    """Write the image, read it as far as it is written, and return the digests of the files read so.

    `progress` is called with the number of bytes written, and may raise to cancel.

    Raises:
        NoSpace: the disk is full.
        Transient: xorriso failed, was killed, or made no progress.
    """
    argv = image_argv(dcmtk.program(programs, "xorriso"), graft_points, image, volume_id)
    words = image.with_suffix(".words")
    process = None
    with words.open("wb") as output:
        try:
            with held_back():  # A signal after the start and before the assignment would leave xorriso running.
                process = dcmtk.start(argv, dcmtk.environment(programs), output=output)
            digests = _attend(process, image, progress)
        finally:
            if process is not None:
                process.kill()
                process.wait()
    if process.returncode:
        _explain(process.returncode, words.read_text("utf-8", "replace"))
    return digests


def _attend(process: "subprocess.Popen[bytes]", image: Path, progress: Callable[[int], None]) -> Digests:
    """Read and flush the image as it grows, until the program has ended; return the digests of the files read.

    Raises Transient if the image has not grown for five minutes, OSError if it cannot be flushed.
    """
    size, since, behind = 0, time.monotonic(), ReadBehind(image)
    flushed: Future[None] | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="flush") as beside:  # A signal waits for one flush at most.
        while process.poll() is None:
            if not behind.look(size):
                time.sleep(_LOOK_SECONDS)
            now_size = image.stat().st_size if image.exists() else 0
            if now_size != size:
                size, since = now_size, time.monotonic()
                progress(size)
                if flushed is None or flushed.done():
                    _raise_error_of(flushed)
                    flushed = beside.submit(flush_so_far, image)
            elif time.monotonic() - since > _PATIENCE_SECONDS:
                raise Transient(f"xorriso has written nothing for {_PATIENCE_SECONDS:g} s")
        _raise_error_of(flushed)
    return behind.digests


def _raise_error_of(flushed: Future[None] | None) -> None:
    if flushed is not None:
        flushed.result()


def _explain(exit_code: int, output: str) -> None:
    if _FULL.search(output):
        raise NoSpace("the disk became full while the image was written")
    how = f"was killed by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
    raise Transient(f"xorriso {how}: {_last_words(output)}")


def _last_words(output: str) -> str:
    """Return the last meaningful line of the output, without names in quotes, which may be files'."""
    lines = [line for line in output.splitlines() if line.strip() and not line.startswith("xorriso 1")]
    return re.sub(r"'[^']*'", "a file", lines[-1])[:200] if lines else "it said nothing"
