"""The answer to bytes that never became a request, as raw HTTP, because no framework handles them."""

import json
import uuid

from uvicorn.protocols.http.h11_impl import STATUS_PHRASES

from pipeline.events import Event, emit
from pipeline.web.http_errors import ErrorKind, HttpError

ALWAYS = {  # Headers of every answer.
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def rejection(kind: ErrorKind, detail: str) -> bytes:
    """Return a complete answer that ends its connection; it has an ID and a line in the log like every other."""
    request_id = uuid.uuid4().hex
    emit(Event.ANSWERED, request=request_id, route="none", status=kind.status)
    refusal = HttpError(kind, detail)
    body = json.dumps(refusal.as_json(request_id)).encode()
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        "X-Request-ID": request_id,
        **ALWAYS,
        **refusal.headers,
    }
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    head = f"HTTP/1.1 {kind.status} {STATUS_PHRASES[kind.status].decode()}\r\n"
    return (head + "".join(lines) + "\r\n").encode("ascii") + body
