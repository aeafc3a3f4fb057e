"""The fields of a form that a page of ours sends; the application limits its length."""

import asyncio
from urllib.parse import parse_qsl

from starlette.requests import Request

from pipeline.web.http_errors import INVALID_PARAMETER, HttpError

BODY_SECONDS = 10.0


async def fields_of(request: Request) -> list[tuple[str, str]]:
    """Return name and value of each field; raises HttpError if the form cannot be read."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await request.body()
        return parse_qsl(body.decode("ascii"), max_num_fields=10)
    except (TimeoutError, UnicodeDecodeError, ValueError) as error:
        raise HttpError(INVALID_PARAMETER, "the form cannot be read") from error
