"""The circuit breaker of one destination: one delivery at a time tries a dead peer, not all of them."""

from dataclasses import dataclass

from pipeline import schedule


@dataclass
class Breaker:
    """Closed while the peer answers; after a failure open until `try_at`; then one trial decides."""

    down_since: float | None = None
    try_at: float = 0.0
    trial: int | None = None  # The delivery that is the trial.

    def admits(self, now: float) -> bool:
        """Tell whether a delivery may start now; the one that starts while the breaker is open is the trial.

        A clock set back must not delay the trial by as long as it was set back.
        """
        if self.down_since is None:
            return True
        return self.trial is None and not 0 < self.try_at - now <= schedule.LONGEST_WAIT

    def start(self, delivery: int) -> None:
        """Note that a delivery starts; call this before it starts, because it may end at once."""
        if self.down_since is not None:
            self.trial = delivery

    def end(self, delivery: int) -> None:
        """Note that a delivery has ended, however it did, and that its outcome has been noted."""
        if self.trial == delivery:
            self.trial = None

    def failed(self, now: float, retry_after: float | None = None) -> bool:
        """Note that the peer as a whole failed; return whether that is new."""
        is_news = self.down_since is None
        self.down_since = now if self.down_since is None else self.down_since
        self.try_at = schedule.next_attempt(now, self.down_since, retry_after)
        return is_news

    def succeeded(self) -> bool:
        """Note that the peer worked; return whether that is new."""
        is_news = self.down_since is not None
        self.down_since = None
        return is_news
