"""The ASGI application: the routes, and the answer to every exception."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pipeline.errors import StorestowError
from pipeline.events import Event, alarm
from pipeline.model import OrderError
from pipeline.web import metrics, own_status, page_endpoints
from pipeline.web.http_errors import (
    CLIENT_HAS_GONE,
    NOT_FOUND,
    TOO_LONG,
    WRONG_METHOD,
    ErrorKind,
    HttpError,
    kind_of,
)
from pipeline.web.http_responses import html, json, refused
from pipeline.web.middleware import RequestLog, RequireKey
from pipeline.web.openapi import description
from pipeline.web.operator import endpoints as operator_endpoints
from pipeline.web.order_addresses import LINKS
from pipeline.web.order_endpoints import by_accession
from pipeline.web.our_hosts import OurHosts, is_asked_as_us
from pipeline.web.page_assets import PageAssets, asset
from pipeline.web.shim_site import ShimSite, site_of

LONGEST_BODY = 4096  # Bytes; request bodies come only from the buttons of our pages.
_KINDS = {404: NOT_FOUND, 405: WRONG_METHOD, 413: TOO_LONG}


def application(site: ShimSite) -> ASGIApp:
    """Return the application that serves this site."""
    app = Starlette(
        routes=routes(),
        middleware=[
            Middleware(OurHosts, hosts=site.settings.shim.hosts),
            _cross_origin(site.settings.shim.allowed_origins),
            Middleware(PageAssets),
            Middleware(RequireKey, site=site),
        ],
        exception_handlers={
            HttpError: _refused,
            StorestowError: _failed,
            HTTPException: _not_served,
            ClientDisconnect: _has_gone,
            Exception: _bug,
        },
        max_body_size=LONGEST_BODY,
    )
    app.router.redirect_slashes = False
    app.state.site = site
    return RequestLog(app)


def routes() -> list[Route]:
    """Return every route."""
    return [
        Route("/api/health", health),
        Route("/api/openapi.json", openapi),
        Route("/api/docs", docs),
        Route(metrics.PATH, metrics.metrics),
        Route(own_status.STATUS_PATH, own_status.own_status),
        *(Route(path, page_endpoints.link_or_page(verb), methods=["GET", "POST"]) for path, verb in LINKS.items()),
        Route("/patient/by-accession", by_accession),
        *operator_endpoints.routes(),
        Route("/orders/assets/{name}", asset),
        Route("/orders/{reference}", page_endpoints.show),
        Route("/orders/{reference}/file", page_endpoints.file),
        Route("/orders/{reference}/again", page_endpoints.again, methods=["POST"]),
        Route("/", page_endpoints.start),
    ]


async def health(request: Request) -> Response:
    """Say whether orders can be served; details need the key.

    With `receiver`, say whether that receiver of this machine takes associations.
    """
    site = site_of(request)
    if receiver := request.query_params.get("receiver"):
        is_well = await site.health.receives(receiver)
        return json({"status": "ok" if is_well else "down"}, 200 if is_well else 503)
    report = await site.health.told()
    shows_key = not site.keyring.is_set or site.keyring.opens(request.headers)
    if not (shows_key and is_asked_as_us(request.headers, site.settings.shim.hosts)):
        report = {"status": report["status"]}
    return json(report, 503 if report["status"] == "down" else 200)


async def openapi(_request: Request) -> Response:
    """Return the OpenAPI description of the interface."""
    return json(description())


async def docs(request: Request) -> Response:
    """Return the same description as a page for people, which needs no script and nothing from elsewhere."""
    return html(request, "api_docs.html", api=description())


def _cross_origin(origins: tuple[str, ...]) -> Middleware:
    return Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=("GET", "HEAD", "POST"),
        allow_headers=("Authorization", "X-API-Key", "X-Request-ID", "Range", "If-Range", "If-Match"),
        expose_headers=(
            *("X-Request-ID", "Content-Disposition", "Content-Length", "Content-Range", "Accept-Ranges"),
            *("ETag", "Retry-After"),
        ),
    )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HttpError)
    return refused(request, error)


async def _failed(request: Request, error: Exception) -> Response:
    """Answer for a classified error that no endpoint expected; its words go to the log only."""
    alarm(Event.HELD, what=f"request {request.state.request_id}", reason=error)
    return refused(request, HttpError(kind_of(OrderError.INTERNAL)))


async def _not_served(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = _KINDS.get(error.status_code, ErrorKind("invalid-parameter", error.status_code, "bad request"))
    answer = refused(request, HttpError(kind))
    answer.headers.update(error.headers or {})
    return answer


async def _has_gone(_request: Request, _error: Exception) -> Response:
    """Answer for a client that left in the middle of a form, which is no bug; nobody reads the answer."""
    return Response(status_code=CLIENT_HAS_GONE)


async def _bug(request: Request, _error: Exception) -> Response:
    """Answer for a bug; `RequestLog` logs it without its text."""
    return refused(request, HttpError(kind_of(OrderError.INTERNAL)))
