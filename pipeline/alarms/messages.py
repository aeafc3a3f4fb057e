"""Decide what to report, an alarm once, again after a time, and its end once; and write the messages. Pure.

An alarm that comes and goes is one alarm: its end is reported when it has been over for `OVER_SECONDS`. An alarm
whose condition cannot be looked at stays as it was. The number of messages in an hour is limited; the rest waits
for the next message. The texts hold no name, no ID and no UID.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from pipeline.alarms.channels import Notification
from pipeline.alarms.conditions import Condition
from pipeline.ledger.tallies import Tally, TallyKind
from pipeline.ledger.told_alarms import ToldAlarm
from pipeline.operate.measurements import Measurements

OVER_SECONDS = 900.0
HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Message:
    """The content of one message: new alarms, continuing alarms, and the keys of ended ones."""

    new: tuple[Condition, ...] = ()
    going_on: tuple[Condition, ...] = ()
    over: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.new or self.going_on or self.over)

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keys of all its alarms."""
        return (*(condition.key for condition in (*self.new, *self.going_on)), *self.over)


class ToldAlarms:
    """What is known of each alarm; times are seconds since the epoch."""

    def __init__(self, known: Iterable[ToldAlarm] = ()) -> None:
        self._known = {alarm.key: alarm for alarm in known}
        self._sent = list({alarm.told_at for alarm in self._known.values()})  # Times of messages.

    @property
    def known(self) -> list[ToldAlarm]:
        """Return what must survive this process."""
        return list(self._known.values())

    def remember(self, earlier: Iterable[ToldAlarm]) -> None:
        """Add what an earlier process knew; what this process has reported since is newer."""
        newer = {key: alarm for key, alarm in self._known.items() if alarm.told_at}
        self._known = self._known | {alarm.key: alarm for alarm in earlier} | newer

    def look(
        self,
        found: Sequence[Condition],
        now: float,
        *,
        again_after: float,
        messages_an_hour: int,
        unseen: Collection[str] = (),
    ) -> Message:
        """Note what holds now, and return what to report; call `sent` once it was sent.

        `unseen` are the keys of alarms whose conditions nobody can look at now: they neither end nor are reported.
        """
        holds = {condition.key: condition for condition in found}
        for key in holds:
            alarm = self._known.get(key)
            alarm = alarm or ToldAlarm(key, now, 0.0, None)
            self._known[key] = alarm._replace(since=min(now, alarm.since), ended_at=None)
        for key, alarm in list(self._known.items()):
            if key in holds or key in unseen:
                continue
            if not alarm.told_at:
                del self._known[key]  # It was over before it was reported.
            elif alarm.ended_at is None or alarm.ended_at > now:
                self._known[key] = alarm._replace(ended_at=now)
        self._sent = [at for at in self._sent if now - HOUR < at <= now]
        if len(self._sent) >= messages_an_hour:
            return Message()
        return self._message(holds, now, again_after, unseen)

    def _message(
        self, holds: dict[str, Condition], now: float, again_after: float, unseen: Collection[str]
    ) -> Message:
        new, going_on = [], []
        for key, condition in holds.items():
            alarm = self._known[key]
            if now - alarm.since < condition.after or _is_claimed(alarm, now):
                continue
            if not alarm.told_at:
                new.append(condition)
            elif now - alarm.told_at >= again_after:
                going_on.append(condition)
        over = [
            key
            for key, alarm in self._known.items()
            if alarm.ended_at is not None and now - alarm.ended_at >= OVER_SECONDS
            if key not in unseen and not _is_claimed(alarm, now)
        ]
        return Message(tuple(new), tuple(going_on), tuple(sorted(over)))

    def sent(self, message: Message, now: float) -> None:
        """Note that a message was sent."""
        self._sent.append(now)
        for condition in (*message.new, *message.going_on):
            if alarm := self._known.get(condition.key):
                self._known[condition.key] = alarm._replace(told_at=now, claimed_until=None)
        for key in message.over:
            self._known.pop(key, None)

    def claim(self, message: Message, until: float | None) -> None:
        """Note that until then nobody else is to send what is in a message; None gives the claim up."""
        for key in message.keys:
            if alarm := self._known.get(key):
                self._known[key] = alarm._replace(claimed_until=until)


def _is_claimed(alarm: ToldAlarm, now: float) -> bool:
    """Tell whether another node may be sending it; a claim that ends far ahead is of a clock that was set back."""
    return alarm.claimed_until is not None and now < alarm.claimed_until < now + HOUR


def notification_of(message: Message, host: str) -> Notification:
    """Return the message that reports alarms."""
    parts = [
        *(condition.text for condition in message.new),
        *(f"still: {condition.text}" for condition in message.going_on),
        *(f"over: {key}" for key in message.over),
    ]
    counted = ((len(message.new), "new"), (len(message.going_on), "going on"), (len(message.over), "over"))
    summary = ", ".join(f"{count} {word}" for count, word in counted if count)
    subject = f"storestow {host}: {parts[0]}" if len(parts) == 1 else f"storestow {host}: alarms: {summary}"
    return Notification(subject, "\n".join(parts), "alarm", message.keys)


def summary_of(numbers: Measurements, day: Iterable[Tally], alarms: Iterable[str], host: str) -> Notification:
    """Return the daily summary, with the counts of the last 24 hours and the keys of the present alarms."""
    tallies = list(day)
    lines = ["The last 24 hours:"]
    for kind, word in ((TallyKind.RECEIVED, "received by"), (TallyKind.DELIVERED, "delivered to")):
        names = sorted({tally.name for tally in tallies if tally.kind == kind})
        for name in names:
            of_it = [tally for tally in tallies if tally.kind == kind and tally.name == name]
            times, instances = sum(tally.times for tally in of_it), sum(tally.instances for tally in of_it)
            size = sum(tally.bytes for tally in of_it)
            lines.append(f"  {word} {name}: {times} studies, {instances} instances, {size / 1e9:.2f} GB")
    if len(lines) == 1:
        lines.append("  nothing came, and nothing was delivered")
    lines.append("Now:")
    waiting = [f"{queue.deliveries} for {name}" for name, queue in sorted(numbers.queues.items())]
    lines.append(f"  deliveries that wait: {', '.join(waiting) or 'none'}")
    aside = sum(numbers.set_aside.values()) + numbers.arrivals_set_aside
    lines.append(f"  in quarantine: {aside}; open orders: {numbers.open_orders}")
    lines.append(f"  free in the spool: {numbers.free / 1e9:.1f} of {numbers.size / 1e9:.1f} GB")
    holding = sorted(alarms)
    lines.append(f"  alarms: {', '.join(holding) or 'none'}")
    return Notification(f"storestow {host}: summary of the day", "\n".join(lines), "summary", tuple(holding))
