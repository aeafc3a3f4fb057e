"""Style sheets and images of the pages, served under every address as `?asset=NAME`.

A page therefore finds them at its own address, behind any proxy and prefix. They are open to all, and reveal
nothing.
"""

from importlib import resources
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.config.logo import MEDIA_TYPES, read_logo
from pipeline.errors import Configuration
from pipeline.web.http_errors import NOT_FOUND, HttpError

ASSETS = {
    "page.css": "text/css",
    "operator.css": "text/css",
    "page.js": "text/javascript",
    "operator.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
LOGO = b"asset=logo"  # The hospital's own, [site] logo.
_QUERIES = {f"asset={name}".encode(): name for name in ASSETS}


class PageAssets:
    """Answer requests for assets, and pass all others on."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        name = _QUERIES.get(scope["query_string"]) if scope["method"] in {"GET", "HEAD"} else None
        if scope["query_string"] == LOGO and scope["method"] in {"GET", "HEAD"}:
            scope["state"]["is_quiet"] = True
            await (await run_in_threadpool(_logo, scope["app"].state.site.settings.logo))(scope, receive, send)
        elif name is None:
            await self.app(scope, receive, send)
        else:
            scope["state"]["is_quiet"] = True
            await _drawn_with(name)(scope, receive, send)


def _logo(path: Path | None) -> Response:
    """Return the hospital's logo, in which nothing can run; 404 if the site has none that can be shown."""
    try:
        data = read_logo(path) if path else None
    except Configuration:  # `storestow check` says why.
        data = None
    if path is None or data is None:
        return Response(status_code=404)
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
    about = {"Cache-Control": "max-age=3600", "Content-Security-Policy": policy}
    return Response(data, headers={"Content-Type": MEDIA_TYPES[path.suffix.lower()], **about})


async def asset(request: Request) -> Response:
    """Return an asset under its older address."""
    name = request.path_params["name"]
    if name not in ASSETS:
        raise HttpError(NOT_FOUND)
    return _drawn_with(name)


def _drawn_with(name: str) -> Response:
    data = (resources.files("pipeline.web") / "assets" / name).read_bytes()
    return Response(
        data, headers={"Content-Type": f"{ASSETS[name]}; charset=utf-8", "Cache-Control": "max-age=3600"}
    )
