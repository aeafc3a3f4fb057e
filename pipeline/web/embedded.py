"""Requests that a page makes by itself, as for an image: nobody followed a link, so they place no order."""

import re

from starlette.datastructures import Headers

_OF_PEOPLE = {"document", "iframe", "frame"}  # Destinations that people open.
_OF_SCRIPTS = "empty"  # Destination of fetch and XMLHttpRequest.
_OF_ELEMENTS = re.compile(r"(?:image|audio|video|font)/|text/css")
_PORT = re.compile(r":[0-9]+\Z")
# These open pages with Accept: image/gif, image/x-xbitmap, ..., */*.
_EARLY_EXPLORER = re.compile(r"MSIE [2-8]\.")


def is_embedded(headers: Headers, allowed_origins: tuple[str, ...]) -> bool:
    """Say whether a page makes this request by itself, and its scripts may not place orders.

    Browsers tell the purpose of a request (Fetch Metadata: Sec-Fetch-Dest) over HTTPS and on the machine itself.
    Over plain HTTP only Accept tells it, and Origin for a script that wants to read the answer.
    """
    destination = headers.get("sec-fetch-dest")
    if destination is None:
        return _accepts_no_page(headers) or _is_of_a_foreign_script(headers, allowed_origins)
    if destination == _OF_SCRIPTS:
        is_ours = headers.get("sec-fetch-site") == "same-origin"
        return not is_ours and not _is_allowed(headers.get("origin", ""), allowed_origins)
    return destination not in _OF_PEOPLE


def _accepts_no_page(headers: Headers) -> bool:
    agent, accept = headers.get("user-agent", ""), ", ".join(headers.getlist("accept")).lower()
    if not agent.startswith("Mozilla/") or "text/html" in accept or not _OF_ELEMENTS.search(accept):
        return False
    return not (_EARLY_EXPLORER.search(agent) and "image/*" not in accept)


def _is_of_a_foreign_script(headers: Headers, allowed_origins: tuple[str, ...]) -> bool:
    """Say whether Origin names a foreign page; no browser sends Origin with a GET that opens a page."""
    origin = headers.get("origin")
    if origin is None or _is_allowed(origin, allowed_origins):
        return False
    asked = origin.lower().partition("://")[2]
    # nginx may pass on the name without the port.
    return headers.get("host", "").lower() not in {asked, _PORT.sub("", asked)}


def _is_allowed(origin: str, allowed_origins: tuple[str, ...]) -> bool:
    return origin in allowed_origins or (bool(origin) and "*" in allowed_origins)
