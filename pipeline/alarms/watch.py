"""The worker's look at the whole site: samples for charts, alarms for people, the daily summary.

Each node of a cluster tells what is wrong with itself. What is wrong with all they share, each of them finds: the
one that claims it first in the ledger sends it, and another one if that one dies before.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from pipeline.alarms.channels import Channels
from pipeline.alarms.conditions import (
    LEDGER_KEY,
    NODE_KEY,
    SITE_KEY,
    Condition,
    conditions,
    lost_nodes,
    lost_sites,
)
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
from pipeline.site.node import claimant_of, lost_after, name_in_cluster
from pipeline.site.settings import Settings

LOOK_SECONDS = 30.0
SAMPLE_SECONDS = 300.0
AGAIN_SECONDS = 120.0  # Seconds after all channels have failed.
# Seconds beyond the time-outs of all channels for which a node that has claimed alarms may be sending them.
CLAIM_MARGIN_SECONDS = 30.0


class SiteWatch:
    """Look at the site when asked; no stage of the line waits for it."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings, self._ledger = settings, ledger
        self._claimant = claimant_of(settings)
        self._node = name_in_cluster(settings)
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
            unseen = {self._key(HEARTBEAT_KEY)}
            found += self._heartbeat.look(now)
            unseen = set()
        except StorestowError:
            found.append(_LEDGER_FAILS)
        # Our own ledger has no part in this: a site that is down stays so while the ledger cannot be read.
        sites = self._fleet.views(now)
        found += lost_sites(sites)
        unseen |= {SITE_KEY + site.name for site in sites if site.failure is SiteFailure.NOT_ASKED}
        if numbers is not None and monotonic >= self._next_sample:
            self._next_sample = monotonic + SAMPLE_SECONDS
            self._sample(numbers)
        if self._node is not None:
            if numbers is not None:
                found += self._tell_shared([one for one in found if not one.is_of_node], unseen, now, monotonic)
            about = [one for one in found if one.is_of_node]
            found = [replace(one, key=self._key(one.key), text=f"{self._node}: {one.text}") for one in about]
        self._tell(found, unseen, now, monotonic)
        if numbers is not None:
            self._keep()
            self._summarize(numbers, now)

    def _keys_of_ledger(self) -> set[str]:
        """Return the known alarms that only a readable ledger can show."""
        keys = (known.key for known in self._told.known)
        return {key for key in keys if key != self._key(LEDGER_KEY) and not key.startswith(SITE_KEY)}

    def _key(self, key: str) -> str:
        """Return the key of an alarm about this machine."""
        return key if self._node is None else f"{key}@{self._node}"

    def _measured(self, now: float) -> tuple[Measurements, list[Condition]]:
        numbers = measured(self._settings, self._ledger, now)
        with self._ledger.reading() as connection:
            history = tallies.since(connection, now - HISTORY_SECONDS, TallyKind.RECEIVED)
            refused = reports.refused_deliveries(connection)
            known = nodes.known(connection)
            if self._kept is None:
                self._kept = told_alarms.of(connection, self._node)
                self._told.remember(self._kept)
        missed = missed_senders(self._settings, history, now)
        found = list(conditions(self._settings, numbers, missed, refused))
        found += lost_nodes(known, self._claimant.worker, lost_after(self._settings))
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
        message = self._message(self._told, found, unseen, now)
        if message and monotonic >= self._not_before and self._is_sent(message, monotonic):
            self._told.sent(message, now)

    def _message(self, told: ToldAlarms, found: list[Condition], unseen: set[str], now: float) -> Message:
        table = self._settings.alarm
        return told.look(
            found,
            now,
            again_after=table.again_after.total_seconds(),
            messages_an_hour=table.messages_an_hour,
            unseen=unseen,
        )

    def _is_sent(self, message: Message, monotonic: float) -> bool:
        if self._channels.send(notification_of(message, self._claimant.node)):
            _log(message)
            return True
        self._not_before = monotonic + AGAIN_SECONDS
        return False

    def _tell_shared(
        self, found: list[Condition], unseen: set[str], now: float, monotonic: float
    ) -> Iterable[Condition]:
        """Send what no other node has sent or claimed; return what is wrong if the ledger cannot be written.

        The nodes look at different moments, but at the same ledger. Where all channels of this node have failed,
        another node may try at once.
        """
        is_ready = monotonic >= self._not_before
        until = now + 3 * self._settings.alarm.timeout.total_seconds() + CLAIM_MARGIN_SECONDS
        own = NODE_KEY + self._claimant.node  # The others see that it is lost, this node does not.
        try:
            with self._shared() as told:
                message = self._message(told, found, unseen | {own}, now)
                if is_ready:
                    told.claim(message, until)
            if message and is_ready:
                is_sent = self._is_sent(message, monotonic)
                with self._shared() as told:
                    if is_sent:
                        told.sent(message, now)
                    else:
                        told.claim(message, None)
        except Transient as error:
            alarm(Event.HELD, what="alarms", reason=error)
            return [_LEDGER_FAILS]
        return []

    @contextmanager
    def _shared(self) -> Iterator[ToldAlarms]:
        """Yield what the ledger has of the alarms about the site, and write what becomes of them in the block."""
        # Without a flush, because that a standby is missing may be what they tell.
        with self._ledger.transaction(flushed=False) as connection:
            known = told_alarms.of(connection, None)
            told = ToldAlarms(known)
            yield told
            if told.known != known:
                told_alarms.write(connection, told.known)

    def _keep(self) -> None:
        """Write what changed to the ledger, so that a restarted worker neither repeats nor forgets an alarm."""
        known = self._told.known
        if known == self._kept:
            return
        try:
            with self._ledger.transaction() as connection:
                told_alarms.write(connection, [one._replace(node=self._node) for one in known], self._node)
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
        if last is not None and not last < due <= now:
            return
        with self._ledger.transaction() as connection:
            if told_alarms.summary_at(connection) != last:
                return  # Another node has just sent it.
            told_alarms.set_summary_at(connection, now)
            day = tallies.since(connection, now - 86400.0, TallyKind.RECEIVED, TallyKind.DELIVERED)
            holding = [known.key for known in told_alarms.read(connection) if known.ended_at is None]
        if last is not None:  # The first summary is sent on the next day: a new site has nothing to report.
            self._channels.send(summary_of(numbers, day, holding, self._claimant.node))


_LEDGER_FAILS = Condition(
    LEDGER_KEY, "the ledger cannot be read or written: storestow check names the cause", is_of_node=True
)


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
