"""Let the PACS send one study: run movescu or getscu, read its output line by line, and end it if nothing comes.

The program's output has the PACS's view only; `retrieval` decides from the instances that have come.
"""

import os
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from pydicom import Dataset
from sqlalchemy import Connection

from pipeline import dcmtk
from pipeline.dcmtk import Progress, SubOperations
from pipeline.errors import StorestowError
from pipeline.events import Event, alarm, emit
from pipeline.ledger import nodes, retrievals
from pipeline.ledger.claims import Fenced
from pipeline.ledger.rows import RetrievalRow, WantedStudyRow
from pipeline.line.senders import senders_of
from pipeline.model import OrderError, RetrievalState
from pipeline.orders.c_get import received_into
from pipeline.orders.pacs_query import SCRATCH, write_identifiers
from pipeline.orders.reception_progress import ReceptionProgress
from pipeline.site.site import Site

LOOK_SECONDS = 1.0
LONGEST_PAUSE = 30.0  # Seconds before a busy PACS is asked again.
CHUNK = 65536


@dataclass(frozen=True, slots=True)
class RetrievalOutcome:
    """The PACS's view of a retrieval: final status (None if none came) and counts; and the error if it failed."""

    status: tuple[int, str] | None
    counted: SubOperations
    error: OrderError | None = None
    detail: str | None = None


def move(number: int, site: Site) -> None:
    """Let the PACS send the instances that a retrieval lacks, and record how the PACS ended it."""
    with site.ledger.transaction() as connection:
        row = retrievals.begin(connection, number, site.claimant, time.time())
        if row is None:
            return
        held = set(retrievals.held(connection, number))
        wishes = retrievals.open_links(connection, number)
    emit(Event.RETRIEVING, study=row.study_instance_uid, retrieval=number, attempt=row.attempts)
    questions = identifiers(row, held, wishes)
    try:
        outcome = _sent(row, questions, len(held), site) if questions else RetrievalOutcome(None, SubOperations())
    except StorestowError as error:  # The program is not installed, or the machine cannot start it.
        outcome = RetrievalOutcome(None, SubOperations(), OrderError.INTERNAL, str(error))
    except Fenced:
        _report_fenced(row)
        return
    is_whole = not held or any(question.QueryRetrieveLevel == "STUDY" for question in questions)
    try:
        _finish(row, outcome, site, is_whole=is_whole)
    except Fenced:
        _report_fenced(row)


def _report_fenced(row: RetrievalRow) -> None:
    alarm(Event.FENCED, what="move", study=row.study_instance_uid, retrieval=row.id)


def _finish(row: RetrievalRow, outcome: RetrievalOutcome, site: Site, *, is_whole: bool) -> None:
    counted = outcome.counted
    values: dict[str, Any] = {
        "state": RetrievalState.RECEIVING,
        "finished_at": time.time(),
        "status": f"0x{outcome.status[0]:04X}" if outcome.status else None,
        "completed": counted.completed,
        "failed": counted.failed,
        "warned": counted.warned,
        "remaining": counted.remaining,
        "error_kind": outcome.error,
        "detail": outcome.detail or (outcome.status[1] if outcome.status else None),
    }
    if is_whole and outcome.status:
        values["announced"] = counted.total
    with site.ledger.transaction() as connection:
        retrievals.change_claimed(connection, row, claim=None, **values)


def identifiers(row: RetrievalRow, held: set[tuple[str, str]], wishes: Sequence[WantedStudyRow]) -> list[Dataset]:
    """Return identifiers of what the PACS must send: the study, or series of some modalities or lacking instances.

    The list is empty if nothing is missing, or no order waits any more.
    """
    if not wishes:
        return []
    study = row.study_instance_uid
    if held and all(wish.listed is not None for wish in wishes):
        missing = {series for wish in wishes for series, one in wish.listed or () if (series, one) not in held}
        return [_identifier("SERIES", study, series) for series in sorted(missing)]
    if row.modalities:
        wanted = {series for wish in wishes for series, _, _ in wish.series}
        return [_identifier("SERIES", study, series) for series in sorted(wanted)]
    return [_identifier("STUDY", study)]


def _identifier(level: str, study: str, series: str | None = None) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    identifier.StudyInstanceUID = study
    if series:
        identifier.SeriesInstanceUID = series
    return identifier


def _sent(row: RetrievalRow, questions: Sequence[Dataset], held: int, site: Site) -> RetrievalOutcome:
    pacs = site.settings.pacs
    assert pacs is not None
    progress = Progress(len(questions))
    patience = _Patience(row, held, progress, site)
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=site.spool.run) as scratch:
        queries = write_identifiers(questions, Path(scratch))
        with _commands(row, queries, patience.longest, site) as commands:
            for argv in commands:
                if not _take(argv, progress, patience, site):
                    return RetrievalOutcome(None, progress.counted, OrderError.MOVE_TIMED_OUT, patience.reason)
    if not progress.is_associated:
        return RetrievalOutcome(None, progress.counted, OrderError.PACS_UNREACHABLE, progress.complaint)
    return RetrievalOutcome(progress.status, progress.counted, detail=progress.complaint or None)


