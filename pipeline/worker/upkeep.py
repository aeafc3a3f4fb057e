"""Do the worker's regular tasks beside the line, each in a thread of its own: delete by age, and watch the site.

Large deletions take long, and a share or an alarm channel may not answer. Nothing is deleted by age while the
clock cannot be believed. What the ledger forgets has been appended to the archive of accounts before.
"""

import json
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from pipeline import schedule
from pipeline.alarms.watch import SiteWatch
from pipeline.events import Event, alarm, emit
from pipeline.ledger import accounts, forgotten
from pipeline.line import settle
from pipeline.orders import cleanup
from pipeline.processes.jobs import JobKey, JobKind, Jobs
from pipeline.schedule import Clock
from pipeline.sending import send
from pipeline.site.site import Site
from pipeline.spool.account_archive import AccountArchive

TIDY_SECONDS = 300.0
ARRIVALS_AT_ONCE, ORDERS_AT_ONCE = 20, 200  # Rows in one transaction, for which other writers wait.
LONGEST_SECONDS = 20.0  # The longest time of one call of `forget`.
PAGES_AT_ONCE = 5000  # Database pages that are given back to the disk at the end of a call.


class Upkeep:
    """Delete what has been kept long enough, look at the site as a whole for alarms, and end idle processes."""

    def __init__(self, site: Site, jobs: Jobs) -> None:
        self._site = site
        self._jobs = jobs
        self._clock = Clock()
        self._clock.look(time.time(), time.monotonic())
        self._next_tidying = 0.0  # By the monotonic clock.
        self._site_watch = SiteWatch(site.settings, site.ledger)
        self._retention_thread = ThreadPoolExecutor(1, thread_name_prefix="retention")
        self._watch_thread = ThreadPoolExecutor(1, thread_name_prefix="watch")

    def clock_has_jumped(self) -> bool:
        """Tell whether the wall clock was set since the last look, and log it."""
        jump = self._clock.look(time.time(), time.monotonic())
        if jump:
            alarm(Event.CLOCK_JUMPED, seconds=round(jump))
        return bool(jump)

    def questions(self) -> dict[str, Callable[[], None]]:
        """Return the functions to call in each round, by their names in the log."""
        return {"retention": self._start_tidying, "watch": self._start_watch, "idle processes": self._end_idle}

    def close(self) -> None:
        """Start no more work."""
        for thread in (self._retention_thread, self._watch_thread):
            thread.shutdown(wait=False, cancel_futures=True)

    def _end_idle(self) -> None:
        for pool in (self._site.pool, self._site.aside):
            pool.end_idle()

    def _start_tidying(self) -> None:
        now, monotonic = time.time(), time.monotonic()
        if monotonic >= self._next_tidying and self._is_ours():
            self._jobs.start(self._retention_thread, JobKey(JobKind.TIDY), partial(self._tidy, now, monotonic))

    def _is_ours(self) -> bool:
        """Tell whether this node deletes what is old: with a store, one of the nodes does."""
        return not self._site.spool.has_store or self._site.ledger.holds("retention")

    def _start_watch(self) -> None:
        now, monotonic = time.time(), time.monotonic()
        if self._site_watch.is_due(monotonic):
            job = partial(self._site_watch.look, now, monotonic)
            self._jobs.start(self._watch_thread, JobKey(JobKind.WATCH), job)

    def _tidy(self, now: float, monotonic: float) -> None:
        """Delete what has passed its retention time; `now` is in seconds since the epoch.

        After a clock jump, nothing is deleted by age until the clock has run steadily for as long as `schedule`
        demands.
        """
        steady, keep = self._clock.steady_seconds(monotonic), self._site.settings.site
        wait = TIDY_SECONDS
        for seconds, expire in (
            (keep.keep_originals.total_seconds(), settle.expire),
            (keep.keep_results.total_seconds(), cleanup.expire),
            (keep.keep_results.total_seconds(), send.expire),
            (keep.keep_accounts.total_seconds(), forget),
        ):
            if left := schedule.until_believed(steady, seconds):
                wait = min(wait, left)
            else:
                expire(self._site, now)
        for destination in self._site.settings.destination:
            destination.tidy()
        self._next_tidying = monotonic + wait


def forget(site: Site, now: float) -> None:
    """Forget arrivals whose originals were deleted `keep_accounts` ago, and orders that ended then.

    An account is on the disk before its rows are deleted. If the worker is killed in between, the account is
    appended once more; readers of the archive take the last of several.

    `now` is in seconds since the epoch. The transactions are small; what a call leaves, the next call forgets.
    """
    before = now - site.settings.site.keep_accounts.total_seconds()
    archive = AccountArchive(site.spool.accounts)
    end = time.monotonic() + LONGEST_SECONDS
    arrivals = orders = 0
    while time.monotonic() < end and (count := _arrivals(site, archive, before)):
        arrivals += count
    while time.monotonic() < end and (count := _orders(site, archive, before)):
        orders += count
    if arrivals or orders:
        with site.ledger.transaction() as connection:
            forgotten.give_pages_back(connection, PAGES_AT_ONCE)
        emit(Event.FORGOTTEN, arrivals=arrivals, orders=orders)


def _arrivals(site: Site, archive: AccountArchive, before: float) -> int:
    with site.ledger.reading() as connection:
        found = forgotten.arrivals_over(connection, before, ARRIVALS_AT_ONCE)
        lines = [(at, accounts.account_of(connection, name, at)) for name, at in found.items()]
    _append(archive, lines)
    with site.ledger.transaction() as connection:
        still = forgotten.arrivals_over(connection, before, ARRIVALS_AT_ONCE)
        names = [name for name in found if name in still]  # A person may have asked for one meanwhile.
        forgotten.forget_arrivals(connection, names)
    return len(names)


def _orders(site: Site, archive: AccountArchive, before: float) -> int:
    with site.ledger.reading() as connection:
        numbers = forgotten.orders_over(connection, before, ORDERS_AT_ONCE)
        lines = [forgotten.order_as_json(connection, number) for number in numbers]
    _append(archive, [(line["order"]["ended_at"], line) for line in lines])
    with site.ledger.transaction() as connection:
        still = set(forgotten.orders_over(connection, before, ORDERS_AT_ONCE))
        numbers = [number for number in numbers if number in still]
        forgotten.forget_orders(connection, numbers, before)
    return len(numbers)


def _append(archive: AccountArchive, written: Iterable[tuple[float, dict[str, Any]]]) -> None:
    by_year: dict[int, list[bytes]] = {}
    for at, line in written:
        by_year.setdefault(time.gmtime(at).tm_year, []).append(json.dumps(line, ensure_ascii=False).encode())
    for year, lines in sorted(by_year.items()):
        archive.append(year, lines)
