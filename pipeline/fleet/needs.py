"""What at a site needs a person, gravest first. Pure."""

from collections.abc import Iterator
from enum import StrEnum

from pipeline.fleet.ask_site import SiteFailure
from pipeline.fleet.site_report import SiteReport

CLOCK_SECONDS = 120.0  # An answer that is older or newer comes from a wrong clock, or from a cache.


class Need(StrEnum):
    """One thing a person should look at; the first is the gravest."""

    UNKNOWN = "unknown"  # Nothing is known of the site now.
    DISK_FULL = "disk-full"
    WORKER = "worker"
    RECEIVER = "receiver"
    DESTINATION_GONE = "destination-gone"
    DESTINATION_DOWN = "destination-down"
    REFUSED = "refused"
    QUARANTINE = "quarantine"
    DISK_LOW = "disk-low"
    CLOCK = "clock"
    SILENT = "silent"
    ALARM = "alarm"
    PAUSED = "paused"


GRAVITY = {need: number for number, need in enumerate(Need)}
_OF_STATES = {"gone": Need.DESTINATION_GONE, "down": Need.DESTINATION_DOWN, "paused": Need.PAUSED}


def needs_of(report: SiteReport | None, failure: SiteFailure | None, now: float) -> tuple[Need, ...]:
    """Return what needs a person, the gravest first, each once."""
    if failure is SiteFailure.NOT_ASKED:
        return ()
    if report is None:
        return (Need.UNKNOWN,)
    return tuple(sorted(set(_found(report, now)), key=GRAVITY.__getitem__))


def _found(report: SiteReport, now: float) -> Iterator[Need]:
    if report.space.state != "enough":
        yield Need.DISK_LOW if report.space.state == "low" else Need.DISK_FULL
    for destination in report.destinations:
        if destination.state != "up":
            yield _OF_STATES.get(destination.state, Need.DESTINATION_DOWN)
    holds = {
        Need.WORKER: report.worker != "up",
        Need.RECEIVER: any(receiver.state != "up" for receiver in report.receivers),
        Need.REFUSED: report.refused > 0,
        Need.QUARANTINE: report.quarantine > 0,
        Need.CLOCK: abs(report.at - now) > CLOCK_SECONDS,
        Need.SILENT: bool(report.silent),
        Need.ALARM: bool(report.alarms),
    }
    yield from (need for need, is_so in holds.items() if is_so)
