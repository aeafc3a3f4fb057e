"""Decide what a file is within its scope: the first of its key, a duplicate, or a conflict.

Identity is (Study, Series, SOP Instance UID). The first received wins. A *duplicate* has equal bytes of the data
set or, if bytes differ, an equal data set with equal decoded pixels (docs/design.md). Any other file under a known
key is a conflict: kept, never sent automatically.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.dicom.same_content import Incomparable
from pipeline.errors import Transient
from pipeline.line.identify import IdentifiedFile
from pipeline.model import InstanceCode, InstanceKey, InstanceState


@dataclass(frozen=True, slots=True)
class KnownInstance:
    """The earlier instance that holds a key: the hash of its data set and where its file is."""

    data_set_sha256: str
    # Returns the current path, which changes with the arrival's room; None once the originals have been deleted.
    place: Callable[[], Path | None]


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """The state of one file, and the reason if it is not processed further."""

    state: InstanceState
    reason: str | None = None
    code: InstanceCode | None = None


Same = Callable[[Path, Path], bool]


def judge(
    found: IdentifiedFile, folder: Path, holders: Mapping[InstanceKey, KnownInstance], same: Same
) -> FileOutcome:
    """Return the state of one file; `same` compares two files element by element, with decoded pixels.

    Files that can never be compared are a conflict: both are kept, one is sent. If they cannot be compared now,
    `same` raises, and nothing is decided.
    """
    if found.problem or found.key is None or found.data_set_sha256 is None:
        return FileOutcome(InstanceState.QUARANTINED, found.problem, found.code)
    holder = holders.get(found.key)
    if holder is None:
        return FileOutcome(InstanceState.RECEIVED)
    if holder.data_set_sha256 == found.data_set_sha256:
        return FileOutcome(InstanceState.DUPLICATE, "the same data set was received before")
    return _compared(holder, folder / found.file, same)


def _compared(holder: KnownInstance, path: Path, same: Same) -> FileOutcome:
    other, first = "another data set of this UID was received before", holder.place()
    if first is None:
        return FileOutcome(InstanceState.CONFLICT, f"{other}, and its original is no longer kept to compare")
    try:
        is_same = same(first, path)
    except Transient:
        if holder.place() == first:
            raise
        return _compared(holder, path, same)  # The earlier arrival was settled meanwhile.
    except Incomparable as error:
        return FileOutcome(InstanceState.CONFLICT, f"{other}, and the two cannot be compared: {error}")
    if is_same:
        return FileOutcome(InstanceState.DUPLICATE, "the same instance was received before, encoded otherwise")
    return FileOutcome(InstanceState.CONFLICT, "something else was received before under the same UIDs")
