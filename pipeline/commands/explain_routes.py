"""`storestow explain --last N`: where the last studies went, and where this configuration would send them."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from pipeline.config.receiver_tables import ReceiverTable
from pipeline.errors import Usage
from pipeline.ledger import study_routes
from pipeline.ledger.rows import SoundInstanceRow
from pipeline.line.route import facts_of
from pipeline.site.routing import Routing
from pipeline.site.settings import Settings
from pipeline.site.site_ledger import connect


@dataclass(frozen=True, slots=True)
class _Way:
    """A way instances took or would take: a destination and an encoding."""

    destination: str
    encode: str


def explain_last(settings: Settings, arrivals: int) -> dict[str, Any]:
    """Return what `settings` would have changed for the studies of the last arrivals, from the ledger alone.

    Raises:
        Usage: there is no ledger where the configuration names it.
    """
    ledger = connect(settings)
    try:
        if not ledger.exists():
            words = "name the spool of the running site in the new configuration, too"
            raise Usage(f"{ledger.name} does not exist: {words}")
        ledger.require_tables()
        with ledger.reading() as connection:
            studies = study_routes.studies_of_last_arrivals(connection, arrivals)
            told = [_study(connection, receiver, study, settings) for receiver, study in studies]
    finally:
        ledger.close()
    went, would_go = _totals(told, "went"), _totals(told, "would_go")
    return {
        "studies": told,
        "changed": sum(study["changed"] for study in told),
        "destinations": [
            {"destination": name, "went": went[name], "would_go": would_go[name]}
            for name in sorted(went.keys() | would_go.keys())
        ],
    }


def _totals(studies: list[dict[str, Any]], key: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for study in studies:
        for way in study[key]:
            total[way["destination"]] += way["instances"]
    return total


def _study(connection: Connection, receiver: str, study: str, settings: Settings) -> dict[str, Any]:
    table = next((table for table in settings.receiver if table.name == receiver), None)
    rows = study_routes.prepared(connection, receiver, study)
    taken = study_routes.ways_taken(connection, receiver, study)
    went = Counter(_Way(*way) for row in rows for way in taken.get(row.id, {}).items())
    would_go, by = _would_go(rows, table, settings)
    return {
        "receiver": receiver,
        "study_instance_uid": study,
        "instances": len(rows),
        "changed": went != would_go,
        "went": _listed(went, {}),
        "would_go": _listed(would_go, by),
    }


def _would_go(
    rows: list[SoundInstanceRow], table: ReceiverTable | None, settings: Settings
) -> tuple[Counter[_Way], dict[str, set[str]]]:
    """Return how many instances would go where, and by which tables; nowhere without their receiver."""
    would_go: Counter[_Way] = Counter()
    by: dict[str, set[str]] = {}
    if table is not None:
        facts = [facts_of(row, table.name) for row in rows]
        routing = Routing(settings, table, facts)
        for instance in facts:
            for way in routing.of(instance):
                would_go[_Way(way.destination, way.encode)] += 1
                by.setdefault(way.destination, set()).add(way.by)
    return would_go, by


def _listed(ways: Counter[_Way], by: dict[str, set[str]]) -> list[dict[str, Any]]:
    return [
        {
            "destination": way.destination,
            "encode": way.encode,
            "instances": instances,
            **({"by": sorted(by[way.destination])} if by else {}),
        }
        for way, instances in sorted(ways.items(), key=lambda item: (item[0].destination, item[0].encode))
    ]
