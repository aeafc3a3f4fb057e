"""Hostile requests, thrown at the real connection and application without a socket, and at what reads headers."""

import asyncio
import functools
import json
import logging
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock
from urllib.parse import parse_qsl

import uvicorn
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send
from support.sites.shim_site import FOUND, KEY, NEW, FakeOrders, settings_of
from uvicorn.server import ServerState

from pipeline import orders
from pipeline.languages import chosen, languages
from pipeline.ledger import open_ledger, order_queries
from pipeline.model import OrderState
from pipeline.orders import MadeFile
from pipeline.site.settings import Settings
from pipeline.spool.spool import Spool
from pipeline.web import health, page_forms, patient_names
from pipeline.web.api_key import ApiKeys
from pipeline.web.app import application
from pipeline.web.client_connection import LONGEST_HEAD, ClientConnection
from pipeline.web.http_errors import CLIENT_HAS_GONE, HttpError, kinds
from pipeline.web.middleware import REQUEST_ID
from pipeline.web.negotiation import prefers_html
from pipeline.web.order_endpoints import is_prefetch
from pipeline.web.order_request import Verb, wish_of
from pipeline.web.order_service import reference_of
from pipeline.web.page_forms import token_of
from pipeline.web.shim_site import opened
from pipeline.web.transfer import part_of

STATUSES = {200, 206, 303, *(kind.status for kind in kinds())} - {500, 502, 504}  # these would be faults of ours
ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) ")
HEADER_LINE = re.compile(rb"[a-z0-9-]+: [\x20-\x7e]*", re.IGNORECASE)
LONGEST_EXCHANGE = 3.0  # seconds
KEPT = {"id": 1, "verb": "download", "accessions": ("A1",), "destination": "disc"}  # the order seeds speak of


