"""Tell persons from programs: by Accept (RFC 9110, 12.5.1), and by headers that only browsers send."""

import math
import re
from collections.abc import Iterator

from starlette.datastructures import Headers
from starlette.requests import Request

# Media types that a link returns to clients that want no page.
_OF_PROGRAMS = ("application/octet-stream", "application/json")
_PROGRAM = re.compile(r"\bJava/|Indy Library")  # These call themselves Mozilla, and copy what browsers accept.


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
    is_browser = liked.get("application/xhtml+xml", 0) > 0 or "sec-fetch-mode" in headers
    return is_browser or (html > other and agent.startswith("Mozilla/"))


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    """Yield each media range of Accept with its weight; of a repeated range, the highest weight last."""
    found = []
    for part in accept.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        weights = [value for key, _, value in (one.partition("=") for one in parameters) if key.strip() == "q"]
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
