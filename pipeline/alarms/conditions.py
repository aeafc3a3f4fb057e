"""The conditions that are wrong at the site now, each with a key that stays the same while it lasts.

The texts name destinations, receivers, AE titles and counts. They hold no name, no ID, no UID and no words of a
peer, because they leave the hospital.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipeline.events import escaped
from pipeline.fleet.ask_site import SiteFailure
from pipeline.fleet.fleet_watch import SiteView
from pipeline.ledger.nodes import KnownNode
from pipeline.operate.measurements import Measurements
from pipeline.operate.silence import Silence
from pipeline.site.settings import Settings

LEDGER_KEY = "ledger"
NODE_KEY = "node:"  # Before the name of a node that is lost.
SITE_KEY = "site:"  # Before the name of a site of the fleet.
MOMENT = 120.0  # Seconds; a shorter condition causes no message.
_OF_SITES = {
    SiteFailure.UNREACHABLE: "cannot be reached",
    SiteFailure.NO_REPLY: "does not answer in time",
    SiteFailure.WRONG_KEY: "refuses our key",
    SiteFailure.NO_STATUS: "offers no status",
    SiteFailure.ODD_STATUS: "answers with an error",
    SiteFailure.MALFORMED: "answers with what is no status",
    SiteFailure.TOO_LARGE: "answers with more than a status",
    SiteFailure.CONFIGURATION: "cannot be asked: its certificate or our key file is wrong",
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition that is wrong; it causes a message once it has lasted for `after` seconds.

    One that `is_of_node` is about this machine; any other node of a cluster finds all the rest as well.
    """

    key: str
    text: str
    after: float = 0.0
    is_of_node: bool = False


def conditions(
    settings: Settings, numbers: Measurements, missed: Iterable[Silence], refused: int
) -> Iterator[Condition]:
    """Yield what is wrong; `refused` counts the refused deliveries that a person must look at."""
    yield from _disk(numbers)
    yield from _destinations(settings, numbers)
    for name, is_open in numbers.receivers_up.items():
        if not is_open:
            yield Condition(f"receiver:{name}", f"receiver {name} is not listening", MOMENT, is_of_node=True)
    aside = sum(numbers.set_aside.values()) + numbers.arrivals_set_aside
    if aside:
        kinds = ", ".join(f"{count} {code}" for code, count in sorted(numbers.set_aside.items()))
        detail = f" ({kinds})" if kinds else ""
        yield Condition("quarantine", f"{aside} in quarantine{detail}: storestow quarantine list")
    if refused:
        yield Condition("refused", f"{refused} deliveries were refused: storestow status says why")
    for silence in missed:
        hours, title = (numbers.at - silence.since) / 3600, escaped(silence.calling_ae_title, 64)
        yield Condition(
            f"silence:{silence.receiver}:{title}",
            f"{title} has sent nothing to {silence.receiver} for {hours:.0f} hours; at this time of the week "
            f"it has sent at least {silence.usual} studies",
        )


def lost_nodes(known: Iterable[KnownNode], own: str, lost_after: float) -> Iterator[Condition]:
    """Yield the nodes of a cluster, other than that of the worker `own`, that have ended or cannot report.

    One that drains does so for a person who is at work there.
    """
    for node in known:
        is_lost = node.lost_at is not None or node.seen_seconds >= lost_after
        if is_lost and not node.draining and node.report.worker != own:
            name = node.report.name
            words = f"node {name} has ended or cannot report; the others do its work: storestow forget {name}"
            yield Condition(NODE_KEY + name, f"{words}, if it does not come back", MOMENT)


def lost_sites(views: Iterable[SiteView]) -> Iterator[Condition]:
    """Yield the sites of the fleet of which nothing is known."""
    for view in views:
        if view.is_lost and view.failure is not None:
            yield Condition(SITE_KEY + view.name, f"the site {view.name} {_OF_SITES[view.failure]}", MOMENT)


def _disk(numbers: Measurements) -> Iterator[Condition]:
    free = f"{numbers.free / (1 << 30):.1f} GiB are free in the spool"
    if numbers.free < numbers.refuse_below:
        yield Condition("disk-full", f"{free}: the receivers refuse what comes", is_of_node=True)
    elif numbers.free < numbers.alarm_below:
        yield Condition("disk-low", free, is_of_node=True)


def _destinations(settings: Settings, numbers: Measurements) -> Iterator[Condition]:
    stuck_after = settings.alarm.stuck_after.total_seconds()
    paused_after = settings.alarm.paused_after.total_seconds()
    for name in sorted({*numbers.destination_names, *numbers.queues}):
        queue, noted = numbers.queues.get(name), numbers.destinations.get(name)
        waiting = f"{queue.deliveries} deliveries wait" if queue else "nothing waits"
        if name not in numbers.destination_names:
            words = f"{name} is no longer configured, and {waiting} for it: storestow reroute {name} NEW"
            yield Condition(f"gone:{name}", words)
        elif noted is not None and noted.paused:
            if noted.paused_at is not None and numbers.at - noted.paused_at > paused_after:
                hours = (numbers.at - noted.paused_at) / 3600
                yield Condition(f"paused:{name}", f"{name} has been paused for {hours:.0f} hours; {waiting}")
        elif noted is not None and noted.down_since is not None:
            yield Condition(f"down:{name}", f"destination {name} does not answer; {waiting}", MOMENT)
        elif queue and numbers.at - queue.oldest_at > stuck_after:
            minutes = (numbers.at - queue.oldest_at) / 60
            words = f"a delivery has waited {minutes:.0f} minutes for {name}; {waiting}"
            yield Condition(f"stuck:{name}", words)
