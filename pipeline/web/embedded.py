"""Requests that a page makes by itself, as for an image: nobody has followed a link, so they order nothing."""

import re

from starlette.datastructures import Headers

_OF_PEOPLE = {"document", "iframe", "frame"}  # what they open
_OF_SCRIPTS = "empty"  # fetch, XMLHttpRequest
_OF_ELEMENTS = re.compile(r"(?:image|audio|video|font)/|text/css")
_PORT = re.compile(r":[0-9]+\Z")
_EARLY_EXPLORER = re.compile(r"MSIE [2-8]\.")  # opens pages with Accept: image/gif, image/x-xbitmap, ..., */*


def is_embedded(headers: Headers, allowed_origins: tuple[str, ...]) -> bool:
    """Say whether a page makes this request by itself, and is none whose scripts may order.

    Browsers say what a request is for (Fetch Metadata: Sec-Fetch-Dest) over HTTPS and on the machine itself. Over
    plain HTTP only what they accept tells it, and the origin of a script that wants to read the answer.
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
    """Say whether Origin names a page that is not ours; to open a page, no browser sends one with a GET."""
    origin = headers.get("origin")
    if origin is None or _is_allowed(origin, allowed_origins):
        return False
    asked = origin.lower().partition("://")[2]
    return headers.get("host", "").lower() not in {asked, _PORT.sub("", asked)}  # nginx hands on the name alone


def _is_allowed(origin: str, allowed_origins: tuple[str, ...]) -> bool:
    return origin in allowed_origins or (bool(origin) and "*" in allowed_origins)
