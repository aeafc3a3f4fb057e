"""Identify every file of an arrival as an instance, by its data set alone.

File names mean nothing. Hidden and empty files are no instances: they are counted, kept, and never sent. A bad
file never delays a good one; its fault becomes its reason (docs/intake.md lists the outcomes).
"""

import hashlib
import mmap
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from stat import S_ISREG

from pipeline.dicom import part10
from pipeline.dicom.part10 import Bytes, DataSetLayout, Malformed, ae_title, lacks_pixels
from pipeline.dicom.patient import Patient, patient_in
from pipeline.dicom.reading import DIRECTORY_STORAGE, UID, data_set_of, values_of
from pipeline.model import InstanceCode, InstanceKey
from pipeline.processes.limits import ProcessLimits, to_read
from pipeline.processes.process_pool import OverLimit, PoolProcessDied, ProcessPool
from pipeline.spool.envelope import ENVELOPE, Envelope, envelope_of
from pipeline.spool.hashed_files import MOST, PIECE, FilesByState, FileState, state_of
from pipeline.spool.spool import SAID

ACCOUNT = "account.json"
PATIENT = {0x00100010: "Patient's Name (0010,0010)", 0x00100020: "Patient ID (0010,0020)"}
SOP_INSTANCE_UID = 0x00080018
SAME_IN_META = ((0x00020002, 0x00080016), (0x00020003, 0x00080018))  # SOP Class and Instance UID
TRANSFER_SYNTAX_UID = 0x00020010
BODY_PART_EXAMINED = 0x00180015
READ_AT_ONCE = 16  # Files that are sent to a process together; each takes it two milliseconds.
LONGEST_BODY_PART = 16  # Characters of a CS, PS3.5 6.2; no route needs more.
LONGEST_NUMBER, MOST_FRAMES = 12, 2**31 - 1  # Characters and largest value of an IS, PS3.5 6.2.


@dataclass(frozen=True, slots=True)
class IdentifiedFile:
    """The identity of one file.

    `problem` says why the file cannot go on as an instance, `code` which kind of problem it is.

    `state` is the state in which the file was read, None if it changed meanwhile. `says_what_it_is` is the result
    of that function.
    """

    file: str
    size: int
    received_at: float
    received_sha256: str
    data_set_sha256: str | None = None
    transfer_syntax_uid: str | None = None
    sop_class_uid: str | None = None
    key: InstanceKey | None = None
    modality: str | None = None
    accession_number: str | None = None
    frames: int = 1
    body_part: str | None = None
    source_ae_title: str = ""
    patient: Patient | None = None  # As received; never written to the ledger or a log.
    absent: tuple[str, ...] = ()  # Elements of the patient that are absent, not just empty.
    lacks_pixels: bool = False
    says_what_it_is: bool = False
    state: FileState | None = None
    read_at: float | None = field(default=None, compare=False)  # Seconds of the monotonic clock.
    problem: str | None = None
    code: InstanceCode | None = None


@dataclass(frozen=True, slots=True)
class ArrivalContents:
    """The files of an arrival, in the order received."""

    found: tuple[IdentifiedFile, ...]
    hidden_files: int
    empty_files: int
    envelope: Envelope | None


@dataclass(frozen=True, slots=True)
class IdentifyTask:
    """The file to read, and the folder for temporary files."""

    path: Path
    scratch: Path | None


class ReadAhead(FilesByState[IdentifiedFile]):
    """The files that were read before their folder was admitted, so that they are not read and hashed again.

    A file is found by its state, which does not change when its folder is renamed, and changes when the file is
    written to.
    """