@contextmanager
def _commands(
    row: RetrievalRow, queries: Sequence[Path], longest: float, site: Site
) -> Iterator[list[tuple[str, ...]]]:
    """Yield the commands to run; what getscu received is admitted at the end of the block.

    getscu 3.6.7 crashes on a second query, so each query has its own.
    """
    settings = site.settings
    assert settings.pacs is not None
    if settings.pacs.retrieve == "move":
        movescu = dcmtk.program(settings.programs, "movescu")
        destination = settings.receiver_named(settings.pacs.receiver).ae_title
        yield [
            dcmtk.movescu_argv(
                movescu, settings.pacs, destination=destination, longest_seconds=longest, queries=queries
            )
        ]
        return
    getscu = dcmtk.program(settings.programs, "getscu")
    with received_into(row, site) as folder:
        yield [
            dcmtk.getscu_argv(getscu, settings.pacs, folder=folder, longest_seconds=longest, queries=[query])
            for query in queries
        ]


def _take(argv: Sequence[str], progress: Progress, patience: "_Patience", site: Site) -> bool:
    """Run a program, again while the PACS is busy; return False if time has run out."""
    for attempt in count():
        progress.begin_again()
        if not _follow(argv, progress, patience, site):
            return False
        if not progress.is_rejected_for_now:
            return True
        if not patience.pauses(min(LONGEST_PAUSE, 2.0**attempt / 2)):
            return False
    raise AssertionError("unreachable")


def _follow(argv: Sequence[str], progress: Progress, patience: "_Patience", site: Site) -> bool:
    """Run a program to its end and read its output; return False if it had to be ended."""
    hears, tells = os.pipe()
    with os.fdopen(hears, "rb", 0) as output:
        with os.fdopen(tells, "wb", 0) as voice:
            process = dcmtk.start(argv, dcmtk.environment(site.settings.programs), output=voice.fileno())
        try:
            return _hear(output.fileno(), progress, patience)
        finally:
            _end(process)


def _hear(descriptor: int, progress: Progress, patience: "_Patience") -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    rest = b""
    while True:
        if poll.poll(1000 * LOOK_SECONDS):
            chunk = os.read(descriptor, CHUNK)
            if not chunk:
                return True
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                progress.hear(line.decode("utf-8", "replace"))
        if not patience.lasts():
            return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


class _Patience:
    """Watch that instances come, record their number, and tell when to wait no longer."""

    def __init__(self, row: RetrievalRow, held: int, progress: Progress, site: Site) -> None:
        assert site.settings.pacs is not None
        incoming = site.spool.incoming_of(site.settings.pacs.receiver)
        self._row, self._held, self._progress, self._site = row, held, progress, site
        self._incoming = ReceptionProgress(incoming, row.study_instance_uid, senders_of(site.settings))
        self._without = site.settings.shim.move_timeout.total_seconds()
        self.longest = site.settings.shim.order_timeout.total_seconds()
        self._began = self._looked = self._progressed = time.monotonic()
        self._last: object = None
        self._elsewhere = 0
        self._is_unwanted = False
        self.reason = ""

    def _at_other_nodes(self, connection: Connection) -> int:
        """Return how many files of the study are at the doors of other nodes: the PACS may send there."""
        pacs, site = self._site.settings.pacs, self._site
        if pacs is None or not site.spool.has_store:
            return 0
        door = nodes.others(connection, site.claimant.worker).door
        return door.get((pacs.receiver, self._row.study_instance_uid), 0)

    def lasts(self) -> bool:
        """Look at most once a second, and say whether to go on; raises Fenced if another worker took over."""
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._look(now)
        if self._is_unwanted:
            self.reason = "nobody waits for it any more"
        elif now - self._progressed >= self._without:
            self.reason = f"no new instance for {self._without:g} s"
        elif now - self._began >= self.longest:
            self.reason = f"not finished within {self.longest:g} s"
        return not self.reason

    def pauses(self, seconds: float) -> bool:
        """Wait before the PACS is asked again, and say whether to go on; this wait does not count as silence."""
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until and not self.reason:
            time.sleep(min(LOOK_SECONDS, until - now))
            self._progressed = time.monotonic()
            self.lasts()
        return not self.reason

    def _look(self, now: float) -> None:
        with self._site.ledger.reading() as connection:
            retrievals.require(connection, self._row)
            self._is_unwanted = not retrievals.open_links(connection, self._row.id)
            elsewhere = self._at_other_nodes(connection)
        counted = self._progress.counted
        self._elsewhere = max(self._elsewhere, elsewhere)
        arrived = self._held + self._incoming.look() + self._elsewhere
        if (counted, arrived) == self._last:
            return
        self._last, self._progressed = (counted, arrived), now
        values = {
            "completed": counted.completed,
            "failed": counted.failed,
            "warned": counted.warned,
            "remaining": counted.remaining,
            "arrived": arrived,
            "last_progress_at": time.time(),
        }
        with self._site.ledger.transaction() as connection:
            retrievals.change_claimed(connection, self._row, **values)
