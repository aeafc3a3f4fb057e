"""When things are due: pure functions of times handed in (seconds since the epoch), so no test ever sleeps."""

import math

SHORTEST_WAIT = 5.0
LONGEST_WAIT = 3600.0


def back_off(age: float) -> float:
    """Return how many seconds to wait before the next attempt of something that first failed `age` ago.

    Half the age, between 5 seconds and an hour: seconds at first, minutes after minutes, never hammering.
    """
    return min(LONGEST_WAIT, max(SHORTEST_WAIT, age / 2))


def next_attempt(now: float, first_attempt: float, retry_after: float | None) -> float:
    """Return when to try again; a peer's Retry-After is heeded up to the longest wait."""
    wait = back_off(max(0.0, now - first_attempt))
    return now + max(wait, min(retry_after or 0.0, LONGEST_WAIT))


def has_given_up(now: float, first_attempt: float, attempts: int, give_up_after: float) -> bool:
    """Tell whether a delivery that keeps failing has been tried for long enough, and often enough.

    Often enough is half as often as the back-off would have it: a clock that jumps ahead gives nothing up.
    """
    return now - first_attempt >= give_up_after and attempts >= give_up_after / (2 * LONGEST_WAIT)


def is_due(now: float, newest_file: float, first_admitted: float, quiet: float, at_most: float) -> bool:
    """Tell whether a study is complete as far as anybody can know: quiet for `quiet` seconds (docs/design.md).

    Or gathered for `at_most` seconds, so that a sender that never pauses cannot hold a study back for ever.
    Times in the future, from a clock set back, never hold a study longer than `quiet` after the next look.
    """
    return _passed(now, newest_file, quiet) or _passed(now, first_admitted, at_most)


def due_at(newest_file: float, first_admitted: float, quiet: float, at_most: float) -> float:
    """Return when a study will be due if nothing more of it comes, and the clock is not set meanwhile."""
    return min(newest_file + quiet, first_admitted + at_most)


def _passed(now: float, since: float, seconds: float) -> bool:
    return now - since >= seconds or since - now > seconds


def until_believed(steady: float, keep: float) -> float:
    """Return for how many seconds more nothing kept for `keep` may go, the clock having been even for `steady`.

    A clock that is set wrong, at a start or by a jump, has so long to be set right before it deletes anything.
    """
    return max(0.0, min(keep, LONGEST_WAIT) - steady)


def may_go(now: float, settled_at: float, keep: float) -> bool:
    """Tell whether originals settled at `settled_at` have been kept for `keep` seconds."""
    return now - settled_at >= keep


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
