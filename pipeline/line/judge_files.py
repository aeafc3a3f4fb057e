"""Judge the files of an arrival: misread by storescp, of no patient, the first of its key, duplicate, conflict.

Identity is (Study, Series, SOP Instance UID). The first received wins. A *duplicate* has equal bytes of the data
set or, if bytes differ, an equal data set with equal decoded pixels (docs/design.md). Any other file under a known
key is a conflict: kept, never sent automatically.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.dcmtk.storescp_log import StoreRequest, StorescpLog, loss
from pipeline.dicom.part10 import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
from pipeline.dicom.same_content import Incomparable
from pipeline.errors import Transient
from pipeline.line.identify import ArrivalContents, IdentifiedFile
from pipeline.model import InstanceCode, InstanceKey, InstanceState
from pipeline.spool.spool import SAID

LONGEST_LINE = 4096  # Bytes; storescp writes no longer lines.
CUT_OFF = (
    "its pixels are not those that its attributes describe: storescp takes a deflated data set that is cut off "
    "for a whole one and says nothing; in association mode it would be seen"
)


def with_objections(contents: ArrivalContents, folder: Path, *, require_patient: bool) -> ArrivalContents:
    """Return the contents of an arrival, each file with the objection to it as its problem.

    `require_patient` is the receiver's setting: every instance has the elements Patient's Name and Patient ID,
    possibly empty (PS3.3 table C.7-1, type 2); an instance without them has lost them on its way.
    """
    said = {Path(request.file).name: request for request in _said_in(folder)}

    def objected(found: IdentifiedFile) -> IdentifiedFile:
        request = said.get(found.file)
        if found.problem:
            return found
        if request and (misread := loss(request.complaints)):
            return replace(found, problem=misread, code=InstanceCode.MISREAD)
        if contents.envelope is None and _may_be_cut_off(found):
            return replace(found, problem=CUT_OFF, code=InstanceCode.MISREAD)
        if require_patient and found.absent:
            return replace(found, problem=_without_patient(found.absent), code=InstanceCode.NO_PATIENT)
        return found

    return replace(contents, found=tuple(map(objected, contents.found)))


def _may_be_cut_off(found: IdentifiedFile) -> bool:
    """Say whether a deflated data set may have been cut off while storescp received it.

    storescp fills the truncated value with bytes that nobody sent, and leaves out the elements that follow.
    """
    return found.lacks_pixels and found.transfer_syntax_uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN


def _without_patient(absent: tuple[str, ...]) -> str:
    return f"it has no {' and no '.join(absent)}: nobody could tell whose it is (require_patient)"


def _said_in(folder: Path) -> Iterator[StoreRequest]:
    """Yield storescp's log lines for each object, from the folder; in association mode there are none."""
    for path in sorted(folder.glob(f"{SAID}*")):
        log = StorescpLog()
        with path.open("rb") as file:
            while line := file.readline(LONGEST_LINE):
                if complete := log.hear(line.decode("utf-8", "replace").strip()):
                    yield complete
        if last := log.end():
            yield last


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
