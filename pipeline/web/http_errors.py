"""Answers of the shim other than success: an HTTP status, an error code that never changes, details.

`model.OrderError` has the codes of orders that failed; the codes only HTTP knows are here. Together they are the
table of docs/shim.md. `rejection` answers bytes that never became a request.
"""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.h11_impl import STATUS_PHRASES

from pipeline.events import Event, emit
from pipeline.model import OrderError

STATUSES = {
    OrderError.NO_DATA: 404,
    OrderError.PATIENT_UNKNOWN: 404,
    OrderError.MORE_THAN_ONE_PATIENT: 409,
    OrderError.CANCELLED: 409,
    OrderError.DISC_FAILED: 500,
    OrderError.INTERNAL: 500,
    OrderError.NOT_CONFIGURED: 501,
    OrderError.PATIENTS_UNAVAILABLE: 502,
    OrderError.PACS_UNREACHABLE: 502,
    OrderError.MOVE_INCOMPLETE: 502,
    OrderError.PUBLISHER_UNREACHABLE: 502,
    OrderError.RELAY_FAILED: 502,
    OrderError.RELAY_INCOMPLETE: 502,
    OrderError.RECEIVER_NOT_READY: 503,
    OrderError.MOVE_TIMED_OUT: 504,
}
ALWAYS = {  # Headers of every answer.
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """A kind of error: its HTTP status and code; `key` names it in the translations of the pages."""

    key: str
    status: int
    words: str
    retry_after: int | None = None  # seconds


INVALID_ACCESSION = ErrorKind("invalid-accession", 400, "invalid accession_number")


INVALID_DESTINATION = ErrorKind("invalid-destination", 400, "invalid destination")


INVALID_PARAMETER = ErrorKind("invalid-parameter", 400, "invalid parameter")


UNAUTHORIZED = ErrorKind("unauthorized", 401, "unauthorized")


NO_OPERATOR = ErrorKind("no-operator", 403, "operator key missing or wrong")


NOT_FROM_PAGE = ErrorKind("not-from-page", 403, "not from a page")


NOT_FOUND = ErrorKind("not-found", 404, "not found")


WRONG_METHOD = ErrorKind("wrong-method", 405, "method not allowed")


DELIVERY_RUNNING = ErrorKind("delivery-running", 409, "delivery is running")


RESULT_GONE = ErrorKind("result-gone", 410, "result no longer kept")


CHANGED = ErrorKind("changed", 412, "changed meanwhile")


TOO_LONG = ErrorKind("too-long", 413, "request too long")


WRONG_RANGE = ErrorKind("wrong-range", 416, "range not satisfiable")


NOT_OUR_HOST = ErrorKind("not-our-host", 421, "not our host")


TOO_MANY = ErrorKind("too-many", 503, "too many concurrent requests", retry_after=15)


PREFETCH = ErrorKind("prefetch", 503, "not for prefetching", retry_after=1)


CLIENT_HAS_GONE = 499  # Nobody reads this answer; the status is for the log.


def kind_of(error: OrderError) -> ErrorKind:
    """Return the kind for an order's error."""
    status = STATUSES[error]
    return ErrorKind(str(error), status, error.words, retry_after=15 if status == 503 else None)


def kinds() -> Iterator[ErrorKind]:
    """Yield every kind, by status."""
    ours = [kind for kind in globals().values() if isinstance(kind, ErrorKind)]
    yield from sorted([*ours, *map(kind_of, OrderError)], key=lambda kind: (kind.status, kind.words))


class HttpError(Exception):
    """Carry an answer other than success; `more` are further keys of the JSON body."""

    def __init__(self, kind: ErrorKind, detail: str | None = None, **more: Any) -> None:
        super().__init__(kind.words)
        self.kind = kind
        self.detail = detail
        self.more = more

    def as_json(self, request_id: str) -> dict[str, Any]:
        """Return the body of the answer."""
        body: dict[str, Any] = {"error": self.kind.words}
        if self.detail:
            body["detail"] = self.detail
        return {**body, **self.more, "request_id": request_id}

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of the answer."""
        return {"Retry-After": str(self.kind.retry_after)} if self.kind.retry_after else {}


def rejection(kind: ErrorKind, detail: str) -> bytes:
    """Return a complete answer, as raw HTTP, that ends its connection; it has an ID and a line in the log."""
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
