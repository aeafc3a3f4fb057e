"""Read every file that is to be on the disc, once: what it is, whether it can be there, and what it hashes to."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.media.entry import Entry, Unreadable, read
from pipeline.media.model import LeftOut, Source
from pipeline.model import InstanceKey

_PIECE = 1 << 20


@dataclass(slots=True)
class Survey:
    """What was found: objects, each key once, unfit ones among them; files that are no objects; repetitions."""

    entries: list[Entry] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    duplicates: int = 0


def survey(sources: Sequence[Source], scratch: Path, progress: Callable[[int], None]) -> Survey:
    """Return what the sources are; a file is hashed beside its reading, unless its hash is known."""
    found = Survey()
    known: dict[InstanceKey, Entry] = {}
    pool: dict[bytes, bytes] = {}
    with ThreadPoolExecutor(1, thread_name_prefix="hash") as beside:
        for number, (source, sha256) in enumerate(zip(sources, beside.map(_sha256, sources), strict=True), 1):
            try:
                _enter(_traced(read(source.path, sha256, scratch, pool), source), known, found)
            except Unreadable as reason:
                found.left_out.append(LeftOut(source.path, source.key, str(reason)))
            progress(number)
    return found


def _traced(entry: Entry, source: Source) -> Entry:
    """Return the object with what is known of the file it once was; raises Unreadable where it is another."""
    if source.key not in {None, entry.key}:
        raise Unreadable("its file holds another object than the one it is known for")
    if source.received_sha256 is None:
        return entry
    return replace(entry, source_sha256=source.received_sha256, decoded_from=source.decoded_from)


def _enter(entry: Entry, known: dict[InstanceKey, Entry], found: Survey) -> None:
    first = known.setdefault(entry.key, entry)
    if first is entry:
        found.entries.append(entry)
    elif first.sha256 == entry.sha256 or _same_data_set(first, entry):
        found.duplicates += 1
    else:
        reason = "another file of the same UIDs came first and is there; this one differs from it"
        found.left_out.append(LeftOut(entry.source, entry.key, reason))


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


def _sha256(source: Source) -> str:
    """Return the file's hash, "" where it cannot be read, which whoever reads it next finds out, too."""
    if source.sha256:
        return source.sha256
    try:
        with source.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
