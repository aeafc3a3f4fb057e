"""Ask all sites of a fleet again and again, each by a thread of its own, so that none waits for another."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config.fleet_tables import FleetSiteTable
from pipeline.events import bug, moment
from pipeline.fleet.ask_site import SiteAnswer, SiteFailure, ask_site
from pipeline.fleet.needs import GRAVITY, Need, needs_of
from pipeline.fleet.site_report import SiteReport

EVERY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class SiteView:
    """What is known of one site; times are seconds since the epoch, by our clock."""

    name: str
    page: str
    report: SiteReport | None
    failure: SiteFailure | None
    detail: str  # Words of ours for a failure, with the address that was asked.
    since: float | None  # When the first of the failures in a row was seen.
    answered_at: float | None
    needs: tuple[Need, ...]

    @property
    def is_lost(self) -> bool:
        """Say whether the site was asked, and nothing is known of it now."""
        return self.failure not in {None, SiteFailure.NOT_ASKED}

    def as_json(self) -> dict[str, Any]:
        """Return the shape of `fleet --json`."""
        return {
            "name": self.name,
            "page": self.page,
            "state": str(self.failure or "up"),
            "since": moment(self.since),
            "answered_at": moment(self.answered_at),
            "detail": self.detail,
            "needs": [str(need) for need in self.needs],
            "status": self.report.model_dump() if self.report else None,
        }


@dataclass(slots=True)
class _Known:
    """What a thread has found out about its site."""

    answer: SiteAnswer
    asked_at: float | None = None  # When a question began that has not ended, by the monotonic clock.
    failed_since: float | None = None
    answered_at: float | None = None


class FleetWatch:
    """The sites of a fleet. It holds one thread a site, which ends with the process."""

    def __init__(self, tables: Sequence[FleetSiteTable]) -> None:
        self._tables = tables
        self._known = {table.name: _Known(SiteAnswer(None, SiteFailure.NOT_ASKED)) for table in tables}
        self._lock = threading.Lock()
        self._has_begun = False

    def begin(self) -> None:
        """Begin to ask every site each half minute, unless this has begun already."""
        with self._lock:
            if self._has_begun:
                return
            self._has_begun = True
        for table in self._tables:
            threading.Thread(target=self._go_on, args=(table,), name=f"fleet-{table.name}", daemon=True).start()

    def ask_once(self) -> None:
        """Ask every site once, all at the same time; a site that hangs beyond its deadlines is left behind."""
        threads = [threading.Thread(target=self._ask, args=(table,), daemon=True) for table in self._tables]
        for thread in threads:
            thread.start()
        end = time.monotonic() + max(map(_longest_seconds, self._tables), default=0.0)
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))

    def views(self, now: float) -> list[SiteView]:
        """Return what is known at `now` of every site, those first that need a person most."""
        with self._lock:
            found = [self._view(table, now) for table in self._tables]
        return sorted(found, key=_rank)

    def _go_on(self, table: FleetSiteTable) -> None:
        while True:
            self._ask(table)
            time.sleep(EVERY_SECONDS)

    def _ask(self, table: FleetSiteTable) -> None:
        known = self._known[table.name]
        with self._lock:
            known.asked_at = time.monotonic()
        try:
            answer = ask_site(table)
        except Exception as error:  # noqa: BLE001  # a bug must not leave an old answer standing as the present one
            bug(f"fleet {table.name}", error)
            answer = SiteAnswer(None, SiteFailure.MALFORMED)
        with self._lock:
            now, known.asked_at, known.answer = time.time(), None, answer
            if answer.failure is None:
                known.failed_since, known.answered_at = None, now
            elif known.failed_since is None:
                known.failed_since = now

    def _view(self, table: FleetSiteTable, now: float) -> SiteView:
        known = self._known[table.name]
        report, failure, since = known.answer.report, known.answer.failure, known.failed_since
        # No time-out bounds the look-up of a name; what was known before such a look-up is old by now.
        if known.asked_at is not None and (took := time.monotonic() - known.asked_at) >= _longest_seconds(table):
            report, failure, since = None, SiteFailure.NO_REPLY, since or now - took
        needs = needs_of(report, failure, now)
        return SiteView(
            table.name,
            table.operator_page,
            report,
            failure,
            known.answer.detail,
            since,
            known.answered_at,
            needs,
        )


def _longest_seconds(table: FleetSiteTable) -> float:
    """Return how long asking may take; a connection that breaks is tried once more."""
    return 2 * (table.connect_timeout + table.answer_timeout).total_seconds()


def _rank(view: SiteView) -> tuple[int, int, str]:
    worst = GRAVITY[view.needs[0]] if view.needs else len(GRAVITY)
    return worst, -len(view.needs), view.name
