"""`storestow check`: everything that can be wrong before a study arrives, each with its remedy."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pipeline.coercions import rules_of
from pipeline.config.certificates import certificates_of
from pipeline.config.receiver_tables import ReceiverTable
from pipeline.dcmtk import profile, programs
from pipeline.dcmtk.holes import holes
from pipeline.dicom.accession import LONGEST_OF_THE_STANDARD
from pipeline.errors import Configuration, StorestowError
from pipeline.ledger import FILE_NAME, Ledger, rerouting
from pipeline.orders.query import echo
from pipeline.receiving.door import require_free_port
from pipeline.receiving.lock import is_receiving, recorded_port
from pipeline.receiving.study import study_hook
from pipeline.site.opening import mapping_of
from pipeline.site.settings import Settings
from pipeline.site.space import Room, free_bytes, judged
from pipeline.site.worker_state import WorkerState, worker_status
from pipeline.spool.spool import Spool, hook_file

Level = Literal["ok", "note", "error", "unreachable"]


ONE_AT_A_TIME = (
    "serves one sender at a time, and a peer that stays connected and says nothing holds up the others for half a "
    "minute; where several modalities send here, or addresses and AE titles are to be checked, write "
    'mode = "association"'
)


_OF_WORKER: dict[WorkerState, tuple[Level, str]] = {
    WorkerState.UP: ("ok", ""),
    WorkerState.DOWN: ("note", ": start it, or see its log for why it ended"),
    WorkerState.STALE: ("error", ": its loop stands still; look at its log, and start it again"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: what, how it is, and in words what was found and what to do."""

    about: str
    level: Level
    text: str


def findings(settings: Settings, *, peers: bool = True) -> Iterator[Finding]:
    """Yield a finding for everything looked at, in the order of the line; `peers` asks the destinations too.

    What two looks stumble over alike is told once.
    """
    told = set()
    for finding in _looked_at(settings, peers=peers):
        if finding.level != "error" or finding.text not in told:
            told.add(finding.text)
            yield finding


def _looked_at(settings: Settings, *, peers: bool) -> Iterator[Finding]:
    spool = Spool(settings.site.spool)
    yield from _tried("spool", spool.prepare, f"{spool.root}: local, writable, one file system")
    yield _space(settings)
    yield from _tried("institution mapping", lambda: mapping_of(settings), _mapping_text(settings))
    yield from _tried("coercion rules", lambda: rules_of(settings), f"{len(settings.coercion)} of the site's own")
    yield from _tried("hook", hook_file, "the hook is in its place")
    yield from _storescp(settings)
    for receiver in settings.receiver:
        yield from _receiver(settings, receiver, spool)
    if not settings.receiver:
        yield Finding("receivers", "note", "no [[receiver]] is configured: nothing can arrive")
    yield from _pacs(settings, peers=peers)
    yield from _shim(settings)
    if peers:
        yield from _worker(spool, [d.name for d in settings.destination])
    for destination in settings.destination if peers else ():
        about = f"destination {destination.name}"
        try:
            problems = list(destination.problems())
        except Configuration as error:
            yield Finding(about, "error", str(error))
            continue
        for problem in problems:
            yield Finding(about, "unreachable", problem.removeprefix(f"{about}: "))
        if not problems:
            yield Finding(about, "ok", f"{destination.kind}: nothing wrong found")
            yield from (Finding(about, "note", note) for note in destination.notes())


def exit_code(found: list[Finding]) -> int:
    """Return 78 for a configuration error, 69 for an unreachable peer, else 0 (sysexits.h)."""
    levels = {finding.level for finding in found}
    return 78 if "error" in levels else 69 if "unreachable" in levels else 0


def as_json(found: list[Finding]) -> dict[str, Any]:
    """Return the shape of `check --json`."""
    return {"findings": [asdict(finding) for finding in found], "exit_code": exit_code(found)}


def refuse_what_is_wrong(settings: Settings) -> None:
    """Raise Configuration with one line an error, before anything starts; peers may well come later."""
    errors = [f"{f.about}: {f.text}" for f in findings(settings, peers=False) if f.level == "error"]
    if errors:
        raise Configuration("\n".join(errors))


def _tried(about: str, look: Callable[[], object], text: str) -> Iterator[Finding]:
    try:
        look()
    except StorestowError as error:
        for line in str(error).splitlines():
            yield Finding(about, "error", line)
    else:
        yield Finding(about, "ok", text)


def _mapping_text(settings: Settings) -> str:
    mapping = settings.site.institution_mapping
    return str(settings.beside(mapping)) if mapping else "none configured: InstitutionName stays as received"


def _space(settings: Settings) -> Finding:
    try:
        free = free_bytes(settings.site.spool)
    except OSError as error:
        return Finding("free space", "note", f"unknown: {error}")
    room = judged(
        free, Room.ENOUGH, alarm_below=settings.site.alarm_below, refuse_below=settings.site.refuse_below
    )
    text = (
        f"{free / (1 << 30):.1f} GiB in the spool, refused below {settings.site.refuse_below / (1 << 30):.1f} GiB"
    )
    return Finding("free space", "ok" if room is Room.ENOUGH else "note", text)


