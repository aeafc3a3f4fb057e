"""`/patient/by-accession`: what the tables of the HIS say, as JSON, in the place of other programs' own access."""

from starlette.requests import Request
from starlette.responses import Response

from pipeline.model import OrderError
from pipeline.web.desk import ask
from pipeline.web.refusal import UNAUTHORIZED, Refusal, kind_of
from pipeline.web.site import site_of
from pipeline.web.speech import json
from pipeline.web.wish import accessions_of


async def by_accession(request: Request) -> Response:
    """Answer who an accession number is of; never where the site has no key, whoever asks from where."""
    site = site_of(request)
    if not site.keyring.is_set:
        raise Refusal(UNAUTHORIZED, "patient data is served with a key only, and the site has none")
    if site.settings.patients.kind != "sql":
        raise Refusal(kind_of(OrderError.NOT_CONFIGURED), '[patients] kind is not "sql"')
    (accession,) = accessions_of(request.query_params.multi_items(), site.settings, at_most=1)
    person = await ask(site.people.person, accession, must_be_fresh=True)
    return json(person.as_json())
