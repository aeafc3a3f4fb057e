"""Convert objects that the medium does not allow in their transfer syntax to Explicit VR Little Endian."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.dicom import decoding
from pipeline.disc.errors import NotAsWritten
from pipeline.disc.model import EXPLICIT, LeftOut, Medium
from pipeline.disc.objects.entry import Entry, UnreadableObject, read
from pipeline.errors import Transient
from pipeline.model import LeftOutCode
from pipeline.processes.limits import to_encode
from pipeline.processes.process_pool import ProcessPool
from pipeline.spool.durable import unlink
from pipeline.spool.hashed_files import sha256_of


@dataclass(frozen=True, slots=True)
class ConversionTask:
    """The object to convert, the file to write, and a folder for temporary files."""

    entry: Entry
    target: Path
    scratch: Path


def must_be_converted(entry: Entry, medium: Medium) -> bool:
    """Tell whether the medium does not allow the transfer syntax, or the file is no valid Part 10 file."""
    return entry.transfer_syntax_uid not in medium.allows or not entry.is_part_10


def size_on(entry: Entry, medium: Medium) -> int:
    """Return the approximate size of the object on the medium in bytes."""
    return entry.native_size if must_be_converted(entry, medium) else entry.size


def convert(task: ConversionTask) -> Entry:
    """Write an object in Explicit VR Little Endian, read the result back and return its entry.

    Raises:
        NotDecoded: no decoder of this machine can read the object.
        NotAsWritten: the object's file has changed, or the result is another object.
    """
    if sha256_of(task.entry.path) != task.entry.sha256:
        raise NotAsWritten("an object's file has changed since it was received")
    decoded = decoding.decode(decoding.DecodingTask(task.entry.path, task.target, task.scratch))
    try:
        made = read(decoded.path, decoded.sha256, task.scratch)
    except UnreadableObject as error:
        raise NotAsWritten(f"what was decoded cannot be read: {error}") from error
    if (made.key, made.sop_class_uid, made.transfer_syntax_uid) != (
        task.entry.key,
        task.entry.sop_class_uid,
        EXPLICIT,
    ):
        raise NotAsWritten("what was decoded is another object")
    before = task.entry.decoded_from or task.entry.transfer_syntax_uid
    return replace(
        made,
        source=task.entry.source,
        source_sha256=task.entry.source_sha256,
        decoded_from=before if before != EXPLICIT else None,
    )


def converted(
    entries: Sequence[Entry], medium: Medium, scratch: Path, pool: ProcessPool, progress: Callable[[int], None]
) -> tuple[list[Entry], list[LeftOut]]:
    """Return the objects for the medium, and those that cannot be converted.

    `progress` gets the number of objects done. Raises the first Transient error of a conversion, as a full disk.
    """
    folder = scratch / "converted"
    folder.mkdir(exist_ok=True)
    ready = [entry for entry in entries if not must_be_converted(entry, medium)]
    tasks = [
        ConversionTask(entry, folder / f"{number:06d}", scratch)
        for number, entry in enumerate(entries)
        if must_be_converted(entry, medium)
    ]
    left_out: list[LeftOut] = []
    outcomes = pool.each(convert, tasks, lambda task: to_encode(task.entry.path))
    for number, (task, outcome) in enumerate(outcomes, 1):
        if isinstance(outcome, Transient):
            raise outcome
        if isinstance(outcome, Exception):
            unlink(task.target, missing_ok=True)
            code = outcome.code if isinstance(outcome, decoding.NotDecoded) else LeftOutCode.NOT_CONVERTED
            left_out.append(LeftOut(task.entry.source, task.entry.key, code, str(outcome)))
        elif outcome.unfit:
            left_out.append(LeftOut(task.entry.source, task.entry.key, *outcome.unfit))
        else:
            ready.append(outcome)
        progress(number)
    return ready, left_out