def _worker(spool: Spool, configured: Collection[str]) -> Iterator[Finding]:
    """Yield how the worker stands, where it was started before, and what waits for what is not `configured`."""
    ledger = Ledger(spool.root / FILE_NAME)
    if not ledger.path.exists():
        yield Finding("worker", "note", "was never started on this spool")
        return
    try:
        ledger.require_tables()
        status = worker_status(spool, ledger)
        with ledger.reading() as look:
            gone = rerouting.stranded(look, configured)
    except StorestowError as error:
        yield Finding("worker", "note", str(error))
        return
    finally:
        ledger.close()
    level, remedy = _OF_WORKER[status.state]
    yield Finding("worker", level, f"{status}{remedy}")
    for name, (deliveries, _) in gone.items():
        words = f"{deliveries} deliveries wait for it, and it is no longer configured: name it again, or say "
        ways = f"`storestow reroute {name} NEW` or `storestow discard --destination {name} --reason TEXT`"
        yield Finding(f"destination {name}", "error", words + ways)


def _shim(settings: Settings) -> Iterator[Finding]:
    if settings.has_shim:
        from pipeline.web import checks  # noqa: PLC0415  # a site without [shim] need not load what serves HTTP

        yield from (Finding("shim", level, text) for level, text in checks.looked_at(settings))


def _storescp(settings: Settings) -> Iterator[Finding]:
    try:
        path: Path = programs.program(settings.programs, "storescp")
        version = programs.version(path, "storescp")
    except Configuration as error:
        yield Finding("storescp", "error", str(error))
        return
    yield Finding("storescp", "ok", f"{path}: {version}")
    for shortcoming in programs.shortcomings(version):
        yield Finding("storescp", "note", shortcoming)
    in_study_mode = any(receiver.mode == "study" for receiver in settings.receiver)
    for hole in holes(version):
        forbidden = hole.forbids_study_mode and in_study_mode
        yield Finding("storescp", "error" if forbidden else "note", hole.sentence)


def _pacs(settings: Settings, *, peers: bool) -> Iterator[Finding]:
    """Yield what keeps orders from being fulfilled: a program that is missing, a PACS that does not answer."""
    pacs = settings.pacs
    if pacs is None:
        return
    name = f"{pacs.ae_title} at {pacs.host}:{pacs.port}"
    for program in ("findscu", "movescu" if pacs.retrieve == "move" else "getscu"):
        look = partial(programs.program, settings.programs, program)
        yield from _tried(program, look, f"asks {name}")
    if pacs.accession_number_length > LONGEST_OF_THE_STANDARD:
        yield Finding(
            "accession numbers",
            "note",
            f"those of up to {pacs.accession_number_length} characters are asked for; DICOM allows "
            f"{LONGEST_OF_THE_STANDARD} (SH), and other systems may cut or refuse longer ones: "
            f"[pacs] accession_number_length = {LONGEST_OF_THE_STANDARD} keeps to it",
        )
    if peers:
        problem = echo(pacs, settings.programs)
        yield Finding(
            "pacs", "unreachable" if problem else "ok", problem or f"{name} answers {pacs.calling_ae_title}"
        )


def _receiver(settings: Settings, receiver: ReceiverTable, spool: Spool) -> Iterator[Finding]:
    about = f"receiver {receiver.name}"
    try:
        is_up = is_receiving(spool, receiver.name)
    except Configuration as error:
        yield Finding(about, "error", str(error))
        return
    if is_up:
        yield _is_up(about, receiver, spool)
    else:
        yield from _tried(about, lambda: require_free_port(receiver), f"port {receiver.port} is free")
    if receiver.tls:
        yield from _tried(
            about, lambda: certificates_of(settings, receiver), "speaks TLS only: key and certificate fit"
        )
    if receiver.mode == "study":
        yield Finding(about, "note", ONE_AT_A_TIME)
        yield from _tried(about, lambda: study_hook(spool.incoming_of(receiver.name)), "the hook command is safe")
        left_out = profile.left_out(receiver.more_sop_classes)
        if left_out:
            names = ", ".join(sorted(left_out.values()))
            yield Finding(about, "note", f"does not accept {len(left_out)} storage classes: {names}")
        if receiver.bind != "0.0.0.0":  # noqa: S104  # the one value storescp can do
            yield Finding(about, "error", "bind is for association mode; storescp listens on all addresses")
    if not receiver.to:
        yield Finding(about, "note", "to is empty: what arrives is kept as unclaimed and not sent anywhere")


def _is_up(about: str, receiver: ReceiverTable, spool: Spool) -> Finding:
    """Compare what the running receiver recorded when it started with what the configuration says now."""
    port = recorded_port(spool, receiver.name)
    if port not in {None, receiver.port}:
        return Finding(about, "note", f"is up on port {port}, the configuration says {receiver.port}: restart it")
    return Finding(about, "ok", f"is up on port {receiver.port}")
