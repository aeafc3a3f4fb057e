"""Read every source file of the disc once: what it is, whether it can be on a disc, and its hash."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from pipeline.disc.formats.parallel import spread
from pipeline.disc.model import LeftOut, SourceFile
from pipeline.disc.objects.entry import WANTED, Entry, UnreadableObject, entry_of
from pipeline.disc.objects.raw import ReadTask, raws
from pipeline.model import InstanceKey, LeftOutCode
from pipeline.processes.limits import SMALLEST_BOUND
from pipeline.processes.process_pool import ProcessPool

MANY = 400  # Files; for fewer, starting the pool's processes takes longer than reading them here.
_BATCH = 32  # Files.
_LARGEST_MAPPED = SMALLEST_BOUND // 2  # Bytes; larger files are read here.
_PIECE = 1 << 20


@dataclass(slots=True)
class SourceObjects:
    """The sources as read: objects, each key once, including unfit ones; files that are no objects; repetitions.

    `others` have the UIDs of an included object, but other content: they are left out.
    """

    entries: list[Entry] = field(default_factory=list)
    others: list[Entry] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    duplicates: int = 0


def survey(
    sources: Sequence[SourceFile], scratch: Path, pool: ProcessPool, progress: Callable[[int], None]
) -> SourceObjects:
    """Return what the sources are; a file is hashed unless its hash is known."""
    found = SourceObjects()
    known: dict[InstanceKey, Entry] = {}
    strings: dict[bytes, bytes] = {}
    batches = [sources[at : at + _BATCH] for at in range(0, len(sources), _BATCH)]
    tasks = (ReadTask(tuple((one.path, one.sha256) for one in batch), WANTED, scratch) for batch in batches)
    is_for_processes = len(sources) > MANY and all(map(_may_be_mapped, sources))
    answers = spread(raws, tasks, pool if is_for_processes else None)
    for number, (source, raw) in enumerate(zip(sources, chain.from_iterable(answers), strict=True), 1):
        try:
            _enter(_as_known(entry_of(source.path, raw, strings), source), known, found)
        except UnreadableObject as reason:
            found.left_out.append(LeftOut(source.path, source.key, reason.code, str(reason)))
        progress(number)
    return found


def _may_be_mapped(source: SourceFile) -> bool:
    """Tell whether a process with bounded memory can map the file; a missing file counts as small."""
    try:
        return source.path.stat().st_size <= _LARGEST_MAPPED
    except OSError:
        return True


def _as_known(entry: Entry, source: SourceFile) -> Entry:
    """Return the object; raises UnreadableObject if it is another one than the ledger says."""
    if source.key not in {None, entry.key}:
        words = "its file holds another object than the one it is known for"
        raise UnreadableObject(words, LeftOutCode.OTHER_CONTENT)
    return entry


def _enter(entry: Entry, known: dict[InstanceKey, Entry], found: SourceObjects) -> None:
    first = known.setdefault(entry.key, entry)
    if first is entry:
        found.entries.append(entry)
    elif (first.sha256 and first.sha256 == entry.sha256) or _same_data_set(first, entry):
        found.duplicates += 1
    else:
        reason = "another file of the same UIDs came first and is there; this one differs from it"
        found.left_out.append(LeftOut(entry.source, entry.key, LeftOutCode.OTHER_CONTENT, reason))
        found.others.append(entry)


def _same_data_set(one: Entry, other: Entry) -> bool:
    """Tell whether two files differ in their file meta information only, which names the sender."""
    if one.size - one.data_set != other.size - other.data_set:
        return False
    with one.path.open("rb") as first, other.path.open("rb") as second:
        first.seek(one.data_set)
        second.seek(other.data_set)
        while piece := first.read(_PIECE):
            if piece != second.read(_PIECE):
                return False
    return True
