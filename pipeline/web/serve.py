"""`storestow serve`: the shim in the foreground, until it is told to end."""

import asyncio
import contextlib
import ipaddress
import logging
import resource
import signal
import socket
from functools import partial
from typing import Any

import uvicorn

from pipeline.errors import Configuration
from pipeline.events import Event, bug, emit
from pipeline.site.settings import Settings
from pipeline.site.site_ledger import connect
from pipeline.web.api_key import VARIABLE, keyring_of
from pipeline.web.app import application
from pipeline.web.client_connection import LONGEST_HEAD, MOST, ClientConnection
from pipeline.web.shim_site import opened

GRACE_SECONDS = 10  # Seconds for running answers; orders go on without the shim.
FILES_OF_OURS = 100  # Open files besides those of clients: ledger, log, connections for health checks.


def serve(settings: Settings) -> None:
    """Serve HTTP until SIGTERM or SIGINT; raises Configuration if the shim must not, or cannot, start."""
    require_key_or_loopback(settings)
    connect(settings).close()
    site = opened(settings)
    listening = _listen(settings.shim.host, settings.shim.port)
    ClientConnection.most = _connections_there_may_be()
    server = uvicorn.Server(
        uvicorn.Config(
            application(site),
            http=ClientConnection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=LONGEST_HEAD,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )
    # uvicorn's lines would quote addresses and tracebacks.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL + 1)
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal once more at the end, when everything is done.
        signal.signal(number, lambda *_: None)
    site.fleet.begin()
    has_key = "yes" if site.keyring.is_set else "no"
    emit(Event.SHIM_STARTED, host=settings.shim.host, port=settings.shim.port, key=has_key)
    with contextlib.closing(site):
        asyncio.run(_run(server, listening))
    emit(Event.SHIM_STOPPED, host=settings.shim.host, port=settings.shim.port)


def _connections_there_may_be() -> int:
    """Return how many clients the limit of open files allows, each with a socket and a file, after raising it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MOST + FILES_OF_OURS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        more = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        with contextlib.suppress(
            OSError, ValueError
        ):  # A hardened service, or macOS, may refuse; then fewer must do.
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else max(1, min(MOST, (soft - FILES_OF_OURS) // 2))


def require_key_or_loopback(settings: Settings) -> None:
    """Raise Configuration if anybody on the network could order images without a key."""
    shim = settings.shim
    if keyring_of(settings).is_set or shim.public_without_key or is_loopback(shim.host):
        return
    raise Configuration(
        f"[shim] listens on {shim.host} without a key: set {VARIABLE} or api_key, or host to 127.0.0.1, "
        "or public_without_key = true if whoever reaches the port may have every study"
    )


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches this address."""
    return all(ipaddress.ip_address(address).is_loopback for address in _addresses(host))


def _addresses(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Configuration(f"[shim] host {host} is no address of this machine: {error.strerror}") from error
    return [str(address[4][0]).partition("%")[0] for address in found]


def _listen(host: str, port: int) -> socket.socket:
    address = _addresses(host)[0]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listening = socket.create_server((address, port), family=family, backlog=512)
    except OSError as error:
        raise Configuration(f"[shim] cannot listen on {host} port {port}: {error.strerror}") from error
    # Connections inherit it. asyncio sets it only on sockets that name their protocol, which this one does not;
    # without it the end of each further answer on a kept connection waits 40 ms for an acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


async def _run(server: uvicorn.Server, listening: socket.socket) -> None:
    asyncio.get_running_loop().set_exception_handler(partial(_report_bug, listening))
    await server.serve(sockets=[listening])


def _report_bug(listening: socket.socket, _loop: asyncio.AbstractEventLoop, about: dict[str, Any]) -> None:
    """Log a bug outside any request, without its text."""
    error = about.get("exception")
    if not isinstance(error, Exception) or isinstance(error, OSError):  # A client that went away is no bug.
        return
    if listening.fileno() < 0 and "_start_serving" in about.get("message", ""):
        # A second after no file was left for a client asyncio listens again, also if it was told to end since.
        return
    bug("shim", error)
