"""Where an instance goes: by every route that matches; what matches none goes where its receiver's `to` says.

A destination that makes one file of a study gets the whole study as soon as one instance of it goes there: a
reader takes a disc with some of a study's instances for the whole study.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from pipeline.config.receiver_tables import ReceiverTable
from pipeline.config.route_tables import RouteFacts, RouteTable
from pipeline.site.settings import Settings


@dataclass(frozen=True, slots=True)
class Routed:
    """One destination of an instance, how its pixels are encoded for it, and which table says so."""

    destination: str
    encode: str
    by: str = ""  # `route 2`, or the receiver whose `to` names it.


@dataclass(frozen=True, slots=True)
class _RouteEntry:
    """A route, or the `to` of a receiver for what no route matches; the first in the file ranks first."""

    rank: int
    name: str
    to: tuple[str, ...]
    encode: str | None
    whole_study: bool


class Routing:
    """The routes of one study that came in by one receiver; `study` has the facts of all its instances.

    Raises Configuration if a table names a destination that is not configured.
    """

    def __init__(self, settings: Settings, receiver: ReceiverTable, study: Iterable[RouteFacts]) -> None:
        self._settings = settings
        self._routes = routes_of(settings, receiver)
        self._rest = _RouteEntry(
            len(settings.route), f"receiver {receiver.name}", receiver.to, None, whole_study=False
        )
        self._own_entries = cache(self._own_entries_of)
        matching = {rule for facts in set(study) for rule in self._own_entries(facts)}
        self._whole = {
            (rule, name) for rule in matching for name in rule.to if rule.whole_study or self._makes_file(name)
        }

    @property
    def has_whole_studies(self) -> bool:
        """Tell whether any destination gets the whole study."""
        return bool(self._whole)

    def is_whole(self, destination: str) -> bool:
        """Tell whether this destination gets the whole study."""
        return any(name == destination for _, name in self._whole)

    def of(self, facts: RouteFacts) -> tuple[Routed, ...]:
        """Return the destinations of an instance, each once, in the order of the configuration.

        The first matching route that names an `encode` for a destination decides, else the destination does.
        """
        own = self._own_entries(facts)
        ways = [(rule, name) for rule in own for name in rule.to]
        ways += sorted(self._whole - set(ways), key=lambda way: (way[0].rank, way[0].to.index(way[1])))
        found: dict[str, Routed] = {}
        for rule, name in ways:
            before = found.get(name)
            if before is None or (rule.encode and not self._names_encode(before)):
                encode = rule.encode or self._settings.destination_named(name).encode
                found[name] = Routed(name, encode, rule.name)
        return tuple(found.values())

    def _names_encode(self, routed: Routed) -> bool:
        return any(name == routed.by and route.encode for name, route in self._routes)

    def _own_entries_of(self, facts: RouteFacts) -> tuple[_RouteEntry, ...]:
        matching = tuple(
            _RouteEntry(rank, name, route.to, route.encode, route.whole_study)
            for rank, (name, route) in enumerate(self._routes)
            if route.matches(facts)
        )
        return matching or (self._rest,)

    def _makes_file(self, destination: str) -> bool:
        return self._settings.destination_named(destination).makes_file


def routes_of(settings: Settings, receiver: ReceiverTable) -> list[tuple[str, RouteTable]]:
    """Return the routes that may match what a receiver takes in, with their names.

    None matches at a receiver that does not coerce: what a PACS sends for an order would go back to it.
    """
    if not receiver.coerce:
        return []
    return [
        (f"route {number}", route)
        for number, route in enumerate(settings.route, 1)
        if route.may_match_receiver(receiver.name)
    ]


def possible(settings: Settings, receiver: ReceiverTable) -> Iterator[Routed]:
    """Yield each destination to which an instance of this receiver may go, with each encoding for it."""
    for name, route in routes_of(settings, receiver):
        for destination in route.to:
            encode = route.encode or settings.destination_named(destination).encode
            yield Routed(destination, encode, name)
    for destination in receiver.to:
        yield Routed(destination, settings.destination_named(destination).encode, f"receiver {receiver.name}")
