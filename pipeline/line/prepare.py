"""Prepare one instance for its destinations: coerce the header, encode the pixels, prove the result.

This runs in the pool's processes. A step that fails stops this instance and says why; the original stays
unchanged, and no unprocessed instance is ever handed on (docs/facts.md, What others lost data by).
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydicom import Dataset
from pydicom.errors import BytesLengthException

from pipeline.coercions import Rule, coerce
from pipeline.dicom import encodings, part10
from pipeline.dicom.attributes.elements import named
from pipeline.dicom.copied_instance import CopiedInstance
from pipeline.dicom.encodings import Encoded, NotEncoded
from pipeline.dicom.header import add_file_meta, read_attributes, rest_of, unreadable_in, with_rest, write_data_set
from pipeline.dicom.part10 import Bytes, DataSetLayout, Malformed, Mend
from pipeline.dicom.pixels.encapsulation import attach
from pipeline.dicom.reading import data_set_of
from pipeline.errors import Permanent
from pipeline.line import encoded_ahead
from pipeline.line.identify import says_what_it_is
from pipeline.model import Change, InstanceKey, Origin
from pipeline.spool.durable import rename, unlink
from pipeline.spool.hashed_files import FileState, sha256_of, state_of

# pydicom raises these when a malformed value is read.
UNREADABLE = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    BytesLengthException,
)
IDENTITY = (0x0020000D, 0x0020000E, 0x00080018)


@dataclass(frozen=True, slots=True)
class PrepareTask:
    """One instance to prepare: the received file, its identity, and the encodings its destinations ask for."""

    instance: int
    source: Path
    received_sha256: str
    key: InstanceKey
    origin: Origin
    rules: Sequence[Rule]
    encodings: tuple[str, ...]
    target: Path  # Outputs are named <target>.<encoding>.<start of their SHA-256>.dcm.
    scratch: Path
    ahead: Path | None = None  # The folder in which `encoded_ahead` keeps encoded pixels.
    hashed_in: FileState | None = field(
        default=None, compare=False
    )  # The state in which the file had `received_sha256`; None if it must be hashed to know whether it still has.


@dataclass(frozen=True, slots=True)
class PreparedFile:
    """The file for an `encoding`; `reason` says why it is not encoded, if it is not."""

    encoding: str
    path: Path
    sha256: str
    size: int  # Bytes.
    transfer_syntax_uid: str
    reason: str | None = None
    state: FileState | None = field(
        default=None, compare=False
    )  # The state in which it was hashed; None if it was not hashed now.


@dataclass(frozen=True, slots=True)
class Prepared:
    """An instance that is ready to be sent: its files, what was changed, and lengths and hashes of its pixels."""

    changes: tuple[Change, ...]
    outputs: tuple[PreparedFile, ...]
    pixel_length: int | None = None
    pixel_md5: str | None = None
    pixel_sha256: str | None = None
    encoded_length: int | None = None
    mends: tuple[Mend, ...] = ()  # Corrections of the encoding, made before any rule applied.

    @property
    def account(self) -> list[dict[str, str | None]]:
        """Return all changes to the received attributes, for the ledger and for people."""
        mends = [(named(mend.tag), None, None, f"mended: {mend.correction}") for mend in self.mends]
        changes = [(change.keyword, change.before, change.after, change.rule) for change in self.changes]
        return [
            {"keyword": keyword, "before": before, "after": after, "rule": rule}
            for keyword, before, after, rule in (*dict.fromkeys(mends), *changes)
        ]


def load_encodings(_: str) -> None:
    """Import every encoding, so that the first instance does not wait for the imports."""
    for name in encodings.names():
        encodings.named(name)


def prepare(task: PrepareTask) -> Prepared:
    """Return the files to send for one instance, one for each encoding.

    Raises:
        Permanent: the file is no longer the one that was received, the instance cannot be coerced, or the result
            does not read back: quarantine it.
    """
    _require_as_received(task)
    try:
        with data_set_of(task.source, task.scratch) as (data, layout):
            return _prepare(task, data, layout)
    except Malformed as malformed:
        raise Permanent(f"the file has changed since it was taken in: {malformed}") from malformed
    except (*UNREADABLE, OSError, EOFError) as error:
        if (
            isinstance(error, OSError) and error.errno is not None
        ):  # The system sets a number; an OSError without a number comes from pydicom.
            raise
        raise Permanent(_unreadable(task, error)) from None  # The error's own text may contain a person's name.


def _require_as_received(task: PrepareTask) -> None:
    """Raise Permanent if the file has changed; it is hashed unless it still is in the state it was hashed in."""
    is_known = task.hashed_in is not None and state_of(task.source.stat()) == task.hashed_in
    if not is_known and sha256_of(task.source) != task.received_sha256:
        raise Permanent("the file has changed since it was taken in: its SHA-256 is another")


def _unreadable(task: PrepareTask, error: Exception) -> str:
    """Say which attribute cannot be read, in words, or the kind of error if all can be read."""
    with data_set_of(task.source, task.scratch) as (data, layout):
        name = unreadable_in(data, layout)
    if name:
        return f"the value of {name} cannot be read"
    return f"its attributes cannot be read: they contradict each other or the standard ({type(error).__name__})"


def _prepare(task: PrepareTask, data: Bytes, layout: DataSetLayout) -> Prepared:
    header = read_attributes(data, layout)
    result = coerce(header, task.origin, task.rules)
    rest = rest_of(data, layout)
    whole = header
    if any(encodings.named(name) for name in task.encodings):
        add_file_meta(header, data, layout)
        whole = with_rest(header, rest)
    encoded: list[tuple[Encoded, PreparedFile]] = []
    reasons: dict[str, str | None] = {}
    for name in task.encodings:
        try:
            if made := _encoded(task, name, whole, data, layout):
                encoded.append(made)
            else:
                reasons[name] = None
        except NotEncoded as reason:
            reasons[name] = str(reason)
    outputs = []
    if reasons:
        plain = _plain(task, data, layout, header, result.touched)
        outputs += [replace(plain, encoding=name, reason=reason) for name, reason in reasons.items()]
    outputs += [output for _, output in encoded]
    prepared = Prepared(result.changes, tuple(outputs), mends=layout.mends)
    for one, _ in encoded:
        prepared = replace(
            prepared,
            pixel_length=one.pixel_length,
            pixel_md5=one.pixel_md5,
            pixel_sha256=one.pixel_sha256,
            encoded_length=sum(len(frame) for frame in one.frames),
        )
    return prepared


def _encoded(
    task: PrepareTask, name: str, whole: Dataset, data: Bytes, layout: DataSetLayout
) -> tuple[Encoded, PreparedFile] | None:
    """Return the encoded instance and its file, None if this encoding leaves it unchanged.

    Raises:
        NotEncoded: the instance cannot be encoded, or the result does not read back; send it unencoded.
    """
    if encodings.named(name) is None:
        return None
    try:
        frames = encoded_ahead.encoded(task.ahead, name, whole, *_pixels(name, whole, data, layout))
        return frames, _encapsulated(task, name, attach(whole, frames))
    except (*UNREADABLE, EOFError, Permanent) as error:
        why = str(error) if isinstance(error, Permanent) else _unreadable(task, error)
        raise NotEncoded(f"cannot be written encoded: {why}") from error


def _pixels(name: str, header: Dataset, data: Bytes, layout: DataSetLayout) -> tuple[bytes, str]:
    """Return Pixel Data as it is in the file, and its VR; raises NotEncoded if the header forbids encoding."""
    element = layout.pixels
    if element is None:
        raise NotEncoded("no Pixel Data")
    if element.tag != part10.PIXEL_DATA:
        raise NotEncoded("floating point pixels")
    vr = element.vr.decode("ascii") or "OW"  # PS3.5 A.1: OW in Implicit VR.
    length = 0 if element.undefined_length else element.end - element.value
    if reason := encodings.why_not(name, header, length, vr):
        raise NotEncoded(reason)
    return data[element.value : element.end], vr


def _plain(
    task: PrepareTask, data: Bytes, layout: DataSetLayout, header: Dataset, touched: frozenset[int]
) -> PreparedFile:
    """Return the file of the instance with its coerced attributes and otherwise as received.

    If nothing was changed, this is the original file.
    """
    syntax = layout.transfer_syntax_uid
    if not touched and says_what_it_is(data, layout):
        _require_same(task, [part10.text_of(data, layout.elements.get(tag)) for tag in IDENTITY])
        return PreparedFile("", task.source, task.received_sha256, task.source.stat().st_size, syntax)
    copy = CopiedInstance(data, layout, header, touched)

    def prove(path: Path) -> None:
        if copy.is_deflated:
            _prove(task, path, syntax)
        else:
            _require_same(task, copy.read_back(path, IDENTITY))

    return _made(task, "plain", syntax, copy.write, prove)


def _encapsulated(task: PrepareTask, name: str, whole: Dataset) -> PreparedFile:
    syntax = str(whole.file_meta.TransferSyntaxUID)
    made = _made(
        task, name, syntax, lambda path: write_data_set(path, whole), lambda path: _prove(task, path, syntax)
    )
    return replace(made, encoding=name)


def _made(
    task: PrepareTask,
    name: str,
    transfer_syntax_uid: str,
    write: Callable[[Path], str],
    prove: Callable[[Path], None],
) -> PreparedFile:
    """Return the file that `write` wrote and `prove` read back, under a name that no other content can have.

    Two deliveries may make the same file again at the same time, while a third sends it. A file with its final
    name is therefore complete, and never written again.
    """
    beside = task.target.with_name(f".{task.target.name}.{name}.{secrets.token_hex(4)}")
    try:
        sha256 = write(beside)
        try:
            prove(beside)
        except Malformed as malformed:
            raise Permanent(f"what was written does not read back: {malformed}") from malformed
        if task.hashed_in is not None:  # Then the file was not hashed before it was read.
            _require_as_received(task)
        path = task.target.with_name(f"{task.target.name}.{name}.{sha256[:16]}.dcm")
        rename(beside, path)
    except BaseException:
        unlink(beside, missing_ok=True)
        raise
    status = path.stat()
    return PreparedFile("", path, sha256, status.st_size, transfer_syntax_uid, state=state_of(status))


def _prove(task: PrepareTask, path: Path, transfer_syntax_uid: str) -> None:
    """Walk a whole file to be sent; raises Permanent, or Malformed, if it is not what was to be written."""
    with data_set_of(path, task.scratch) as (data, layout):
        if layout.mends:
            raise Permanent("what was written is not well-formed")
        if layout.transfer_syntax_uid != transfer_syntax_uid:
            raise Permanent("what was written has another transfer syntax than it was to have")
        _require_same(task, [part10.text_of(data, layout.elements.get(tag)) for tag in IDENTITY])


def _require_same(task: PrepareTask, uids: Sequence[str]) -> None:
    if InstanceKey(*uids) != task.key:
        raise Permanent("what was written is another instance than what was received")
