"""The three kinds of error; where something fails, its kind is decided once.

An error's class says what happens next; its message says what a person should look at. An error not known to be
permanent is transient, and ends at `give_up_after` (docs/design.md, Errors).
"""


class StorestowError(Exception):
    """Carry a sentence for the operator; `exit_code` is what a command ends with (sysexits.h)."""

    exit_code = 70


class Transient(StorestowError):
    """Say that the same attempt may succeed later: the caller defers it, with a back-off that depends on age."""

    exit_code = 75

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class PeerUnavailable(Transient):
    """Say that the peer as a whole cannot be used now: its circuit breaker opens, other peers go on."""

    exit_code = 69


class Permanent(StorestowError):
    """Say that the same attempt will never succeed: the instance or delivery is refused, the original kept."""

    exit_code = 65


class Held(Permanent):
    """Say that a guard holds the whole delivery until a person releases it or changes the mapping."""


class Configuration(StorestowError):
    """Say that a person must change the configuration: nothing starts, or deliveries wait until it is done."""

    exit_code = 78


class Usage(StorestowError):
    """Say that a command was called wrongly."""

    exit_code = 64
