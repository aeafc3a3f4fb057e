"""Responses of the shim: JSON for programs, pages for people, each with headers that keep it safe in a browser."""

import functools
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from pipeline.languages import Translation, chosen
from pipeline.model import OrderError
from pipeline.orders import OrderView
from pipeline.web.differing_patients import may_be_let_through
from pipeline.web.http_errors import (
    INVALID_ACCESSION,
    NOT_OUR_HOST,
    TOO_MANY,
    UNAUTHORIZED,
    WRONG_METHOD,
    HttpError,
)
from pipeline.web.negotiation import wants_page
from pipeline.web.order_addresses import Addresses, form_for
from pipeline.web.order_page import page_of
from pipeline.web.order_request import SPELLINGS, Verb
from pipeline.web.shim_site import site_of

POLICY = (  # Content Security Policy: no foreign resources, no inline scripts, no frames.
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_OF_NUMBERS = {INVALID_ACCESSION.key, str(OrderError.PATIENT_UNKNOWN), str(OrderError.NO_DATA)}
_OF_THE_CLIENT = {UNAUTHORIZED, NOT_OUR_HOST}  # A form for another request would be refused as well.
_LONGEST_FIELD = 1400  # Characters that a page repeats of a refused request.
_WORTH_A_RETRY = {500, 502, 503}  # For other statuses the same request would get the same answer.


def request_id_of(request: Request) -> str:
    """Return the ID of a request, which is in the log, too."""
    return str(request.state.request_id)


def words_of(request: Request) -> Translation:
    """Return the translation for the language of the client."""
    return chosen(request.headers.get("accept-language", ""), site_of(request).settings.site.language)


def refused(request: Request, refusal: HttpError) -> Response:
    """Return the answer for an error, to a program or to a person."""
    headers = refusal.headers
    kind = refusal.kind
    if kind is UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if kind is WRONG_METHOD:
        headers["Allow"] = "GET, HEAD"
    if kind.status == 416:
        headers["Content-Range"] = f"bytes */{refusal.more['size']}"
    if not wants_page(request):
        return json(refusal.as_json(request_id_of(request)), kind.status, headers)
    may_retry = request.method == "GET" and kind.status in _WORTH_A_RETRY
    query = request.scope["query_string"].decode("latin-1")
    return html(
        request,
        "refused.html",
        kind.status,
        headers,
        kind=kind,
        detail=refusal.detail or "",
        correct=_given_numbers(request) if request.method == "GET" and kind.key in _OF_NUMBERS else "",
        others=_other_parameters(request),
        order=refusal.more.get("page", ""),
        retry=f"?{query}" if may_retry else "",  # The path stays, whatever a proxy calls it.
        new="" if kind in _OF_THE_CLIENT else form_for(request),
        again_after=kind.retry_after if may_retry and kind is TOO_MANY else None,
    )


def _given_numbers(request: Request) -> str:
    """Return the numbers of a refused request, so that whoever typed them can correct them."""
    given = [value for name, value in request.query_params.multi_items() if name in SPELLINGS]
    return ",".join(given)[:_LONGEST_FIELD]


def _other_parameters(request: Request) -> list[tuple[str, str]]:
    """Return what else a refused request asked for."""
    given = [(name, value) for name, value in request.query_params.multi_items() if name not in SPELLINGS]
    return given if sum(len(name) + len(value) for name, value in given) <= _LONGEST_FIELD else []


def json(body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON answer."""
    return JSONResponse(body, status, {**(headers or {}), "Vary": "Accept"})


def order_page(  # noqa: PLR0913  # what the page needs, each by its name
    request: Request,
    view: OrderView,
    *,
    at: Addresses,
    patient_name: str,
    address: str,
    token: str,
    has_operator: bool,
) -> Response:
    """Return the page of an order; `has_operator` says that the site has a key for persons who decide."""
    lets_through = has_operator and may_be_let_through(view)
    page = page_of(view, words_of(request), patient_name=patient_name, address=address)
    about: dict[str, Any] = {
        "page": page,
        "number": view.id,
        "at": at,
        "token": token,
        "lets_through": lets_through,
        "kept": [("format", "html"), *_asked_besides(view)],
    }
    return html(request, "order.html", **about)


def _asked_besides(view: OrderView) -> list[tuple[str, str]]:
    """Return what a link asked for besides its numbers, for the form that corrects them."""
    parameters = {
        "to": view.destination if view.verb == Verb.FORWARD else "",
        "modality": ",".join(view.modalities),
        "container": view.container,
    }
    return [(name, value) for name, value in parameters.items() if value]


def html(
    request: Request, template: str, status: int = 200, headers: dict[str, str] | None = None, **values: Any
) -> Response:
    """Return a page; its template escapes every value."""
    words = words_of(request)
    site = site_of(request).settings
    about = {
        "words": words,
        "request_id": request_id_of(request),
        "hospital": site.site.name,
        "has_logo": site.logo,
        "back_to": site.shim.back_to,
    }
    text = _templates().get_template(template).render(**about, **values)
    more = {"Content-Security-Policy": POLICY, "Content-Language": words.code, "Vary": "Accept, Accept-Language"}
    return HTMLResponse(text, status, {**(headers or {}), **more})


@functools.cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("pipeline.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
