"""When the loop looks again: at the earliest moment at which anything it asked about becomes due."""

import math


class Agenda:
    """Collects, during one round, when things become due; times are seconds since the epoch.

    Nothing depends on it: the loop looks every few seconds all the same, for a clock that is set, and for folders
    nobody announced.
    """

    def __init__(self) -> None:
        self._earliest = math.inf

    def begin(self) -> None:
        """Forget what an earlier round has named."""
        self._earliest = math.inf

    def at(self, moment: float) -> None:
        """Look again at `moment`."""
        self._earliest = min(self._earliest, moment)

    def seconds(self, now: float, at_most: float) -> float:
        """Return for how long the loop may sleep; what is overdue has just been asked about, and is no reason."""
        wait = self._earliest - now
        return min(at_most, wait) if wait > 0 else at_most
