"""Request targets that routes do not understand: in absolute form, or with bytes that are not ASCII."""

import re
from urllib.parse import unquote

from starlette.types import Scope

_IN_FULL = re.compile(rb"https?://((?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::\d*)?)(/.*)?", re.IGNORECASE | re.DOTALL)
_NOT_ASCII = re.compile(rb"[\x80-\xff]")


def plain_line(before: bytes, data: bytes) -> bytes:
    """Return the received bytes with every byte above 127 in the request line percent-encoded.

    `before` are the earlier bytes of this head. Internet Explorer and old programs send the text of a query
    unencoded, which no HTTP parser accepts. Empty lines before the first one are left out (RFC 9112, 2.2).
    """
    if b"\n" in before:
        return data
    line, newline, rest = (data if before else data.lstrip(b"\r\n")).partition(b"\n")
    return _NOT_ASCII.sub(_encoded, line) + newline + rest


def _encoded(byte: re.Match[bytes]) -> bytes:
    return b"%%%02X" % byte[0][0]


def bring_into_origin_form(scope: Scope) -> None:
    """Remove scheme and host from a target in absolute form; that host becomes the request's (RFC 9112, 3.2.2)."""
    match = _IN_FULL.fullmatch(scope["raw_path"])
    if match is None:
        return
    scope["raw_path"] = match[2] or b"/"
    scope["path"] = unquote(scope["raw_path"].decode("ascii"))
    others = [(name, value) for name, value in scope["headers"] if name != b"host"]
    scope["headers"] = [(b"host", match[1]), *others]
