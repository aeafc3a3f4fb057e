"""The page of an order, its file, and the buttons that place another order."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp

from pipeline.dicom.accession import AccessionNumber
from pipeline.errors import Usage
from pipeline.orders import OrderView
from pipeline.orders.finish import DeliveryRunning, cancel
from pipeline.web.http_errors import (
    DELIVERY_RUNNING,
    NO_OPERATOR,
    NOT_FOUND,
    NOT_FROM_PAGE,
    WRONG_METHOD,
    HttpError,
)
from pipeline.web.http_responses import html, json, order_page, words_of
from pipeline.web.negotiation import wants_page
from pipeline.web.order_addresses import (
    PATH_OF,
    Addresses,
    addresses_of,
    names_an_order,
    reference_in,
    wants_form,
)
from pipeline.web.order_endpoints import link, result
from pipeline.web.order_request import OrderRequest, Verb, allowances, destination_of
from pipeline.web.order_service import ask
from pipeline.web.page_forms import FIELD, fields_of, is_token_of, token_of
from pipeline.web.result_body import address_of, falls_short, served
from pipeline.web.shim_site import ShimSite, site_of

REASON, OPERATOR_KEY = "reason", "operator_key"  # Fields of the form that overrides a difference of identity.
CANCEL = "cancel"  # The field of the form that ends an order.
WHY_CANCELLED = "on the page of the order"
_WAYS = {"download": Verb.DOWNLOAD_MULTIPLE, "print": Verb.PRINT, "forward": Verb.FORWARD}


def link_or_page(verb: Verb) -> Callable[[Request], Awaitable[Response | ASGIApp]]:
    """Return the endpoint of a link: it places orders, and with `?order=` shows those it has placed."""
    place = link(verb)

    async def answer(request: Request) -> Response | ASGIApp:
        if names_an_order(request):
            return await _under_link(request, verb)
        if request.method == "POST":
            raise HttpError(WRONG_METHOD)
        if wants_form(request) and wants_page(request):
            key = "download" if verb.makes_a_file else str(verb)
            return _form(request, [{"path": "", "text": words_of(request).say(f"button.start_{key}")}])
        return await place(request)

    return answer


async def _under_link(request: Request, verb: Verb) -> Response | ASGIApp:
    _, view = await _named(request)
    if view.verb != verb:  # A client that may use this link may not use every other.
        raise _no_such_order()
    if request.method == "POST":
        return await again(request)
    return await (file(request) if "file" in request.query_params else show(request))


async def show(request: Request) -> Response:
    """Show the state of an order: a page, or JSON for programs."""
    request.state.is_quiet = True  # A page renews itself every second.
    site, view = await _named(request)
    at = addresses_of(request, view)
    if not wants_page(request):
        return json(as_json(view, at))
    name = ""
    if Verb(view.verb).asks_patients and served(view):
        name = await ask(site.people.name_of, view)
    address = address_of(site.settings.destination_named(view.destination))
    token = await ask(token_of, site.settings.spool.store, view.id)
    has_operator = bool(site.keyring.operator_key)
    return order_page(
        request, view, at=at, patient_name=name, address=address, token=token, has_operator=has_operator
    )


async def file(request: Request) -> Response | ASGIApp:
    """Send the file an order has made."""
    _, view = await _named(request)
    if view.ended_at is None or not Verb(view.verb).makes_a_file:
        raise HttpError(NOT_FOUND, "there is no file of this order")
    return await result(request, view, is_named=True)


async def again(request: Request) -> Response:
    """Place another order for the same request, and show it. A button sends this POST: no reload repeats it."""
    site, view = await _named(request)
    fields = await fields_of(request)
    await ask(_require_token, site, view, fields)
    if CANCEL in dict(fields):
        await ask(_cancel, site, view.id, addresses_of(request, view).onwards)
        return RedirectResponse(addresses_of(request, view).onwards, 303)
    verb = Verb(view.verb)
    wish = OrderRequest(
        verb=verb,
        accessions=tuple(AccessionNumber.parse(text) for text in view.accessions),
        destination=destination_of(verb, site.settings, view.destination),
        modalities=view.modalities,
        container=view.container,
        **allowances(fields),
        allow_identity=_reason(request, site, fields),
    )
    if verb.asks_patients:
        await ask(site.people.require_one, wish.accessions)
    placed = await ask(site.order_service.place, wish)
    request.state.order = placed.order_id
    return RedirectResponse(addresses_of(request, await ask(site.order_service.stands, placed, wish)).onwards, 303)


def _cancel(site: ShimSite, number: int, page: str) -> None:
    """End an open order; while its destination is being sent it, raises HttpError leading back to its `page`."""
    try:
        cancel(site.order_service.ledger(), number, WHY_CANCELLED)
    except Usage:  # It has ended meanwhile, and its page says how.
        return
    except DeliveryRunning as error:
        raise HttpError(DELIVERY_RUNNING, str(error), page=page) from error


async def start(request: Request) -> Response:
    """Show a form for accession numbers, with a button for each kind of link the site has."""
    named = site_of(request).settings.link_destinations
    words = words_of(request)
    ways = [
        {"path": PATH_OF[verb], "text": words.say(f"button.start_{key}")}
        for key, verb in _WAYS.items()
        if named[key]
    ]
    return _form(request, ways)


def _form(request: Request, ways: list[dict[str, str]]) -> Response:
    return html(request, "start.html", ways=ways)


def as_json(view: OrderView, at: Addresses) -> dict[str, Any]:
    """Return an order for programs, with our addresses in place of paths of the machine."""
    body = view.as_json()
    if view.result is not None:
        body["result"] = {"name": view.result.name, "size": view.result.size, "address": at.root + at.file}
    is_whole = served(view) and not falls_short(view)
    return {**body, "served": served(view), "complete": is_whole, "page": at.root + at.page}


def _reason(request: Request, site: ShimSite, fields: list[tuple[str, str]]) -> str | None:
    """Return the reason for overriding a difference of identity, None if it is not overridden.

    Raises HttpError.
    """
    given = dict(fields)
    if REASON not in given:
        return None
    if not site.keyring.is_operator(given.get(OPERATOR_KEY, "") or request.headers.get("x-operator-key", "")):
        raise HttpError(NO_OPERATOR, "who lets this through has to show the operator key of this site")
    return given[REASON]


def _require_token(site: ShimSite, view: OrderView, fields: list[tuple[str, str]]) -> None:
    """Raise HttpError unless a page of this order sent the form."""
    shown = [value for name, value in fields if name == FIELD]
    if len(shown) != 1 or not is_token_of(site.settings.spool.store, view.id, shown[0]):
        raise HttpError(
            NOT_FROM_PAGE, "the form carries no token of this order; open its page again and use the button"
        )


async def _named(request: Request) -> tuple[ShimSite, OrderView]:
    site = site_of(request)
    was_before = "before" in request.query_params  # The link that led here found a finished order.
    view = await ask(site.order_service.named, reference_in(request), is_new=not was_before)
    if view is None:
        raise _no_such_order()
    request.state.order = view.id
    return site, view


def _no_such_order() -> HttpError:
    return HttpError(NOT_FOUND, "no such order; open the study again from the information system")
