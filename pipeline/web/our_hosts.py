"""The host names of this gateway: compare [shim] hosts with the Host header of each request."""

import socket
from collections.abc import Iterator

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.config.keys import HOST_AS_SAID
from pipeline.config.order_tables import ShimTable
from pipeline.web.http_errors import NOT_OUR_HOST, HttpError
from pipeline.web.http_responses import refused

OPEN_TO_EVERY_HOST = "/api/health"  # Monitors use any address; details need one of our names.
_DEFAULT_PORTS = {"80", "443"}


class OurHosts:
    """Refuse requests for other hosts, if the site lists its own.

    If a foreign host name points to this machine, a browser treats that page as having our origin; only the Host
    header tells the two apart (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...]) -> None:
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["path"] == OPEN_TO_EVERY_HOST or is_asked_as_us(Headers(scope=scope), self.hosts):
            await self.app(scope, receive, send)
        else:
            refusal = HttpError(NOT_OUR_HOST, "this is not the name of this gateway; [shim] hosts lists its names")
            await refused(Request(scope), refusal)(scope, receive, send)


def is_asked_as_us(headers: Headers, hosts: tuple[str, ...]) -> bool:
    """Say whether a request is for one of `hosts`, or has no Host (HTTP/1.0), or the site lists none."""
    host = headers.get("host", "")
    return not hosts or not host or is_ours(host, hosts)


def is_ours(host: str, hosts: tuple[str, ...]) -> bool:
    """Say whether a Host is one of `hosts`; an entry without a port matches every port."""
    name, port = _parts(host)
    return any(
        name == our_name and (not our_port or port == our_port or (not port and our_port in _DEFAULT_PORTS))
        for our_name, our_port in map(_parts, hosts)
    )


def _parts(host: str) -> tuple[str, str]:
    """Return name and port of a Host, both "" if it is invalid."""
    match = HOST_AS_SAID.fullmatch(host.strip())
    return (match[1].lower().rstrip("."), match[2] or "") if match else ("", "")


def proposed(shim: ShimTable) -> str:
    """Return a line for site.toml with the names this machine knows of itself; users may need others."""
    return f"hosts = [{', '.join(f'{chr(34)}{name}{chr(34)}' for name in dict.fromkeys(_names(shim)))}]"


def _names(shim: ShimTable) -> Iterator[str]:
    bound = f"[{shim.host}]" if ":" in shim.host else shim.host
    candidates = (socket.getfqdn(), socket.gethostname(), bound, "127.0.0.1", "localhost")
    yield from (
        name.lower()
        for name in candidates
        if HOST_AS_SAID.fullmatch(name) and name not in {"0.0.0.0", "[::]"}  # noqa: S104  # not bound, left out
    )
