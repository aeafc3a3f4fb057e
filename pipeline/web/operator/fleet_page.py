"""The operator's page of a fleet: one row for each site; sites that need a person come first."""

from typing import Any

from pipeline.errors import Transient
from pipeline.fleet.fleet_watch import FleetWatch, SiteView
from pipeline.ledger import Ledger, told_alarms


def fleet_page(fleet: FleetWatch, ledger: Ledger | None, now: float) -> dict[str, Any]:
    """Return the contents of the page from what is known already; nobody is asked while it is made."""
    views = fleet.views(now)
    lost = _lost_since(ledger) if ledger else {}
    return {
        "now": now,
        "sites": [(view, _since(view, lost)) for view in views],
        "needy": sum(bool(view.needs) for view in views),
    }


def _lost_since(ledger: Ledger) -> dict[str, float]:
    """Return since when the worker has missed sites: it may have run longer than the shim."""
    try:
        with ledger.reading() as connection:
            return {alarm.key: alarm.since for alarm in told_alarms.read(connection) if alarm.ended_at is None}
    except Transient:  # The page of other sites must not depend on our own ledger.
        return {}


def _since(view: SiteView, lost: dict[str, float]) -> float | None:
    if not view.is_lost or view.since is None:
        return None
    return min(view.since, lost.get(f"site:{view.name}", view.since))
