"""Parse a Range header (RFC 9110, 14.1 and 14.2): which bytes of a file are wanted. Pure."""

import re

from pipeline.web.http_errors import WRONG_RANGE, HttpError

_ONE_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


def part_of(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first wanted byte and the one after the last; None means the whole file.

    A header that is no single byte range is ignored, as the standard allows: the whole file is never wrong. Raises
    HttpError (416) if the file has no byte of the range.
    """
    match = _ONE_RANGE.fullmatch((header or "").strip())
    if not match or not (match[1] or match[2]):
        return None
    if match[1] and match[2] and int(match[2]) < int(match[1]):
        return None
    if match[1]:
        start, end = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
    else:
        start, end = max(0, size - int(match[2])), size
    if start >= end:
        raise HttpError(WRONG_RANGE, f"the file has {size} bytes", size=size)
    return start, end
