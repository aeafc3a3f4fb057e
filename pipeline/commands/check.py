"""`storestow check`: report everything that can be wrong before a study arrives, each with its remedy."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pipeline import patients
from pipeline.coercions import rules_of
from pipeline.commands import cluster_checks, receiver_checks, route_checks, sender_checks
from pipeline.config.logo import read_logo
from pipeline.dcmtk import programs
from pipeline.dcmtk.known_bugs import known_bugs_of
from pipeline.destinations import START_OR_CORRECT, Destination
from pipeline.dicom.accession import LONGEST_OF_THE_STANDARD, AccessionNumber
from pipeline.errors import Configuration, Permanent, StorestowError, Transient
from pipeline.events import escaped
from pipeline.fleet.ask_site import SiteFailure
from pipeline.fleet.fleet_watch import FleetWatch
from pipeline.ledger import rerouting
from pipeline.orders.pacs_query import echo
from pipeline.site.disk_space import DiskLevel, free_bytes, judged
from pipeline.site.open_site import mapping_of
from pipeline.site.settings import Settings
from pipeline.site.site_ledger import connect
from pipeline.site.worker_state import WorkerState, worker_status
from pipeline.spool.spool import hook_file
from pipeline.spool.store_probe import PROBE_SECONDS, within

Level = Literal["ok", "note", "error", "unreachable"]


NOBODYS = "STORESTOW-CHECK"  # an accession number that the HIS is asked for to see whether it answers
_WEIGHTS: tuple[Level, ...] = ("error", "unreachable", "note", "ok")
_OF_WORKER: dict[WorkerState, tuple[Level, str]] = {
    WorkerState.UP: ("ok", ""),
    WorkerState.DOWN: ("note", ": start it, or see its log for why it ended"),
    WorkerState.STALE: ("error", ": its loop stands still; look at its log, and start it again"),
}


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """One check: its subject, its level, and in words what was found and what to do."""

    about: str
    level: Level
    text: str
    hint: str = ""  # lines to write somewhere, longer than a finding may be


def by_weight(found: Iterable[CheckFinding]) -> list[CheckFinding]:
    """Return the findings sorted, the gravest first; findings of one weight keep their order."""
    return sorted(found, key=lambda finding: _WEIGHTS.index(finding.level))


def findings(settings: Settings, *, peers: bool = True) -> Iterator[CheckFinding]:
    """Yield a finding for every check, in the order of the line; `peers` asks the destinations too.

    A fault that two checks find is reported once.
    """
    told = set()
    for finding in _looked_at(settings, peers=peers):
        if finding.level != "error" or finding.text not in told:
            told.add(finding.text)
            yield finding


def _looked_at(settings: Settings, *, peers: bool) -> Iterator[CheckFinding]:
    spool = settings.spool
    yield from _tried("spool", spool.prepare, f"{spool.root}: local, writable, one file system")
    yield _space(settings)
    yield from _tried("institution mapping", lambda: mapping_of(settings), _mapping_text(settings))
    yield from _tried("coercion rules", lambda: rules_of(settings), f"{len(settings.coercion)} of the site's own")
    if settings.logo:
        yield from _tried("logo", partial(read_logo, settings.logo), f"{settings.logo}: shown on pages and discs")
    yield from _tried("hook", hook_file, "the hook is in its place")
    yield from (CheckFinding("[programs]", "note", note) for note in settings.programs.notes())
    yield from _storescp(settings)
    for receiver in settings.receiver:
        found = receiver_checks.receiver_findings(settings, receiver, spool)
        yield from (CheckFinding(f"receiver {receiver.name}", *said) for said in found)
    if not settings.receiver:
        yield CheckFinding("receivers", "note", "no [[receiver]] is configured: nothing can arrive")
    yield from (CheckFinding(name, *said) for name, said in route_checks.route_findings(settings))
    yield from _pacs(settings, peers=peers)
    yield from _shim(settings)
    if peers:
        yield from (CheckFinding("cluster", level, text) for level, text in cluster_checks.looked_at(settings))
        yield from _worker(settings)
        yield from _his(settings)
        yield from _destinations(settings)
        yield from _fleet(settings)


def peers_and_programs(settings: Settings) -> Iterator[CheckFinding]:
    """Yield what DCMTK and the peers of a site answer; nothing of the spool is touched."""
    yield from _storescp(settings)
    yield from _pacs(settings, peers=True)
    yield from _his(settings)
    yield from _destinations(settings)


def _his(settings: Settings) -> Iterator[CheckFinding]:
    """Yield whether the HIS answers, asked for a number that none has."""
    table = settings.patients
    if table.kind == "dicom":
        return
    try:
        patients.from_table(table).find(AccessionNumber(NOBODYS), ())
    except Configuration as error:
        yield CheckFinding("patients", "error", str(error))
        return
    except Transient as error:
        yield CheckFinding("patients", "unreachable", f"{error}; {START_OR_CORRECT}")
        return
    except Permanent:  # it does not know the number, or knows it several times: it answers
        pass
    yield CheckFinding("patients", "ok", f"{table.kind}: answers")


def _destinations(settings: Settings) -> Iterator[CheckFinding]:
    for destination in settings.destination:
        about = f"destination {destination.name}"
        try:
            problems = _problems_of(destination)
        except Configuration as error:
            yield CheckFinding(about, "error", str(error))
            continue
        for problem in problems:
            yield CheckFinding(about, "unreachable", problem.removeprefix(f"{about}: "))
        if not problems:
            yield CheckFinding(about, "ok", f"{destination.kind}: nothing wrong found")
            yield from (CheckFinding(about, "note", note) for note in destination.notes())


def _problems_of(destination: Destination) -> list[str]:
    """Return what is wrong with a destination; a folder whose file system hangs is asked with a deadline."""
    if destination.writes_to is None:
        return list(destination.problems())
    try:
        return within(PROBE_SECONDS, lambda: list(destination.problems()))
    except TimeoutError:
        return [f"{destination.writes_to} does not answer for {PROBE_SECONDS:.0f} s"]


def _fleet(settings: Settings) -> Iterator[CheckFinding]:
    """Yield what each site of the fleet answers, and which is asked in the clear."""
    watch = FleetWatch(settings.fleet)
    watch.ask_once()
    for view in watch.views(time.time()):
        about = f"fleet {view.name}"
        if view.report is not None:
            yield CheckFinding(about, "ok", f"answers, release {escaped(view.report.version, 32)}")
        else:
            is_ours = view.failure is SiteFailure.CONFIGURATION
            yield CheckFinding(about, "error" if is_ours else "unreachable", f"{view.failure}: {view.detail}")
    for table in settings.fleet:
        if urlsplit(table.url).scheme == "http" and urlsplit(table.url).hostname not in {
            "127.0.0.1",
            "::1",
            "localhost",
        }:
            yield CheckFinding(f"fleet {table.name}", "note", f"{table.url}: in the clear, and so is the key")


def exit_code(found: list[CheckFinding]) -> int:
    """Return 78 for a configuration error, 69 for an unreachable peer, otherwise 0 (sysexits.h)."""
    levels = {finding.level for finding in found}
    return 78 if "error" in levels else 69 if "unreachable" in levels else 0


def as_json(found: list[CheckFinding]) -> dict[str, Any]:
    """Return the shape of `check --json`."""
    return {"findings": [asdict(finding) for finding in found], "exit_code": exit_code(found)}


def refuse_what_is_wrong(settings: Settings) -> None:
    """Raise Configuration with one line for each error, before anything starts; peers may come up later."""
    errors = [f"{f.about}: {f.text}" for f in findings(settings, peers=False) if f.level == "error"]
    if errors:
        raise Configuration("\n".join(errors))


def _tried(about: str, look: Callable[[], object], text: str) -> Iterator[CheckFinding]:
    try:
        look()
    except StorestowError as error:
        for line in str(error).splitlines():
            yield CheckFinding(about, "error", line)
    else:
        yield CheckFinding(about, "ok", text)


def _mapping_text(settings: Settings) -> str:
    mapping = settings.site.institution_mapping
    return str(settings.beside(mapping)) if mapping else "none configured: InstitutionName stays as received"


def _space(settings: Settings) -> CheckFinding:
    try:
        free = free_bytes(settings.site.spool)
    except OSError as error:
        return CheckFinding("free space", "note", f"unknown: {error}")
    room = judged(
        free, DiskLevel.ENOUGH, alarm_below=settings.site.alarm_below, refuse_below=settings.site.refuse_below
    )
    text = (
        f"{free / (1 << 30):.1f} GiB in the spool, refused below {settings.site.refuse_below / (1 << 30):.1f} GiB"
    )
    return CheckFinding("free space", "ok" if room is DiskLevel.ENOUGH else "note", text)


def _worker(settings: Settings) -> Iterator[CheckFinding]:
    """Yield the worker's state if it ever ran, and deliveries that wait for a destination not configured."""
    try:
        ledger = connect(settings)
    except Configuration as error:
        yield CheckFinding("ledger", "error", str(error))
        return
    try:
        if not ledger.exists():
            yield CheckFinding("worker", "note", "was never started on this spool")
            return
        ledger.require_tables()
        status = worker_status(settings, ledger)
        with ledger.reading() as connection:
            gone = rerouting.stranded(connection, [destination.name for destination in settings.destination])
    except StorestowError as error:
        yield CheckFinding("worker", "note", str(error))
        return
    finally:
        ledger.close()
    level, remedy = _OF_WORKER[status.state]
    yield CheckFinding("worker", level, f"{status}{remedy}")
    for name, (deliveries, _) in gone.items():
        words = f"{deliveries} deliveries wait for it, and it is no longer configured: name it again, or say "
        ways = f"`storestow reroute {name} NEW` or `storestow discard --destination {name} --reason TEXT`"
        yield CheckFinding(f"destination {name}", "error", words + ways)


