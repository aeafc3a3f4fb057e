"""Decide by its own history whether an AE title's silence is unusual. Pure.

An AE title is missed if, in at least three of the last four weeks, it sent at least `FEWEST` arrivals in the hours
of the week in which it has now sent nothing. Nights, weekends and a rarely used machine therefore cause no alarm.
Hours are those of UTC: for a month after a change to or from summer time the comparison is off by one hour.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.ledger.tallies import HOUR, Tally
from pipeline.site.settings import Settings

WEEK = 7 * 24  # hours
WEEKS = 4
HISTORY_SECONDS = (WEEKS + 1) * WEEK * 3600.0  # How far back the counts must reach.
WEEKS_NEEDED = 3
FEWEST = 3  # Usual arrivals in the time of the silence.


@dataclass(frozen=True, slots=True)
class Silence:
    """An AE title that is missed: since when, and the least number of usual arrivals in that time."""

    receiver: str
    calling_ae_title: str
    since: float  # seconds since the epoch
    usual: int


def missed_senders(settings: Settings, received: Iterable[Tally], now: float) -> list[Silence]:
    """Return whom the site misses at `now`: nobody if `[alarm] silence` is false.

    What orders and the heartbeat study bring is not usual or unusual: we asked for it ourselves.
    """
    if not settings.alarm.silence:
        return []
    heartbeat, pacs = settings.alarm.heartbeat, settings.pacs
    ours = {heartbeat.receiver if heartbeat else None, pacs.receiver if pacs else None}
    return silences([tally for tally in received if tally.detail and tally.name not in ours], now)


def silences(received: Iterable[Tally], now: float) -> list[Silence]:
    """Return who is missed at `now`; `received` are the counts by the hour of the last five weeks."""
    hours: dict[tuple[str, str], dict[int, int]] = {}
    last: dict[tuple[str, str], float] = {}
    for tally in received:
        who = (tally.name, tally.detail)
        counted = hours.setdefault(who, {})
        counted[tally.hour] = counted.get(tally.hour, 0) + tally.times
        last[who] = max(last.get(who, 0.0), tally.last_at)
    found = []
    for (receiver, title), counted in sorted(hours.items()):
        usual = _usual(counted, int(now // HOUR))
        if usual >= FEWEST:
            found.append(Silence(receiver, title, last[receiver, title], usual))
    return found


def _usual(counted: Mapping[int, int], this_hour: int) -> int:
    """Return how many arrivals at least three of four weeks had in the hours of the present silence."""
    silent = range(max(counted) + 1, this_hour)  # Whole hours; the current hour is not over.
    if not silent or this_hour - min(counted) < WEEKS_NEEDED * WEEK or len(silent) > WEEK:
        return 0
    weeks = sorted(
        (sum(counted.get(hour - week * WEEK, 0) for hour in silent) for week in range(1, WEEKS + 1)), reverse=True
    )
    return weeks[WEEKS_NEEDED - 1]
