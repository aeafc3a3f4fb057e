"""Tidying: let originals and results go that were kept long enough, if the clock that says so can be believed."""

from pipeline import schedule
from pipeline.line import custody
from pipeline.orders import results
from pipeline.site.site import Site
from pipeline.spool.clock import Clock

TIDY_SECONDS = 300.0


class Tidying:
    """Look now and then, by the monotonic clock, for what may go."""

    def __init__(self, site: Site, clock: Clock) -> None:
        self._site = site
        self._clock = clock
        self._next = 0.0

    def look(self, now: float, monotonic: float) -> None:
        """Let go what may go at wall-clock time `now`; what the clock must first prove even for waits for that."""
        if monotonic < self._next:
            return
        steady, keep = self._clock.steady_seconds(monotonic), self._site.settings.site
        wait = TIDY_SECONDS
        for seconds, let_go in (
            (keep.keep_originals.total_seconds(), custody.let_go),
            (keep.keep_results.total_seconds(), results.let_go),
        ):
            if left := schedule.until_believed(steady, seconds):
                wait = min(wait, left)
            else:
                let_go(self._site, now)
        for destination in self._site.settings.destination:
            destination.tidy()
        self._next = monotonic + wait
