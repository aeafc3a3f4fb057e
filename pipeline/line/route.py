"""Decide once where each instance of a gathered study goes.

A decision made before a crash stays, although the configuration may have changed since: otherwise a part of a
study would go elsewhere than the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.config.receiver_tables import ReceiverTable
from pipeline.config.route_tables import RouteFacts
from pipeline.ledger import study_routes
from pipeline.ledger.rows import SoundInstanceRow
from pipeline.site.routing import Routed, Routing
from pipeline.site.site import Site


@dataclass(frozen=True, slots=True)
class StudyRoutes:
    """The routes `of` the waiting instances of a study, by row number.

    `undecided` are the instances whose routes are not in the ledger yet. `along` are instances that were prepared
    before, each with its encoding, by the destination that gets the whole study now.
    """

    of: Mapping[int, tuple[Routed, ...]]
    undecided: frozenset[int]
    along: Mapping[str, Sequence[tuple[SoundInstanceRow, str]]]

    def destinations(self) -> list[str]:
        """Return the names of all destinations, each once."""
        names = dict.fromkeys(way.destination for ways in self.of.values() for way in ways)
        return list(names | dict.fromkeys(self.along))

    def encode_for(self, destination: str, instance: int) -> str | None:
        """Return the encoding of an instance for a destination, None if it does not go there."""
        return next((way.encode for way in self.of[instance] if way.destination == destination), None)


def route(rows: Sequence[SoundInstanceRow], receiver: ReceiverTable, site: Site) -> StudyRoutes:
    """Return the routes of the waiting instances `rows` of one study.

    Raises Configuration if the configuration names a destination that it does not have.
    """
    of = {row.id: tuple(Routed(*way) for way in row.routed_to) for row in rows if row.routed_to is not None}
    undecided = [row for row in rows if row.id not in of]
    if not undecided:
        return StudyRoutes(of, frozenset(), {})
    if not of and (begun := _begun_before_routes(undecided[0].study_instance_uid, receiver, site)):
        return StudyRoutes(dict.fromkeys((row.id for row in rows), begun), frozenset(row.id for row in rows), {})
    before = _prepared_before(undecided[0].study_instance_uid, receiver, site)
    routing = Routing(site.settings, receiver, (facts_of(row, receiver.name) for row in (*rows, *before)))
    of |= {row.id: routing.of(facts_of(row, receiver.name)) for row in undecided}
    return StudyRoutes(of, frozenset(row.id for row in undecided), _along(before, receiver, routing, site))


def _begun_before_routes(study: str, receiver: ReceiverTable, site: Site) -> tuple[Routed, ...]:
    """Return the destinations to which a release of this program without routes has begun to send the study."""
    with site.ledger.reading() as connection:
        return tuple(Routed(*way) for way in study_routes.begun_before_routes(connection, receiver.name, study))


def facts_of(row: SoundInstanceRow, receiver: str) -> RouteFacts:
    """Return the facts about an instance that the conditions of routes can test."""
    return RouteFacts(
        receiver,
        row.calling_ae_title,
        row.called_ae_title,
        row.peer,
        row.modality,
        row.sop_class_uid,
        row.body_part,
    )


def _prepared_before(study: str, receiver: ReceiverTable, site: Site) -> list[SoundInstanceRow]:
    """Return the instances of the study that were prepared before, if routes may send whole studies."""
    if not (site.settings.route and receiver.coerce):
        return []
    with site.ledger.reading() as connection:
        return study_routes.prepared(connection, receiver.name, study)


def _along(
    before: Sequence[SoundInstanceRow], receiver: ReceiverTable, routing: Routing, site: Site
) -> dict[str, list[tuple[SoundInstanceRow, str]]]:
    """Return the earlier instances that each destination of the whole study lacks, with their encodings."""
    if not before or not routing.has_whole_studies:
        return {}
    found: dict[str, list[tuple[SoundInstanceRow, str]]] = {}
    known: dict[str, frozenset[int]] = {}
    with site.ledger.reading() as connection:
        for row in before:
            for way in routing.of(facts_of(row, receiver.name)):
                if not routing.is_whole(way.destination):
                    continue
                if way.destination not in known:
                    known[way.destination] = study_routes.known_at(
                        connection, row.study_instance_uid, way.destination
                    )
                if row.id not in known[way.destination]:
                    found.setdefault(way.destination, []).append((row, way.encode))
    return found