def _shim(settings: Settings) -> Iterator[CheckFinding]:
    if settings.has_shim:
        from pipeline.web import site_checks  # noqa: PLC0415  # a site without [shim] need not load what serves HTTP

        yield from (CheckFinding("shim", level, text) for level, text in site_checks.looked_at(settings))


def _storescp(settings: Settings) -> Iterator[CheckFinding]:
    try:
        path: Path = programs.program(settings.programs, "storescp")
        version = programs.version(path, "storescp")
    except Configuration as error:
        yield CheckFinding("storescp", "error", str(error))
        return
    yield CheckFinding("storescp", "ok", f"{path}: {version}")
    for shortcoming in programs.shortcomings(version):
        yield CheckFinding("storescp", "note", shortcoming)
    in_study_mode = any(receiver.mode != "association" for receiver in settings.receiver)
    for bug in known_bugs_of(version):
        forbidden = bug.forbids_study_mode and in_study_mode
        yield CheckFinding("storescp", "error" if forbidden else "note", bug.sentence)


def _pacs(settings: Settings, *, peers: bool) -> Iterator[CheckFinding]:
    """Yield what keeps orders from being fulfilled: a missing program, a PACS that does not answer."""
    pacs = settings.pacs
    if pacs is None:
        return
    name = f"{pacs.ae_title} at {pacs.host}:{pacs.port}"
    for program in ("findscu", "movescu" if pacs.retrieve == "move" else "getscu"):
        look = partial(programs.program, settings.programs, program)
        yield from _tried(program, look, f"asks {name}")
    if pacs.accession_number_length > LONGEST_OF_THE_STANDARD:
        yield CheckFinding(
            "accession numbers",
            "note",
            f"those of up to {pacs.accession_number_length} characters are asked for; DICOM allows "
            f"{LONGEST_OF_THE_STANDARD} (SH), and other systems may cut or refuse longer ones: "
            f"[pacs] accession_number_length = {LONGEST_OF_THE_STANDARD} keeps to it",
        )
    if peers:
        yield from (CheckFinding("senders", level, text) for level, text in sender_checks.looked_at(settings))
        problem = echo(pacs, settings.programs)
        problem = problem and f"{problem}; {START_OR_CORRECT}, and see that it knows {pacs.calling_ae_title}"
        yield CheckFinding(
            "pacs", "unreachable" if problem else "ok", problem or f"{name} answers {pacs.calling_ae_title}"
        )
