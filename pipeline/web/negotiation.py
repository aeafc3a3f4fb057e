"""Tell persons from programs: by Accept (RFC 9110, 12.5.1), and by headers that only browsers send.

A request that a page makes by itself, as for an image, places no order: nobody followed a link.
"""

import math
import re
from collections.abc import Iterator

from starlette.datastructures import Headers
from starlette.requests import Request

# Media types that a link returns to clients that want no page.
_OF_PROGRAMS = ("application/octet-stream", "application/json")
_PROGRAM = re.compile(r"\bJava/|Indy Library")  # These call themselves Mozilla, and copy what browsers accept.
_OF_PEOPLE = {"document", "iframe", "frame"}  # Values of Sec-Fetch-Dest for what people open.
_OF_SCRIPTS = "empty"  # Its value for fetch and XMLHttpRequest.
_OF_ELEMENTS = re.compile(r"(?:image|audio|video|font)/|text/css")
_PORT = re.compile(r":[0-9]+\Z")
# These open pages with Accept: image/gif, image/x-xbitmap, ..., */*.
_EARLY_EXPLORER = re.compile(r"MSIE [2-8]\.")


def wants_page(request: Request) -> bool:
    """Say whether a person asks: `format=html`, or a browser's headers; all others get the file or JSON."""
    asked = request.query_params.get("format", "")
    if asked in {"html", "json"}:
        return asked == "html"
    return prefers_html(request.headers)


def is_browser(headers: Headers) -> bool:
    """Say whether a browser opens this for a person, whatever `format` asks for."""
    return headers.get("sec-fetch-mode") == "navigate" or prefers_html(headers)


def prefers_html(headers: Headers) -> bool:
    """Say whether Accept prefers text/html to a file and JSON, and the client is a browser.

    Programs name text/html, too: Java up to 18 sends `text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2`, and
    Delphi `text/html, */*`. A client that accepts other types as well must therefore be a known browser. Internet
    Explorer prefers nothing (`text/html, application/xhtml+xml, */*`), and is known by that.
    """
    liked = dict(_ranges(", ".join(headers.getlist("accept"))))
    html = _weight(liked, "text/html")
    other = max(_weight(liked, media_type) for media_type in _OF_PROGRAMS)
    agent = headers.get("user-agent", "")
    if html == 0 or html < other or other == 0 or _PROGRAM.search(agent):
        return html > other == 0
    is_browser = liked.get("application/xhtml+xml", 0) > 0 or headers.get("sec-fetch-mode") == "navigate"
    return is_browser or (html > other and agent.startswith("Mozilla/"))


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    """Yield each media range of Accept with its weight; of a repeated range, the highest weight last."""
    found = []
    for part in accept.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        weights = [
            value for key, _, value in (parameter.partition("=") for parameter in parameters) if key.strip() == "q"
        ]
        found.append(("*/*" if name == "*" else name, _number(weights[0]) if weights else 1.0))
    yield from sorted(found, key=lambda one: one[1])


def _number(weight: str) -> float:
    """Return a weight; an invalid weight means that the range is not wanted."""
    try:
        number = float(weight)
    except ValueError:
        return 0.0
    return min(1.0, max(0.0, number)) if math.isfinite(number) else 0.0


def _weight(liked: dict[str, float], media_type: str) -> float:
    """Return the weight of a media type, by the most specific range that names it."""
    ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
    return next((liked[name] for name in ranges if name in liked), 0.0)


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
