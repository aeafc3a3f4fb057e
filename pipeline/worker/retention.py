"""Tidying: let originals and results go that were kept long enough, if the clock that says so can be believed."""

from pipeline import schedule
from pipeline.line import settle
from pipeline.orders import cleanup
from pipeline.site.site import Site
from pipeline.spool.clock import Clock

TIDY_SECONDS = 300.0


class Retention:
    """Delete now and then, by the monotonic clock, what has passed its retention time."""

    def __init__(self, site: Site, clock: Clock) -> None:
        self._site = site
        self._clock = clock
        self._next = 0.0

    def is_due(self, monotonic: float) -> bool:
        """Tell whether it is time to look again."""
        return monotonic >= self._next

    def tidy(self, at: tuple[float, float], _site: Site) -> None:
        """Delete what has passed its retention time; `at` is the wall clock and the monotonic clock.

        After a clock jump, wait until the clock has run steadily for as long as it must before it is believed.
        """
        now, monotonic = at
        steady, keep = self._clock.steady_seconds(monotonic), self._site.settings.site
        wait = TIDY_SECONDS
        for seconds, let_go in (
            (keep.keep_originals.total_seconds(), settle.let_go),
            (keep.keep_results.total_seconds(), cleanup.let_go),
        ):
            if left := schedule.until_believed(steady, seconds):
                wait = min(wait, left)
            else:
                let_go(self._site, now)
        for destination in self._site.settings.destination:
            destination.tidy()
        self._next = monotonic + wait
