"""When things are due, and whether the clock is believed: functions of given times, so that no test sleeps.

Times are seconds since the epoch.
"""

import math
import threading
from dataclasses import dataclass, field

SHORTEST_WAIT = 5.0
LONGEST_WAIT = 3600.0
JUMP_SECONDS = 30.0  # Seconds between two looks; time services correct smaller differences gradually.


def back_off(age: float) -> float:
    """Return the seconds until the next attempt of something that first failed `age` seconds ago.

    Half the age, between 5 seconds and an hour: seconds after seconds, minutes after minutes.
    """
    return min(LONGEST_WAIT, max(SHORTEST_WAIT, age / 2))


def next_attempt(now: float, first_attempt: float, retry_after: float | None) -> float:
    """Return when to try again; a peer's Retry-After is respected up to the longest wait."""
    wait = back_off(max(0.0, now - first_attempt))
    return now + max(wait, min(retry_after or 0.0, LONGEST_WAIT))


def has_given_up(now: float, first_attempt: float, attempts: int, give_up_after: float) -> bool:
    """Tell whether a failing delivery has been tried for long enough, and often enough.

    Often enough is half the number of attempts of the back-off: a clock that jumps ahead gives nothing up.
    """
    return now - first_attempt >= give_up_after and attempts >= give_up_after / (2 * LONGEST_WAIT)


def is_due(now: float, newest_file: float, first_admitted: float, quiet: float, at_most: float) -> bool:
    """Tell whether a study counts as complete: nothing came for `quiet` seconds (docs/design.md).

    Or it has been gathered for `at_most` seconds, so that a sender that never pauses cannot delay a study for
    ever. Times in the future, from a clock set back, never delay a study longer than `quiet` after the next look.
    """
    return _passed(now, newest_file, quiet) or _passed(now, first_admitted, at_most)


def due_at(newest_file: float, first_admitted: float, quiet: float, at_most: float) -> float:
    """Return when a study will be due if no more of it comes, and the clock is not set meanwhile."""
    return min(newest_file + quiet, first_admitted + at_most)


def _passed(now: float, since: float, seconds: float) -> bool:
    return now - since >= seconds or since - now > seconds


def until_believed(steady: float, keep: float) -> float:
    """Return the seconds until something kept for `keep` may be deleted, if the clock has run evenly for `steady`.

    A wrong clock, at a start or after a jump, leaves this long to correct it before anything is deleted.
    """
    return max(0.0, min(keep, LONGEST_WAIT) - steady)


def may_go(now: float, settled_at: float, keep: float) -> bool:
    """Tell whether originals settled at `settled_at` have been kept for `keep` seconds."""
    return now - settled_at >= keep


class Agenda:
    """Collect, during one round, when things become due; times are seconds since the epoch.

    Correctness does not depend on it: the loop looks every few seconds anyway, because the clock may be set and
    folders may come unannounced.
    """

    def __init__(self) -> None:
        self._earliest = math.inf
        self._lock = threading.Lock()  # Slots of several destinations say at once when to look.

    def begin(self) -> None:
        """Forget the moments of the last round."""
        self._earliest = math.inf

    def at(self, moment: float) -> None:
        """Look again at `moment`."""
        with self._lock:
            self._earliest = min(self._earliest, moment)

    def seconds(self, now: float, at_most: float) -> float:
        """Return how long the loop may sleep; overdue things have just been handled and do not count."""
        wait = self._earliest - now
        return min(at_most, wait) if wait > 0 else at_most


@dataclass
class Clock:
    """Compare the wall clock with the monotonic clock: deletion by age waits until the wall clock is credible."""

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
