"""Numeric IP addresses in one spelling, and the current addresses of a host name."""

import ipaddress
import socket
import threading
import time

KEPT_SECONDS = 60.0  # Seconds before the name service is asked again.

_known: dict[str, tuple[float, frozenset[str]]] = {}
_lock = threading.Lock()


def numeric(address: str) -> str:
    """Return an address as people know it: 192.0.2.7 for ::ffff:192.0.2.7, and without a zone.

    Raises ValueError if `address` is no IP address.
    """
    number = ipaddress.ip_address(address.partition("%")[0])
    return str(getattr(number, "ipv4_mapped", None) or number)


def addresses_of(host: str) -> frozenset[str]:
    """Return every address of a host, as `numeric` writes them; empty if the name service does not answer."""
    now = time.monotonic()
    with _lock:
        asked_at, found = _known.get(host, (0.0, frozenset()))
    if found and now - asked_at < KEPT_SECONDS:
        return found
    found = _resolved(host) or found  # While the name service is down, the last known addresses stay valid.
    with _lock:
        _known[host] = (now, found)
    return found


def _resolved(host: str) -> frozenset[str]:
    try:
        told = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return frozenset()
    return frozenset(numeric(str(address[0])) for *_, address in told)
