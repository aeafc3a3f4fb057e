"""Find objections to readable files: storescp misread a file while receiving, or a file names no patient."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.dcmtk.storescp_log import StoreRequest, StorescpLog, loss
from pipeline.dicom.part10 import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
from pipeline.line.identify import ArrivalContents, IdentifiedFile
from pipeline.model import InstanceCode
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
