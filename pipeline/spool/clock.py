"""The wall clock, watched by the one that never jumps: what goes by age alone waits until it can be believed."""

from dataclasses import dataclass, field

JUMP_SECONDS = 30.0  # between two looks: time services slew what is less


@dataclass
class Clock:
    """Asked with both times (seconds) at every look; the first look is the first that is known of the clock."""

    _ahead: float | None = field(default=None)  # of the monotonic clock
    _steady_since: float = field(default=0.0)  # by the monotonic clock

    def look(self, wall: float, monotonic: float) -> float:
        """Return by how many seconds the wall clock has jumped since the last look, 0.0 where it has not."""
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
        """Return for how long the wall clock has gone evenly, as far as anybody here has seen."""
        return 0.0 if self._ahead is None else monotonic - self._steady_since
