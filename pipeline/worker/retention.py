"""Delete originals, results and accounts that were kept long enough, if the clock can be believed."""

import time

from pipeline import schedule
from pipeline.events import Event, alarm
from pipeline.line import settle
from pipeline.orders import cleanup
from pipeline.schedule import Clock
from pipeline.sending import send
from pipeline.site.site import Site
from pipeline.worker import forget

TIDY_SECONDS = 300.0


class Retention:
    """Delete at intervals of the monotonic clock what has passed its retention time."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._clock = Clock()
        self._clock.look(time.time(), time.monotonic())
        self._next = 0.0

    def clock_has_jumped(self) -> bool:
        """Tell whether the wall clock was set since the last look, and log it."""
        jump = self._clock.look(time.time(), time.monotonic())
        if jump:
            alarm(Event.CLOCK_JUMPED, seconds=round(jump))
        return bool(jump)

    def is_due(self, monotonic: float) -> bool:
        """Tell whether `tidy` is due at this time of the monotonic clock."""
        return monotonic >= self._next

    def tidy(self, now: float, monotonic: float) -> None:
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
            (keep.keep_accounts.total_seconds(), forget.expire),
        ):
            if left := schedule.until_believed(steady, seconds):
                wait = min(wait, left)
            else:
                expire(self._site, now)
        for destination in self._site.settings.destination:
            destination.tidy()
        self._next = monotonic + wait
