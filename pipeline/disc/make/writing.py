"""Write the composed disc as an image or a ZIP file, and read it back."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pipeline.disc.errors import NotAsWritten, TooLarge
from pipeline.disc.formats.archive import write_archive
from pipeline.disc.formats.image import image_size, write_image
from pipeline.disc.formats.scratch import check_space
from pipeline.disc.make.composition import ComposedDisc
from pipeline.disc.make.tree import graft_points
from pipeline.disc.make.viewer import ViewerFile
from pipeline.disc.model import CD, DVD, DiscOptions, Medium, Progress
from pipeline.disc.objects.arrangement import Tree
from pipeline.disc.verify.read_back import read_back
from pipeline.processes.process_pool import ProcessPool
from pipeline.spool.durable import flush_path

_IMAGE, _GRAFTS = "image", "image.grafts"


@dataclass(frozen=True, slots=True)
class Making:
    """What every stage of making a disc needs."""

    target: Path
    options: DiscOptions
    viewer: tuple[ViewerFile, ...]
    scratch: Path
    pool: ProcessPool
    progress: Progress


@dataclass(frozen=True, slots=True)
class WrittenDisc:
    """A disc that has been written and read back, and has no name yet."""

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
    """Return the exact size of the image in bytes; raises TooLarge if its medium holds fewer."""
    grafts = making.scratch / _GRAFTS
    grafts.write_bytes(graft_points(composed.tree, making.scratch / "image.links"))
    size = image_size(grafts, making.scratch / _IMAGE, composed.volume_id, making.options.programs)
    check_capacity(size, composed.medium)
    return size


def written_image(composed: ComposedDisc, size: int, making: Making) -> Path:
    """Write the image, whose size was measured as `size` bytes."""
    image, grafts = making.scratch / _IMAGE, making.scratch / _GRAFTS
    check_space(making.scratch, size)
    write_image(
        grafts,
        image,
        composed.volume_id,
        making.options.programs,
        lambda done: making.progress("write", done, size),
    )
    if image.stat().st_size != size:
        raise NotAsWritten(f"the image has {image.stat().st_size:,} bytes, not the {size:,} it was to have")
    return image


def written_archive(composed: ComposedDisc, making: Making) -> Path:
    """Write the ZIP file."""
    size = composed.size
    check_capacity(size, composed.medium)
    check_space(making.scratch, size)
    archive = making.scratch / "archive"
    progress = making.progress
    write_archive(composed.tree, archive, making.options.pass_phrase, lambda done: progress("write", done, size))
    return archive


def proven(composed: ComposedDisc, written: Path, making: Making) -> str:
    """Read the medium back while the system writes it to the disk; return its SHA-256."""
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
        )
        flushed.result()
    return sha256
