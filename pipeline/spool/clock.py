"""Compare the wall clock with the monotonic clock: deletion by age waits until the wall clock is credible."""

from dataclasses import dataclass, field

JUMP_SECONDS = 30.0  # Seconds between two looks; time services correct smaller differences gradually.


@dataclass
class Clock:
    """The difference of the two clocks at each look; both times are in seconds."""

    _ahead: float | None = field(default=None)  # Seconds the wall clock is ahead of the monotonic clock.
    _steady_since: float = field(default=0.0)  # Monotonic time since which the wall clock runs evenly.

    def look(self, wall: float, monotonic: float) -> float:
        """Return by how many seconds the wall clock has jumped since the last look, 0.0 if it has not."""
        before, self._ahead = self._ahead, wall - monotonic
        if before is None:
            self._steady_since = monotonic
            return 0.0
        jump = self._ahead - before
        if abs(jump) < JUMP_SECONDS:
            return 0.0
        self._steady_since = monotonic
        return jump

    def steady_seconds(self, monotonic: float) -> float:
        """Return for how many seconds the wall clock has run evenly, as far as this process knows."""
        return 0.0 if self._ahead is None else monotonic - self._steady_since
