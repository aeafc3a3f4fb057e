"""What hostile bytes are thrown at, and what must come of it: the decided outcome, in bounded time."""

import contextlib
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from support.hostile import hostile_http, hostile_words

from pipeline.dicom.part10 import Malformed
from pipeline.dicom.same_content import Incomparable, are_same
from pipeline.dicom.walk import walk
from pipeline.dicomweb.response import parse as parse_stow
from pipeline.errors import Configuration, Permanent, StorestowError
from pipeline.line.identify import read
from pipeline.line.prepare import PrepareTask, prepare
from pipeline.model import Origin
from pipeline.receiving.peek import NotAnAssociation
from pipeline.receiving.peek import parse as parse_request
from pipeline.site.settings import load
from pipeline.spool.spool import admit

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SECONDS = 5.0  # for one small input, on a busy machine


def intake(content: bytes, folder: Path) -> None:
    """Every file is an instance or has a reason; what is said of it is plain."""
    path = folder / "instance"
    path.write_bytes(content or b"\0")
    found = read(path, folder)
    assert found.size == path.stat().st_size
    if found.problem is None:
        assert found.key is not None
        for uid in (found.key.study_instance_uid, found.key.series_instance_uid, found.key.sop_instance_uid):
            assert re.fullmatch(r"[0-9.]{1,64}", uid)


def walker(content: bytes, _: Path) -> None:
    """The layout stays within the bytes."""
    try:
        layout = walk(content)
    except Malformed:
        return
    for element in (*layout.meta.values(), *layout.elements.values()):
        assert 0 <= element.start < element.value <= element.end <= len(content)


def preparation(content: bytes, folder: Path) -> None:
    """What intake lets pass is prepared, or refused with a reason; what is written is the same instance."""
    path = folder / "instance"
    path.write_bytes(content or b"\0")
    found = read(path, folder)
    if found.problem or found.key is None:
        return
    origin = Origin("r", "CT1", "STORESTOW", None, MOMENT)
    task = PrepareTask(1, path, found.received_sha256, found.key, origin, (), ("j2k",), folder / "output", folder)
    try:
        prepare(task)
    except Permanent:
        return


def comparison(content: bytes, folder: Path) -> None:
    """Whether two files are the same is answered, or nobody here can tell."""
    one, other = folder / "one", folder / "other"
    one.write_bytes(content or b"\0")
    other.write_bytes(content[:-1] + b"\1" if content else b"\1")
    if any(read(path, folder).problem for path in (one, other)):  # these are never compared
        return
    with contextlib.suppress(Incomparable):
        assert are_same((one, other)) in {True, False}


def request(content: bytes, _: Path) -> None:
    """A request is a clean proposal or no association."""
    try:
        proposal = parse_request(content)
    except NotAnAssociation:
        return
    # Letters beyond ASCII are labels as good as any, and escaped wherever they go.
    assert (proposal.calling_ae_title + proposal.called_ae_title).isprintable()
    assert all(re.fullmatch(r"[0-9.]{1,64}", uid) for uid in proposal.abstract_syntaxes)


def stow(content: bytes, _: Path) -> None:
    """An account, or none."""
    found = parse_stow(content)
    assert found is None or not found.stored.keys() & found.failed.keys()


def site(content: bytes, folder: Path) -> None:
    """A configuration, or sentences that each name the file."""
    file = folder / "site.toml"
    file.write_bytes(content)
    said: list[str] = []
    try:
        load(file)
    except Configuration as error:
        said = str(error).splitlines()
    assert all(line.startswith(str(file)) for line in said), said


def hook(content: bytes, folder: Path) -> None:
    """Whatever path the hook is given, nothing leaves the spool and nothing outside is moved."""
    incoming = folder / "spool" / "incoming" / "r"
    (folder / "spool" / "arrivals").mkdir(parents=True, exist_ok=True)
    incoming.mkdir(parents=True, exist_ok=True)
    outside = folder / "S_outside"
    outside.mkdir(exist_ok=True)
    argument = content.replace(b"\0", b"").decode("utf-8", "surrogateescape")[:3000]
    for path in (argument, f"{incoming}/{argument}", f"{incoming}/S_{argument}"):
        with contextlib.suppress(StorestowError):
            admit(incoming, Path(path))
    assert outside.is_dir()
    assert {entry.name for entry in folder.iterdir()} == {"spool", "S_outside"}


TARGETS: dict[str, Callable[[bytes, Path], None]] = {
    one.__name__: one
    for one in (
        *(intake, walker, preparation, comparison, request, stow, site, hook),
        *(hostile_http.http, hostile_http.parameters, hostile_http.headers),
        *(hostile_words.answers, hostile_words.said, hostile_words.names),
        *(hostile_words.admission, hostile_words.retrieval),
    )
}


def survive(target: str, content: bytes, folder: Path) -> None:
    """Throw `content` at `target`; anything but the decided outcome, or too long a time, fails."""
    began = time.monotonic()
    TARGETS[target](content, folder)
    taken = time.monotonic() - began
    assert taken < SECONDS, f"{taken:.1f} s"