class Wire(asyncio.Transport):
    """The client's end: takes everything, and says when the server has had enough of it."""

    def __init__(self) -> None:
        super().__init__()
        self.said = bytearray()
        self.closed = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.said += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Stage:
    """The application over orders in memory; `seen` is what it answered, `said` what it logged."""

    def __init__(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="hostile-http-"))
        settings = settings_of(folder, shim={"allowed_origins": ["https://his.example.org"]})
        self.settings = settings
        Spool(settings.site.spool).prepare()
        open_ledger(settings.site.spool)[0].close()
        (folder / "X.iso").write_bytes(bytes(range(256)) * 4)
        self.result = MadeFile(str(folder / "X.iso"), "X.iso", 1024)
        self.loop = asyncio.new_event_loop()
        self.seen: list[tuple[Scope, Message]] = []
        site = opened(settings)
        site.order_service._require_worker = lambda *_: None  # there is none: the orders are in memory
        self.app = application(site)
        self.config = uvicorn.Config(
            self.recorded, http=ClientConnection, ws="none", lifespan="off", interface="asgi3", log_config=None,
            access_log=False, server_header=False, proxy_headers=False, h11_max_incomplete_event_size=LONGEST_HEAD,
        )  # fmt: skip
        self.config.load()
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
        self.begin()

    def begin(self) -> None:
        self.orders = FakeOrders()
        self.orders.plan = {"state": OrderState.DONE, "found": FOUND, "result": self.result}
        self.orders.views[1] = NEW
        self.orders.change(1, **KEPT, state=OrderState.DONE, result=self.result)
        self.seen.clear()

    async def recorded(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.seen.append((scope, message))
            await send(message)

        await self.app(scope, receive, told)

    @contextmanager
    def played(self) -> Iterator[None]:
        """Have the orders played, the peers left alone, and no patience with bodies that do not come."""
        with ExitStack() as stack:
            for where, name, what in (
                (orders, "place", self.orders.place),
                (orders, "known", self.orders.known),
                (orders, "view", self.orders.view),
                (order_queries, "files_made_for", lambda *_: 1),
                (health, "look_at", lambda _: [("pacs", True, True, "answers")]),
                (patient_names.PatientNames, "name_of", lambda *_: "DOE^JANE"),
                (page_forms, "BODY_SECONDS", 0.01),
            ):
                stack.enter_context(mock.patch.object(where, name, what))
            yield

    async def exchange(self, content: bytes, *, size: int = 65536) -> bytes:
        state, wire = ServerState(), Wire()
        connection = ClientConnection(self.config, state, {}, _loop=self.loop)
        connection.connection_made(wire)
        try:
            for at in range(0, len(content), size):
                if not wire.closed:
                    connection.data_received(content[at : at + size])
                while state.tasks:
                    _, late = await asyncio.wait(state.tasks, timeout=LONGEST_EXCHANGE)
                    assert not late, "an answer that does not end"
        finally:
            connection.connection_lost(None)
            await asyncio.sleep(0)
        return bytes(wire.said)


class Lines(logging.Handler):
    """Keeps the lines of the log."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@functools.cache
def _stage() -> Stage:
    return Stage()


def http(content: bytes, _: Path) -> None:
    """Every request is answered plainly or refused; nothing is ordered without the key, nothing is a bug."""
    stage, lines = _stage(), Lines()
    log = logging.getLogger("storestow")
    stage.begin()
    log.addHandler(lines)
    level, propagates = log.level, log.propagate
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        with stage.played():
            wire = stage.loop.run_until_complete(stage.exchange(content))
    finally:
        log.removeHandler(lines)
        log.setLevel(level)
        log.propagate = propagates
    for line in lines.lines:
        assert line.isascii(), line
        assert line.isprintable(), line
        assert not line.startswith("bug "), line
    for scope, answer in stage.seen:
        _is_plain(scope, answer)
    if KEY.encode() not in content:
        assert not stage.orders.asked, "an order without the key"
        assert all(_tells_nothing(scope, answer) for scope, answer in stage.seen), "an answer without the key"
    _speaks_http(wire)


def _is_plain(scope: Scope, answer: Message) -> None:
    assert answer["status"] in STATUSES | {CLIENT_HAS_GONE}, (answer["status"], scope["method"], scope["raw_path"])
    headers = Headers(raw=answer["headers"])
    assert REQUEST_ID.fullmatch(headers["x-request-id"])
    assert headers["x-content-type-options"] == "nosniff"
    for name, value in answer["headers"]:
        assert HEADER_LINE.fullmatch(name + b": " + value), (name, value)


def _tells_nothing(scope: Scope, answer: Message) -> bool:
    is_asset = scope["path"].startswith("/orders/assets/") or scope["query_string"].startswith(b"asset=")
    is_open = is_asset or scope["path"] in {"/api/health", "/api/openapi.json"}
    is_preflight = scope["method"] == "OPTIONS" and answer["status"] in {200, 400}  # CORS, which says no more
    return is_open or is_preflight or answer["status"] == 401


def _speaks_http(wire: bytes) -> None:
    """What is on the wire begins with an answer, and no head of one holds a line that is no header."""
    while wire:
        begin = ANSWER.match(wire)
        assert begin, wire[:80]
        assert int(begin[1]) in STATUSES, begin[0]
        head, _, wire = wire.partition(b"\r\n\r\n")
        for line in head.split(b"\r\n")[1:]:
            assert HEADER_LINE.fullmatch(line), line
        at = ANSWER.search(wire)
        wire = wire[at.start() :] if at else b""


@functools.cache
def _settings() -> Settings:
    return settings_of(Path(tempfile.mkdtemp(prefix="hostile-http-")))


def parameters(content: bytes, _: Path) -> None:
    """Whatever stands behind the question mark is a wish we know how to serve, or refused in our own words."""
    given = parse_qsl(content.decode("latin-1"), keep_blank_values=True)
    settings = _settings()
    for verb in Verb:
        try:
            wish = wish_of(verb, given, settings)
        except HttpError as refusal:
            assert refusal.kind in set(kinds())
            json.dumps(refusal.as_json("1"), ensure_ascii=False).encode()
            continue
        assert 1 <= len(wish.accessions) <= settings.shim.max_accessions
        for one in wish.accessions:
            assert re.fullmatch(r"[\x21-\x7e]([\x20-\x7e]{0,62}[\x21-\x7e])?", one)
            assert not set(one) & set("*?\\,")
        assert all(re.fullmatch(r"[A-Z0-9_ ]{1,16}", one) for one in wish.modalities)
        assert wish.destination in {"disc", "publisher", "archive", "other"}
        assert wish.container in {"", "iso", "zip"}


def headers(content: bytes, _: Path) -> None:
    """Whatever a header says, it is a part of the file, a language we have, and never the key."""
    text = content.decode("latin-1")
    size = len(content)
    try:
        part = part_of(text, size)
    except HttpError as refusal:
        assert refusal.kind.status == 416
    else:
        assert part is None or 0 <= part[0] < part[1] <= size
    assert chosen(text) in languages().values()
    assert prefers_html(Headers({"accept": text})) in {True, False}
    assert is_prefetch(Headers({"purpose": text})) in {True, False}
    token = text.partition(" ")[2].strip()
    opens = ApiKeys(KEY).opens({"x-api-key": text, "authorization": text})
    assert opens == (text == KEY or (token == KEY and text.lower().startswith("bearer ")))


def _request(line: str, *more: str, key: bool = True, body: str = "") -> bytes:
    head = [f"{line} HTTP/1.1", "Host: h", *([f"X-API-Key: {KEY}"] if key else []), *more]
    return ("\r\n".join([*head, "", ""]) + body).encode()


def _seeds() -> list[bytes]:
    name = reference_of(_stage().orders.views[1])
    page, under_link = f"/orders/{name}", f"/mkiso.php?order={name}"
    token = f"token={token_of(_stage().settings.site.spool, 1)}"
    browser = "Accept: text/html,*/*;q=0.8"
    form = "Content-Type: application/x-www-form-urlencoded"
    chunked = "Transfer-Encoding: chunked"
    one = "GET /mkiso.php?accession_number=A1"
    return [
        _request(one),
        _request(one, browser, "Accept-Language: es;q=0.9,en"),
        _request(one, "Range: bytes=5-", 'If-Range: "1-2-3"'),
        _request(one, "Range: bytes=5-", 'If-Match: "1-2-3", *', 'If-None-Match: W/"1-2-3"'),
        _request(one).replace(b"A1 ", b"A1&nama=JOS\xc9 "),
        _request(
            "GET /send_rimage_multiple.php?accession_numbers=A1,B2&again=1&missing=allow", "X-Request-ID: a-1"
        ),
        _request("GET /mkiso2.php?accession_number=A1&to=other&modality=MR,CT&incomplete=yes&format=html"),
        _request(f"GET {page}?before=1", browser) + _request(f"HEAD {page}/file"),
        _request(f"GET {under_link}&before=1", browser) + _request(f"HEAD {under_link}&file=1"),
        _request(f"POST {page}/again", form, "Content-Length: 78", body=f"again=1&{token}"),
        _request(f"POST {under_link}", form, chunked, body=f"4e\r\nagain=1&{token}\r\n0\r\n\r\n"),
        _request(f"POST {under_link}", form, "Content-Length: 7", body="again=1"),
        _request("GET /mkiso.php?asset=page.css", key=False),
        _request(one, chunked, body="5\r\nhello\r\n0\r\n\r\n"),
        _request("GET /api/iso/download-multiple?accession_numbers=A1&container=zip", "Sec-Purpose: prefetch"),
        _request("GET /", browser, "Connection: close"),
        _request("GET http://h/api/health", key=False),
        _request("OPTIONS *", "Origin: https://his.example.org", "Access-Control-Request-Method: GET", key=False),
        _request(one, "Origin: https://his.example.org", key=False),
        _request(f"GET {page}", key=False) + _request(f"POST {page}/again", key=False),
        _request("GET /orders/assets/page.css", key=False),
        _request("GET /patient/by-accession?accession_number=A1", f"Authorization: Bearer {KEY}", key=False),
        _request("GET //orders/%2e%2e/%00/..%2f", "Upgrade: websocket", "Connection: upgrade"),
        b"GET /api/openapi.json HTTP/1.0\r\n\r\n",
        _request(one, "Host: [", browser),
    ]


SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "http": _seeds,
    "parameters": lambda: [
        b"accession_number=A1",
        b"accession_numbers=A1,B2%2CC+3&modality=MR,CT&again=1",
        b"accession_number=A&to=other&container=zip&missing=allow&incomplete=yes&format=html",
        b"accession_number=%C3%91%00%0d%0a&accession_numbers=..%2F..%2Fx",
    ],
    "headers": lambda: [
        *(b"bytes=0-", b"bytes=5-9", b"bytes=-3", b"bytes=0-1,5-6", b"bytes=" + b"9" * 25 + b"-"),
        *(KEY.encode(), b"Bearer " + KEY.encode(), b"Basic " + KEY.encode()),
        *(b"es-AR,es;q=0.9,en;q=nan", b"text/html;q=0,application/json", b"prefetch;prerender"),
    ],
}
