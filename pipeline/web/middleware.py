"""What every request and answer passes through: its ID, its line in the log, headers for browsers."""

import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.events import Event, bug, emit
from pipeline.web.http_errors import ALWAYS, TOO_MANY, UNAUTHORIZED, HttpError
from pipeline.web.http_responses import refused
from pipeline.web.metrics import PATH as METRICS_PATH
from pipeline.web.operator.endpoints import is_operator_path
from pipeline.web.own_status import STATUS_PATH
from pipeline.web.page_assets import ASSETS
from pipeline.web.request_target import bring_into_origin_form
from pipeline.web.shim_site import ShimSite

REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
OPEN = frozenset(  # Addresses that need no key; they reveal nothing about a patient.
    {"/api/health", "/api/openapi.json", "/api/docs", *(f"/orders/assets/{name}" for name in ASSETS)}
)
MOST_AT_ONCE = 500  # Requests in progress, including those that wait.
# Addresses that monitors and pages ask every few seconds.
_QUIET = frozenset({"/api/health", "/orders/assets/{name}"})


class RequestLog:
    """Give a request an ID, log its answer; a bug costs one request, and its text reaches nobody."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._in_hand = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        bring_into_origin_form(scope)
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        state = scope.setdefault("state", {})
        state |= {"request_id": request_id, "order": None, "is_quiet": False}
        began, status = time.monotonic(), 0

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in ALWAYS.items():
                    headers.setdefault(name, value)
            await send(message)

        self._in_hand += 1
        try:
            await self._served(scope, receive, told)
        except Exception as error:  # noqa: BLE001  # a bug must cost one request, not the shim
            bug(f"request {request_id}", error)
        finally:
            self._in_hand -= 1
            _log(scope, status, time.monotonic() - began)

    async def _served(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._in_hand > MOST_AT_ONCE:
            await refused(Request(scope), HttpError(TOO_MANY))(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class RequireKey:
    """Refuse requests without the key, if the site has one, except to addresses open to all."""

    def __init__(self, app: ASGIApp, site: ShimSite) -> None:
        self.app = app
        self.site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        keyring, headers = self.site.keyring, Headers(scope=scope)
        is_open = scope["path"] in OPEN or not keyring.is_set
        is_metrics = scope["path"] == METRICS_PATH and keyring.opens_metrics(headers)
        is_known = keyring.opens(headers)
        if scope["path"] == STATUS_PATH and keyring.status_key:
            # This key alone opens it: proxies add the other one for everybody.
            is_open = is_known = keyring.opens_status(headers)
        # Otherwise the login form appears.
        has_cookie = bool(keyring.operator_key) and is_operator_path(scope["path"])
        if is_open or is_metrics or has_cookie or is_known:
            await self.app(scope, receive, send)
        else:
            await refused(Request(scope), HttpError(UNAUTHORIZED))(scope, receive, send)


def _log(scope: Scope, status: int, seconds: float) -> None:
    """Write the line; it names the route only, because the rest of the address is the client's text."""
    route = getattr(scope.get("route"), "path", "unknown")
    state = scope["state"]
    if (route in _QUIET or state["is_quiet"]) and status < 400:
        return
    emit(
        Event.ANSWERED,
        request=state["request_id"],
        method=scope["method"],
        route=route,
        status=status,
        order=state["order"],
        seconds=round(seconds, 2),
    )
