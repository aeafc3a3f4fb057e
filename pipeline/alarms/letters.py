"""The texts of messages and summaries. Pure. They hold no name, no ID and no UID."""

from collections.abc import Iterable

from pipeline.alarms.channels import Letter
from pipeline.alarms.told import Message
from pipeline.ledger.tallies import Tally, TallyKind
from pipeline.operate.measurements import Measurements


def letter_of(message: Message, host: str) -> Letter:
    """Return the message that reports alarms."""
    parts = [
        *(condition.text for condition in message.new),
        *(f"still: {condition.text}" for condition in message.going_on),
        *(f"over: {key}" for key in message.over),
    ]
    counted = ((len(message.new), "new"), (len(message.going_on), "going on"), (len(message.over), "over"))
    summary = ", ".join(f"{count} {word}" for count, word in counted if count)
    subject = f"storestow {host}: {parts[0]}" if len(parts) == 1 else f"storestow {host}: alarms: {summary}"
    keys = (*(condition.key for condition in (*message.new, *message.going_on)), *message.over)
    return Letter(subject, "\n".join(parts), "alarm", keys)


def summary_of(numbers: Measurements, day: Iterable[Tally], alarms: Iterable[str], host: str) -> Letter:
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
    return Letter(f"storestow {host}: summary of the day", "\n".join(lines), "summary", tuple(holding))
