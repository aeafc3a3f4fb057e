"""The worker's look at the whole site: samples for charts, alarms for people, the daily summary."""

import socket
import time
from datetime import datetime

from pipeline.alarms.channels import Channels
from pipeline.alarms.conditions import LEDGER_KEY, SITE_KEY, Condition, conditions, lost_nodes, lost_sites
from pipeline.alarms.heartbeat_study import HEARTBEAT_KEY, HeartbeatStudy
from pipeline.alarms.messages import Message, ToldAlarms, notification_of, summary_of
from pipeline.errors import StorestowError, Transient
from pipeline.events import Event, alarm, emit
from pipeline.fleet.ask_site import SiteFailure
from pipeline.fleet.fleet_watch import FleetWatch
from pipeline.ledger import Ledger, nodes, reports, samples, tallies, told_alarms
from pipeline.ledger.samples import SampleKind
from pipeline.ledger.tallies import TallyKind
from pipeline.ledger.told_alarms import ToldAlarm
from pipeline.operate.measurements import Measurements, measured
from pipeline.operate.silence import HISTORY_SECONDS, missed_senders
from pipeline.site.node import claimant_of, lost_after
from pipeline.site.settings import Settings

LOOK_SECONDS = 30.0
SAMPLE_SECONDS = 300.0
AGAIN_SECONDS = 120.0  # Seconds after all channels have failed.


class SiteWatch:
    """Look at the site when asked; no stage of the line waits for it."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings, self._ledger = settings, ledger
        self._channels = Channels(settings.alarm)
        self._heartbeat = HeartbeatStudy(settings, ledger)
        self._fleet = FleetWatch(settings.fleet)
        self._told = ToldAlarms()
        self._kept: list[ToldAlarm] | None = None  # What the ledger has of them; None before it was read.
        self._next = time.monotonic() + LOOK_SECONDS
        self._next_sample = 0.0
        self._not_before = 0.0  # by the monotonic clock

    def is_due(self, monotonic: float) -> bool:
        """Say whether it is time to look again."""
        return monotonic >= self._next

    def look(self, now: float, monotonic: float) -> None:
        """Look at the site at `now` (seconds since the epoch), and send the messages that are due."""
        self._next = monotonic + LOOK_SECONDS
        self._fleet.begin()
        found, numbers, unseen = list[Condition](), None, self._keys_of_ledger()
        try:
            numbers, found = self._measured(now)
            unseen = {HEARTBEAT_KEY}
            found += self._heartbeat.look(now)
            unseen = set()
        except StorestowError:
            words = "the ledger cannot be read or written: storestow check names the cause"
            found.append(Condition(LEDGER_KEY, words))
        # Our own ledger has no part in this: a site that is down stays so while the ledger cannot be read.
        sites = self._fleet.views(now)
        found += lost_sites(sites)
        unseen |= {SITE_KEY + site.name for site in sites if site.failure is SiteFailure.NOT_ASKED}
        if numbers is not None and monotonic >= self._next_sample:
            self._next_sample = monotonic + SAMPLE_SECONDS
            self._sample(numbers)
        self._tell(found, unseen, now, monotonic)
        if numbers is not None:
            self._keep()
            self._summarize(numbers, now)

    def _keys_of_ledger(self) -> set[str]:
        """Return the known alarms that only a readable ledger can show."""
        keys = (known.key for known in self._told.known)
        return {key for key in keys if key != LEDGER_KEY and not key.startswith(SITE_KEY)}

    def _measured(self, now: float) -> tuple[Measurements, list[Condition]]:
        numbers = measured(self._settings, self._ledger, now)
        with self._ledger.reading() as connection:
            history = tallies.since(connection, now - HISTORY_SECONDS, TallyKind.RECEIVED)
            refused = reports.refused_deliveries(connection)
            known = nodes.known(connection)
            if self._kept is None:
                self._kept = told_alarms.read(connection)
                self._told.remember(self._kept)
        missed = missed_senders(self._settings, history, now)
        found = list(conditions(self._settings, numbers, missed, refused))
        found += lost_nodes(known, claimant_of(self._settings).worker, lost_after(self._settings))
        return numbers, found

    def _sample(self, numbers: Measurements) -> None:
        values = {(SampleKind.FREE, ""): float(numbers.free), (SampleKind.LEDGER, ""): float(numbers.ledger_size)}
        for name in numbers.destination_names:
            queue = numbers.queues.get(name)
            values[SampleKind.WAITING, name] = queue.deliveries if queue else 0
            values[SampleKind.OLDEST, name] = numbers.at - queue.oldest_at if queue else 0
        with self._ledger.transaction(flushed=False) as connection:
            samples.take(connection, numbers.at, values)
            tallies.roll_up(connection, numbers.at)

    def _tell(self, found: list[Condition], unseen: set[str], now: float, monotonic: float) -> None:
        table = self._settings.alarm
        message = self._told.look(
            found,
            now,
            again_after=table.again_after.total_seconds(),
            messages_an_hour=table.messages_an_hour,
            unseen=unseen,
        )
        if message and monotonic >= self._not_before:
            if self._channels.send(notification_of(message, socket.gethostname())):
                _log(message)
                self._told.sent(message, now)
            else:
                self._not_before = monotonic + AGAIN_SECONDS

    def _keep(self) -> None:
        """Write what changed to the ledger, so that a restarted worker neither repeats nor forgets an alarm."""
        known = self._told.known
        if known == self._kept:
            return
        try:
            with self._ledger.transaction() as connection:
                told_alarms.write(connection, known)
            self._kept = known
        except Transient as error:  # The next look tries again.
            alarm(Event.HELD, what="alarms", reason=error)

    def _summarize(self, numbers: Measurements, now: float) -> None:
        """Send the daily summary when its time has come, once a day."""
        if not self._settings.alarm.summary_at:
            return
        due = _latest(self._settings.alarm.summary_at, now)
        with self._ledger.reading() as connection:
            last = told_alarms.summary_at(connection)
            day = tallies.since(connection, now - 86400.0, TallyKind.RECEIVED, TallyKind.DELIVERED)
        if last is None or last < due <= now:
            with self._ledger.transaction() as connection:
                told_alarms.set_summary_at(connection, now)
            if last is not None:  # The first summary is sent on the next day: a new site has nothing to report.
                holding = [known.key for known in self._told.known if known.ended_at is None]
                self._channels.send(summary_of(numbers, day, holding, socket.gethostname()))


def _latest(time_of_day: str, now: float) -> float:
    """Return the latest moment at or before `now` at which this machine's clock showed `time_of_day`."""
    hour, minute = map(int, time_of_day.split(":"))
    here = datetime.fromtimestamp(now).astimezone()
    moment = here.replace(hour=hour, minute=minute, second=0, microsecond=0).timestamp()
    return moment if moment <= now else moment - 86400.0


def _log(message: Message) -> None:
    for condition in (*message.new, *message.going_on):
        alarm(Event.ALARM, key=condition.key, text=condition.text)
    for key in message.over:
        emit(Event.ALARM_OVER, key=key)