def contents_of(
    folder: Path, scratch: Path | None, pool: ProcessPool, ahead: ReadAhead | None = None
) -> ArrivalContents:
    """Read every file of the arrival `folder`; links are not followed, and a faulty file raises nothing.

    Files that were read `ahead` are not read again. Raises Transient if the machine cannot read a file now.
    """
    hidden, empty, files = 0, 0, []
    known: dict[str, IdentifiedFile] = {}
    for name, status in _entries(folder):
        if not _is_received(name, status):
            hidden += name not in {ENVELOPE, ACCOUNT} and not name.startswith(SAID)
        elif not status.st_size:
            empty += 1
        else:
            files.append((status.st_mtime_ns, name))
            if ahead and (found := ahead.take(state_of(status))) and found.file == name:
                known[name] = found
    names = [name for _, name in sorted(files)]
    tasks = [IdentifyTask(folder / name, scratch) for name in names if name not in known]
    known |= {found.file: found for found in found_in(tasks, pool)}
    return ArrivalContents(tuple(known[name] for name in names), hidden, empty, envelope_of(folder))


def load_reading(_: str) -> None:
    """Do nothing; a process that calls this imports the modules that read files, and no pydicom."""


def read_the_rest(
    folder: Path, scratch: Path | None, pool: ProcessPool, ahead: ReadAhead
) -> Iterator[tuple[FileState, IdentifiedFile]]:
    """Read the files of the arrival `folder` that are not in `ahead` yet, and yield their states and results.

    `contents_of` reads those that cannot be read now.
    """
    tasks = (
        IdentifyTask(folder / name, scratch)
        for name, status in _entries(folder)
        if _is_received(name, status) and status.st_size and ahead.look_up(state_of(status)) is None
    )
    for _, state, found in read_ahead(islice(tasks, MOST), pool):  # `ahead` keeps no more.
        yield state, found


def states_in(folder: Path) -> list[FileState]:
    """Return the states of the entries in a folder; an empty list if the folder is gone."""
    try:
        return [state_of(status) for _, status in _entries(folder)]
    except FileNotFoundError:
        return []


