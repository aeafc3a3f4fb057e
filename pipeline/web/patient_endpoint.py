"""`/patient/by-accession`: what the HIS knows of a patient, as JSON, for programs without access of their own."""

from starlette.requests import Request
from starlette.responses import Response

from pipeline.model import OrderError
from pipeline.web.http_errors import UNAUTHORIZED, HttpError, kind_of
from pipeline.web.http_responses import json
from pipeline.web.order_request import accessions_of
from pipeline.web.order_service import ask
from pipeline.web.shim_site import site_of


async def by_accession(request: Request) -> Response:
    """Return the patient of an accession number; refused for everybody if the site has no key."""
    site = site_of(request)
    if not site.keyring.is_set:
        raise HttpError(UNAUTHORIZED, "patient data is served with a key only, and the site has none")
    if site.settings.patients.kind != "sql":
        raise HttpError(kind_of(OrderError.NOT_CONFIGURED), '[patients] kind is not "sql"')
    (accession,) = accessions_of(request.query_params.multi_items(), site.settings, at_most=1)
    person = await ask(site.people.person, accession, must_be_fresh=True)
    return json(person.as_json())
