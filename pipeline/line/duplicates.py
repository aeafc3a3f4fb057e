"""Decide what a file is within its scope: the first of its key, the same again, or something else under it.

Identity is (Study, Series, SOP Instance UID). First received wins. *The same* is equal bytes of the data
set, or, where bytes differ, equal data sets with equal decoded pixels (docs/design.md). Everything else under a
known key is a conflict: kept, never sent by itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.dicom.same_content import Incomparable
from pipeline.errors import Transient
from pipeline.line.identify import IdentifiedFile
from pipeline.model import InstanceKey, InstanceState, SetAsideCode


@dataclass(frozen=True, slots=True)
class KnownInstance:
    """Who holds a key already: an earlier instance, by the hash of its data set and where its file lies."""

    data_set_sha256: str
    place: Callable[[], Path | None]  # now: it moves with its arrival; None once the originals have aged out


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """The state of one file, and why, where it does not simply go on."""

    state: InstanceState
    reason: str | None = None
    code: SetAsideCode | None = None


Same = Callable[[Path, Path], bool]


def judge(
    found: IdentifiedFile, folder: Path, holders: Mapping[InstanceKey, KnownInstance], same: Same
) -> FileOutcome:
    """Return what becomes of one file; `same` compares two files element by element, pixels decoded.

    What cannot be compared for good is a conflict: both are kept, one is sent. What cannot be compared now, `same`
    raises, and nothing is decided.
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
        return _compared(holder, path, same)  # it settled meanwhile
    except Incomparable as error:
        return FileOutcome(InstanceState.CONFLICT, f"{other}, and the two cannot be compared: {error}")
    if is_same:
        return FileOutcome(InstanceState.DUPLICATE, "the same instance was received before, encoded otherwise")
    return FileOutcome(InstanceState.CONFLICT, "something else was received before under the same UIDs")
