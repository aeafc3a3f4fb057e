"""Do the worker's regular tasks beside the line, each in a thread of its own.

Large deletions take long, and a share or an alarm channel may not answer.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pipeline.alarms.watch import SiteWatch
from pipeline.processes.jobs import JobKey, JobKind, Jobs
from pipeline.site.site import Site
from pipeline.worker.retention import Retention


class Upkeep:
    """Delete what has been kept long enough, look at the site as a whole for alarms, and end idle processes."""

    def __init__(self, site: Site, jobs: Jobs) -> None:
        self._site = site
        self._jobs = jobs
        self._retention = Retention(site)
        self._site_watch = SiteWatch(site.settings, site.ledger)
        self._retention_thread = ThreadPoolExecutor(1, thread_name_prefix="retention")
        self._watch_thread = ThreadPoolExecutor(1, thread_name_prefix="watch")

    def clock_has_jumped(self) -> bool:
        """Tell whether the wall clock was set since the last look, and log it."""
        return self._retention.clock_has_jumped()

    def questions(self) -> dict[str, Callable[[], None]]:
        """Return the functions to call in each round, by their names in the log."""
        return {"retention": self._tidy, "watch": self._watch, "idle processes": self._end_idle}

    def close(self) -> None:
        """Start no more work."""
        for thread in (self._retention_thread, self._watch_thread):
            thread.shutdown(wait=False, cancel_futures=True)

    def _end_idle(self) -> None:
        for pool in (self._site.pool, self._site.aside):
            pool.end_idle()

    def _tidy(self) -> None:
        now, monotonic = time.time(), time.monotonic()
        if self._retention.is_due(monotonic):
            job = partial(self._retention.tidy, now, monotonic)
            self._jobs.start(self._retention_thread, JobKey(JobKind.TIDY), job)

    def _watch(self) -> None:
        now, monotonic = time.time(), time.monotonic()
        if self._site_watch.is_due(monotonic):
            job = partial(self._site_watch.look, now, monotonic)
            self._jobs.start(self._watch_thread, JobKey(JobKind.WATCH), job)
