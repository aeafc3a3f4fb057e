"""The forms of our pages: their fields, and the token by which a POST proves that it comes from a page of ours.

A foreign page can send a form here, and nginx adds the key to it; but it cannot read our pages, so it does not
know the token of an order.
"""

import asyncio
import hashlib
import hmac
from pathlib import Path
from urllib.parse import parse_qsl

from starlette.requests import Request

from pipeline.spool.key_file import key_in
from pipeline.web.http_errors import INVALID_PARAMETER, HttpError

FIELD = "token"  # Name of the hidden field.
KEY_FILE = "page-tokens.key"  # Name of the file in the spool.
BODY_SECONDS = 10.0


def token_of(spool: Path, order_number: int) -> str:
    """Return the token of an order: HMAC-SHA-256 over its number, 64 hexadecimal digits; raises as `key_in`."""
    about = f"order {order_number}".encode()
    return hmac.new(key_in(spool / KEY_FILE), about, hashlib.sha256).hexdigest()


def is_token_of(spool: Path, order_number: int, text: str) -> bool:
    """Say whether `text`, as a form sent it, is the token of this order; raises as `key_in`."""
    return hmac.compare_digest(token_of(spool, order_number).encode(), text.encode("utf-8", "replace"))


async def fields_of(request: Request) -> list[tuple[str, str]]:
    """Return name and value of each field; raises HttpError if the form cannot be read."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await request.body()
        return parse_qsl(body.decode("ascii"), max_num_fields=10)
    except (TimeoutError, UnicodeDecodeError, ValueError) as error:
        raise HttpError(INVALID_PARAMETER, "the form cannot be read") from error
