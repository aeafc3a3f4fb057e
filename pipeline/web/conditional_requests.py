"""The headers If-Match and If-None-Match (RFC 9110, 13.1): which file, or part of one, a client has. Pure."""

import re

from starlette.datastructures import Headers

from pipeline.web.http_errors import CHANGED, HttpError

_ENTITY_TAG = re.compile(r'(?:W/)?"[^"]*"')


def names_it(headers: Headers, entity_tag: str) -> bool:
    """Say whether If-Match names this very file; raises HttpError (412) if it names others only."""
    wanted = ", ".join(headers.getlist("if-match"))
    if "if-match" not in headers or wanted.strip() == "*":
        return False
    if entity_tag not in _ENTITY_TAG.findall(wanted):  # By the strong comparison, W/"x" does not match x.
        raise HttpError(CHANGED, "this is not the image you have a part of; ask for it from its beginning")
    return True


def has_it(headers: Headers, entity_tag: str) -> bool:
    """Say whether If-None-Match names this file, by the weak comparison: then the client has it already."""
    had = ", ".join(headers.getlist("if-none-match"))
    return had.strip() == "*" or entity_tag in (tag.removeprefix("W/") for tag in _ENTITY_TAG.findall(had))
