"""What all endpoints work with, created once when the shim starts."""

from dataclasses import dataclass
from typing import cast

from starlette.requests import Request

from pipeline import patients
from pipeline.fleet.fleet_watch import FleetWatch
from pipeline.site.settings import Settings
from pipeline.web.api_key import ApiKeys, keyring_of
from pipeline.web.health import Health
from pipeline.web.order_service import OrderService
from pipeline.web.patient_names import PatientNames


@dataclass(frozen=True, slots=True)
class ShimSite:
    """The site, and what its endpoints share."""

    settings: Settings
    order_service: OrderService
    keyring: ApiKeys
    people: PatientNames
    health: Health
    fleet: FleetWatch

    def close(self) -> None:
        """Close the ledger, after the last request."""
        self.order_service.close()


def opened(settings: Settings) -> ShimSite:
    """Return the site; raises Configuration if a key or [patients] cannot work."""
    order_service = OrderService(settings)
    people = PatientNames(patients.from_table(settings.patients), order_service)
    health, fleet = Health(order_service), FleetWatch(settings.fleet)
    return ShimSite(settings, order_service, keyring_of(settings), people, health, fleet)


def site_of(request: Request) -> ShimSite:
    """Return the site a request is for."""
    return cast("ShimSite", request.app.state.site)
