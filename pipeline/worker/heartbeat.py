"""Report every few seconds to the ledger and the service manager that the worker's loop lives."""

import contextlib
import time
from collections.abc import Callable, Iterable

from pipeline import __version__
from pipeline.engine import NODES
from pipeline.errors import Transient
from pipeline.ledger import heartbeats, nodes
from pipeline.ledger.nodes import NodeReport
from pipeline.processes.service_manager import ALIVE, LONGER, notify
from pipeline.receiving import is_up
from pipeline.receiving.sweep import leftovers
from pipeline.site.node import lost_after, site_hash
from pipeline.site.site import Site
from pipeline.site.worker_state import BEAT_SECONDS

Door = Callable[[], Iterable[tuple[str, str, int]]]
AGAIN_SECONDS = 1.0  # Seconds after which a node reports again that is not heard: others take over its work.


class LedgerReplaced(Transient):
    """Say that the server of the ledger is another one, which may lack commits: end, the next start compares."""


class Heartbeat:
    """The heartbeat of a worker. The loop itself calls `beat`: a thread would report for a loop that hangs.

    The answer to the last report: `is_draining` says that a person has asked this node to take nothing new,
    `silent` names the other nodes that report no more, and whose work this one may take over. `doors` tell what
    is to be reported of studies that are not admitted: receiver, Study Instance UID, number of files. `failure` is
    why the last report could not be written, None if it was; `history` is the ledger's then.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._ledger = site.ledger
        self._site_hash = site_hash(site.settings)
        self._started_at = time.time()
        self._next = 0.0  # Monotonic time of the next report, as the two that follow.
        self._has_reported = False
        self._reported_at = time.monotonic()
        self._judges_from = 0.0
        self.is_draining = False
        self.silent: list[str] = []
        self.doors: list[Door] = []
        self.failure: Transient | None = None
        self.history = ""

    def beat(self) -> None:
        """Report that the loop lives, unless it reported less than `BEAT_SECONDS` ago.

        If the ledger cannot be written now, nothing is raised: the worker looks dead to readers, but goes on.
        Only the first report waits for its turn to write: a node that is slow, or dead, and has the turn must not
        make all the others look lost.
        """
        if time.monotonic() < self._next:
            return
        notify(ALIVE, LONGER)
        its = self._report()
        waits, self._has_reported = not self._has_reported, True
        try:
            with self._ledger.transaction(flushed=False, alone=waits) as change:
                heartbeats.beat(change, its.worker, self._started_at, time.time())
                self.is_draining = nodes.report(change, its)
                self.silent = nodes.silent(change, its.worker, lost_after(self._site.settings))
            self._spare_others()
            self.history = self._ledger.history()
            self.failure = None
        except Transient as error:
            self.failure = error
        wait = BEAT_SECONDS - 0.5  # A loop that wakes every five seconds misses none.
        self._next = time.monotonic() + (AGAIN_SECONDS if self.failure and self._site.spool.has_store else wait)

    def hear(self, lane: str) -> None:
        """Report at the next `beat` if a person has decided about a node."""
        if lane == NODES:
            self._next = 0.0

    def _spare_others(self) -> None:
        """Take nobody for silent for two beats after this node could not report itself.

        What stopped it, a ledger or a store that all share, may have stopped the others, too.
        """
        now = time.monotonic()
        if now - self._reported_at > lost_after(self._site.settings) - BEAT_SECONDS:
            self._judges_from = now + 2 * BEAT_SECONDS
        self._reported_at = now
        if now < self._judges_from:
            self.silent = []

    def _report(self) -> NodeReport:
        settings, spool, claimant = self._site.settings, self._site.spool, self._site.claimant
        receivers = [receiver.name for receiver in settings.receiver if is_up(spool, receiver)]
        at_the_door = 0
        with contextlib.suppress(OSError):  # The sweep reports a folder that cannot be listed.
            at_the_door = len(spool.received_names())
            at_the_door += sum(len(leftovers(spool.incoming_of(receiver.name))) for receiver in settings.receiver)
        return NodeReport(
            claimant.node, claimant.worker, __version__, receivers, at_the_door, self._site_hash, self._studies()
        )

    def _studies(self) -> list[tuple[str, str, int]]:
        """Return the studies at this node's door; nobody asks for them where there is no other node."""
        with contextlib.suppress(OSError):
            if self._site.spool.has_store:
                found = {(receiver, study): files for door in self.doors for receiver, study, files in door()}
                return [(*about, files) for about, files in found.items()]
        return []
