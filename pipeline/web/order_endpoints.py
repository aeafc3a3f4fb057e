"""The links of the HIS: each places an order, and answers with its result or a page of its progress.

`/patient/by-accession` is for programs that have no access to the HIS of their own.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp

from pipeline.model import OrderError
from pipeline.orders import OrderView
from pipeline.web.http_errors import (
    CHANGED,
    CLIENT_HAS_GONE,
    NOT_FROM_PAGE,
    PREFETCH,
    RESULT_GONE,
    UNAUTHORIZED,
    HttpError,
    kind_of,
)
from pipeline.web.http_responses import json, request_id_of
from pipeline.web.negotiation import is_browser, is_embedded, wants_page
from pipeline.web.order_addresses import under_link
from pipeline.web.order_request import OrderRequest, Verb, accessions_of, wish_of
from pipeline.web.order_service import ask
from pipeline.web.result_body import refusal_of, sent_body, served
from pipeline.web.shim_site import ShimSite, site_of
from pipeline.web.transfer import OpenResult, Transfer, has_it, name_of, names_it, wanted_part

_FOR_LATER = re.compile(r"prefetch|prerender|preview", re.IGNORECASE)
_ASKS_FOR_THE_REST = re.compile(r"bytes=(?:0*[1-9]\d*-|-\d)")


def link(verb: Verb) -> Callable[[Request], Awaitable[Response | ASGIApp]]:
    """Return the endpoint of a link."""

    async def answer(request: Request) -> Response | ASGIApp:
        return await _answer(request, verb)

    return answer


async def _answer(request: Request, verb: Verb) -> Response | ASGIApp:
    site = site_of(request)
    wish = wish_of(verb, request.query_params.multi_items(), site.settings)
    if request.method == "HEAD" or (verb.makes_a_file and "if-match" in request.headers):
        return await _without_an_order(request, wish, site)
    if is_prefetch(request.headers):
        raise HttpError(PREFETCH, "a link that orders something is followed by people, not ahead of them")
    if is_embedded(request.headers, site.settings.shim.allowed_origins):
        raise HttpError(NOT_FROM_PAGE, "a page asks for this by itself; whoever follows the link gets it")
    # For a browser, repeating is a button: neither a reload nor another site presses it.
    if is_browser(request.headers):
        wish = replace(wish, again=False)
    if verb.asks_patients:
        await ask(site.people.require_one, wish.accessions)
    placed = await ask(site.order_service.place, wish, for_the_rest=wants_rest(request.headers))
    request.state.order = placed.order_id
    if wants_page(request):  # The address of the page places no order on a reload.
        now = await ask(site.order_service.stands, placed, wish)
        return RedirectResponse(under_link(now).page + ("&before=1" if now.already_sent else ""), 303)
    view = await site.order_service.ended(placed, wish, request.is_disconnected)
    if view is None:
        return Response(status_code=CLIENT_HAS_GONE)
    return await result(request, view)


async def _without_an_order(request: Request, wish: OrderRequest, site: ShimSite) -> Response | ASGIApp:
    """Answer without placing an order: for HEAD, and for a client that wants its own file (If-Match).

    If GET would first have a file made, HEAD cannot tell its length, and no file matches the one named.
    """
    is_head = request.method == "HEAD"
    view = await ask(site.order_service.known, wish, for_the_rest=not is_head or wants_rest(request.headers))
    if view is not None and view.result is not None and served(view):
        request.state.order = view.id
        return await result(request, view)
    if not is_head:
        raise HttpError(CHANGED, "the image you have a part of is no longer kept; ask for it from its beginning")
    answer = Response(media_type="application/octet-stream" if wish.verb.makes_a_file else "application/json")
    del answer.headers["content-length"]
    return answer


def wants_rest(headers: Headers) -> bool:
    """Say whether the client has the beginning of a file already."""
    return bool(_ASKS_FOR_THE_REST.match(headers.get("range", "")))


def is_prefetch(headers: Headers) -> bool:
    """Say whether a browser fetches a link before anybody has followed it."""
    return any(
        _FOR_LATER.search(headers.get(name, "")) for name in ("sec-purpose", "purpose", "x-purpose", "x-moz")
    )


async def result(request: Request, view: OrderView, *, is_named: bool = False) -> Response | ASGIApp:
    """Answer with the result of an order; `is_named` says that the address names exactly this order."""
    site = site_of(request)
    if not served(view):
        raise refusal_of(view, site.settings.destination_named(view.destination))
    if Verb(view.verb).makes_a_file:
        return await _file(request, view, site, is_named=is_named)
    return await _sent(request, view, site)


async def _sent(request: Request, view: OrderView, site: ShimSite) -> Response:
    body: dict[str, Any] = sent_body(view, site.settings.destination_named(view.destination))
    if Verb(view.verb).asks_patients:
        body["patient_name"] = await ask(site.people.name_of, view) or None
    return json({**body, "request_id": request_id_of(request)})


async def _file(request: Request, view: OrderView, site: ShimSite, *, is_named: bool) -> Response | ASGIApp:
    if view.result is None:
        raise HttpError(RESULT_GONE, "the file is no longer kept; ask for it again")
    patient_name = await ask(site.people.name_of, view) if Verb(view.verb).asks_patients else ""
    is_the_only_one = is_named or await ask(site.order_service.made_one_file, view.id)
    opened = await ask(OpenResult.of, view.result)
    try:
        headers = request.headers
        is_that_one = names_it(headers, opened.entity_tag) or is_the_only_one
        if has_it(headers, opened.entity_tag):
            opened.close()
            return Response(status_code=304, headers={"ETag": opened.entity_tag})
        part = None
        if request.method == "GET":  # Range exists for GET only (RFC 9110, 14.2).
            part = wanted_part(opened, headers.get("range"), headers.get("if-range"), is_the_only_one=is_that_one)
        return Transfer(opened, name_of(view, view.result, patient_name), part)
    except BaseException:
        opened.close()
        raise


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
