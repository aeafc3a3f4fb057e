"""What a site says of itself at GET /api/status: counts and names of its parts, nothing of a patient or study.

The same types write the answer and read it. A reader believes nothing: texts are printable and short, lists and
numbers are bounded, and keys that a newer release adds are ignored.
"""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MOST = 200  # Entries of each list.
LONGEST = 200  # Characters of each text.


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it holds a character that cannot be printed")
    return text


Text = Annotated[str, Field(max_length=LONGEST), AfterValidator(_printable)]
Count = Annotated[int, Field(ge=0, le=1 << 53)]
Seconds = Annotated[float, Field(ge=0, le=1e10, allow_inf_nan=False)]


class _Reported(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class ReportedDestination(_Reported):
    """A destination: `state` is that of `status --json`."""

    name: Text
    kind: Text | None
    state: Text
    waiting: Count
    oldest_seconds: Seconds | None


class ReportedReceiver(_Reported):
    """A receiver, and whether its port is open."""

    name: Text
    ae_title: Text
    state: Text


class ReportedSilence(_Reported):
    """An AE title that sends nothing although it usually does."""

    receiver: Text
    calling_ae_title: Text
    since: Seconds


class ReportedSpace(_Reported):
    """The disk of the spool, in bytes; `state` is `enough`, `low` or `none`."""

    free: Count
    size: Count
    state: Text


class ReportedAlarm(_Reported):
    """An alarm that holds, by its key, and when it began."""

    key: Text
    since: Seconds


class SiteReport(_Reported):
    """The state of a site at `at`; times are seconds since the epoch, by the site's own clock."""

    version: Text
    name: Text
    at: Seconds
    worker: Text
    destinations: Annotated[list[ReportedDestination], Field(max_length=MOST)]
    receivers: Annotated[list[ReportedReceiver], Field(max_length=MOST)]
    silent: Annotated[list[ReportedSilence], Field(max_length=MOST)]
    quarantine: Count
    refused: Count
    open_orders: Count
    space: ReportedSpace
    alarms: Annotated[list[ReportedAlarm], Field(max_length=MOST)]

    @property
    def waiting(self) -> int:
        """Return how many deliveries wait, for all destinations."""
        return sum(destination.waiting for destination in self.destinations)

    @property
    def oldest_seconds(self) -> float | None:
        """Return the age of the oldest delivery that waits, None if none does."""
        ages = [one.oldest_seconds for one in self.destinations if one.oldest_seconds is not None]
        return max(ages, default=None)
