"""The page of an order, its file, and the buttons that place another one."""

import asyncio
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp

from pipeline.dicom.accession import AccessionNumber
from pipeline.orders import OrderView
from pipeline.web.answers import address_of, served
from pipeline.web.desk import ask
from pipeline.web.links import result
from pipeline.web.refusal import INVALID_PARAMETER, NOT_FOUND, Refusal
from pipeline.web.shortfall import falls_short
from pipeline.web.site import ShimSite, site_of
from pipeline.web.speech import html, json, order_page, path_of, wants_page, words_of
from pipeline.web.wish import Verb, Wish, allowances, destination_of

BODY_SECONDS = 10.0
WAYS = {"download": "/api/iso/download-multiple", "print": "/api/iso/print", "forward": "/api/iso/forward"}


async def show(request: Request) -> Response:
    """Show how an order stands: a page, or for programs the same as JSON."""
    site, view = await _named(request)
    if not wants_page(request):
        return json(as_json(view))
    name = ""
    if Verb(view.verb).asks_patients and served(view):
        name = await ask(site.people.name_of, view)
    address = address_of(site.settings.destination_named(view.destination))
    return order_page(request, view, patient_name=name, address=address)


async def file(request: Request) -> Response | ASGIApp:
    """Send the file an order has made."""
    _, view = await _named(request)
    if view.ended_at is None or not Verb(view.verb).makes_a_file:
        raise Refusal(NOT_FOUND, "there is no file of this order")
    return await result(request, view, is_named=True)


async def again(request: Request) -> Response:
    """Place another order for the same, and show it: a button's POST, so that no reload repeats it."""
    site, view = await _named(request)
    fields = await _fields(request)
    verb = Verb(view.verb)
    wish = Wish(
        verb=verb,
        accessions=tuple(AccessionNumber.parse(text) for text in view.accessions),
        destination=destination_of(verb, site.settings, view.destination),
        modalities=view.modalities,
        container=view.container,
        **allowances(fields),
    )
    if verb.asks_patients:
        await ask(site.people.require_one, wish.accessions)
    placed = await ask(site.desk.place, wish)
    request.state.order = placed.order_id
    return RedirectResponse(path_of(await ask(site.desk.stands, placed, wish)), 303)


async def start(request: Request) -> Response:
    """Show a form for accession numbers, with a button for each kind of link the site has."""
    named = site_of(request).settings.shim.destinations
    words = words_of(request)
    ways = [{"path": path, "text": words.say(f"button.start_{key}")} for key, path in WAYS.items() if named[key]]
    return html(request, "start.html", ways=ways)


def as_json(view: OrderView) -> dict[str, Any]:
    """Return an order for programs, with addresses of ours in the place of paths of the machine."""
    body = view.as_json()
    if view.result is not None:
        body["result"] = {"name": view.result.name, "size": view.result.size, "address": f"{path_of(view)}/file"}
    is_whole = served(view) and not falls_short(view)
    return {**body, "served": served(view), "complete": is_whole, "page": path_of(view)}


async def _named(request: Request) -> tuple[ShimSite, OrderView]:
    site = site_of(request)
    was_before = "before" in request.query_params  # the link that led here found it done
    view = await ask(site.desk.named, request.path_params["reference"], is_new=not was_before)
    if view is None:
        raise Refusal(NOT_FOUND, "no such order; open the study again from the information system")
    request.state.order = view.id
    return site, view


async def _fields(request: Request) -> list[tuple[str, str]]:
    """Return the fields of a form; the application has a limit to its length."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await request.body()
        return parse_qsl(body.decode("ascii"), max_num_fields=10)
    except (TimeoutError, UnicodeDecodeError, ValueError) as error:
        raise Refusal(INVALID_PARAMETER, "the form cannot be read") from error
