"""Numeric addresses, written in one way, and those a host has at present."""

import ipaddress
import socket
import threading
import time

KEPT_SECONDS = 60.0  # for so long the name service is not asked again

_known: dict[str, tuple[float, frozenset[str]]] = {}
_lock = threading.Lock()


def numeric(address: str) -> str:
    """Return an address as the number people know: 192.0.2.7 rather than ::ffff:192.0.2.7, and without a zone.

    Raises ValueError for what is no address.
    """
    number = ipaddress.ip_address(address.partition("%")[0])
    return str(getattr(number, "ipv4_mapped", None) or number)


def addresses_of(host: str) -> frozenset[str]:
    """Return every address of a host, as `numeric` writes them; none where nobody knows it at present."""
    now = time.monotonic()
    with _lock:
        asked_at, found = _known.get(host, (0.0, frozenset()))
    if found and now - asked_at < KEPT_SECONDS:
        return found
    found = _resolved(host) or found  # a name service that is down takes no address from anybody
    with _lock:
        _known[host] = (now, found)
    return found


def _resolved(host: str) -> frozenset[str]:
    try:
        told = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return frozenset()
    return frozenset(numeric(str(address[0])) for *_, address in told)