def _entries(folder: Path) -> list[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        return [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]


def _is_received(name: str, status: os.stat_result) -> bool:
    return not name.startswith(".") and name != ACCOUNT and S_ISREG(status.st_mode)


def found_in(tasks: Iterable[IdentifyTask], pool: ProcessPool) -> Iterator[IdentifiedFile]:
    """Read files in the pool, each within the limits of its size; raises Transient as `contents_of` does."""
    for task, answer in pool.each(_read, tasks, _limits, READ_AT_ONCE):
        if isinstance(answer, IdentifiedFile):
            yield answer
        elif isinstance(answer, PoolProcessDied):
            yield _unread(
                task.path, str(answer), InstanceCode.OVER_LIMIT if isinstance(answer, OverLimit) else None
            )
        else:
            raise answer


def read_ahead(
    tasks: Iterable[IdentifyTask], pool: ProcessPool
) -> Iterator[tuple[IdentifyTask, FileState, IdentifiedFile]]:
    """Read files that may still be written to; yield those that did not change meanwhile, each with its state.

    A file that cannot be read now is read when it is admitted.
    """
    for task, answer in pool.each(_read, tasks, _limits, READ_AT_ONCE):
        if isinstance(answer, IdentifiedFile) and answer.state and answer.problem is None:
            yield task, answer.state, answer


def _limits(task: IdentifyTask) -> ProcessLimits:
    return to_read(task.path)


def _read(task: IdentifyTask) -> IdentifiedFile:
    return read(task.path, task.scratch)


def _unread(path: Path, problem: str, code: InstanceCode | None = None) -> IdentifiedFile:
    status, sha256 = path.stat(), _hashes(path, 0)[0]
    reason = f"{problem}{_of_what(path)}"
    return IdentifiedFile(path.name, status.st_size, status.st_mtime, sha256, problem=reason, code=code)


def read(path: Path, scratch: Path | None = None) -> IdentifiedFile:
    """Identify one file by its data set and hash it; a deflated data set is inflated, within bounds."""
    read_at, status = time.monotonic(), path.stat()
    size, received_at = status.st_size, status.st_mtime
    try:
        with data_set_of(path, scratch) as (data, layout):
            file_sha256, data_set_sha256 = _hashes(path, layout.data_set)
            state = state_of(status) if state_of(path.stat()) == state_of(status) else None
            hashes = (file_sha256, data_set_sha256)
            found = IdentifiedFile(path.name, size, received_at, *hashes, state=state, read_at=read_at)
            return _identified(found, data, layout)
    except Malformed as malformed:
        return _unread(path, str(malformed))


def _of_what(path: Path) -> str:
    """Name the instance that an unreadable file seems to be, if that much can be read."""
    uid = values_of(path, (SOP_INSTANCE_UID,)).get(SOP_INSTANCE_UID, b"").decode("latin-1").strip(" \0")
    return f" (SOP Instance UID {uid})" if is_uid(uid) else ""


def _identified(found: IdentifiedFile, data: mmap.mmap, layout: DataSetLayout) -> IdentifiedFile:
    def text(tag: int) -> str:
        return part10.text_of(data, layout.elements.get(tag))

    key = InstanceKey(text(0x0020000D), text(0x0020000E), text(0x00080018))
    sop_class = text(0x00080016)
    return replace(
        found,
        transfer_syntax_uid=layout.transfer_syntax_uid,
        sop_class_uid=sop_class,
        key=key,
        modality=text(0x00080060) or None,
        accession_number=text(0x00080050) or None,
        frames=_frames(text(0x00280008)),
        body_part=text(BODY_PART_EXAMINED)[:LONGEST_BODY_PART] or None,
        source_ae_title=_source_of(data, layout),
        patient=patient_in(data, layout),
        absent=tuple(name for tag, name in PATIENT.items() if tag not in layout.elements),
        lacks_pixels=lacks_pixels(data, layout),
        says_what_it_is=says_what_it_is(data, layout),
        problem=next(_problems(key, sop_class, part10.text_of(data, layout.meta.get(0x00020002)), layout), None),
    )


def says_what_it_is(data: Bytes, layout: DataSetLayout) -> bool:
    """Tell whether a file may be sent unchanged: well-formed, and with meta information of the same instance."""
    are_same = all(
        part10.text_of(data, layout.meta.get(there)) == part10.text_of(data, layout.elements.get(here))
        for there, here in SAME_IN_META
    )
    return are_same and layout.has_preamble and not layout.mends and TRANSFER_SYNTAX_UID in layout.meta


def _source_of(data: mmap.mmap, layout: DataSetLayout) -> str:
    """Return the calling AE title that storescp has written (0002,0016), read as in an association's request."""
    element = layout.meta.get(0x00020016)
    return ae_title(bytes(data[element.value : element.end])) if element else ""


def is_uid(text: str) -> bool:
    """Tell whether a text is a UID (PS3.5 9.1); leading zeros in its components are allowed."""
    return len(text) <= 64 and UID.fullmatch(text) is not None


def _frames(text: str) -> int:
    """Return Number of Frames, 1 if it is absent or impossible (IS, PS3.5 6.2)."""
    is_number = text.isascii() and text.isdecimal() and len(text) <= LONGEST_NUMBER
    return max(1, int(text)) if is_number and int(text) <= MOST_FRAMES else 1


def _problems(key: InstanceKey, sop_class: str, media_class: str, layout: DataSetLayout) -> Iterator[str]:
    if media_class == DIRECTORY_STORAGE:
        yield "a DICOMDIR is the index of a medium, not an instance"
    for name, uid in (
        ("SOP Class UID (0008,0016)", sop_class),
        ("Study Instance UID (0020,000D)", key.study_instance_uid),
        ("Series Instance UID (0020,000E)", key.series_instance_uid),
        ("SOP Instance UID (0008,0018)", key.sop_instance_uid),
    ):
        if not uid:
            yield f"the {name} is missing or empty"
        elif not is_uid(uid):
            yield f"the {name} is not a valid UID"
    if contradiction := layout.contradiction:
        yield contradiction


def _hashes(path: Path, data_set: int) -> tuple[str, str]:
    """Return the SHA-256 of the file and of the part after the file meta information, in one reading."""
    whole, rest = hashlib.sha256(), hashlib.sha256()
    piece = memoryview(bytearray(PIECE))
    with path.open("rb", buffering=0) as file:
        at = 0
        while length := file.readinto(piece):
            whole.update(piece[:length])
            rest.update(piece[max(0, data_set - at) : length])
            at += length
    return whole.hexdigest(), rest.hexdigest()
