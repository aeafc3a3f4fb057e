"""A dcm4chee-arc-light that is none: its reply shapes, its failure codes and its faults, on a free loopback port.

Written from the archive's source and from measurements of its own multipart parser; no archive was run.
What it keeps from the real one: 404 as text/plain for an unknown AE title, 409 when nothing was usable,
202 for some, invented UIDs for what cannot be parsed, 500 with a stack trace after earlier parts were stored,
duplicates reported as stored and ignored, 204 from QIDO-RS when nothing matches.

    with FakeDcm4chee() as archive:
        archive.next_stores.append(Answer(503, headers={"Retry-After": "7"}))   # the next POST only
        archive.every_store = Cut(after_bytes=1_000_000)                        # every POST from now on
        archive.failing[uid] = 0xA700                                           # this instance always
        send(archive.url)                                                       # .../aets/DCM4CHEE/rs/studies
        assert archive.stored.keys() == {...}                                   # SOP Instance UID -> bytes
"""

import base64
import contextlib
import hashlib
import json
import re
import select
import socket
import ssl
import struct
import threading
import time
import traceback
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

import pydicom
from pydicom.errors import InvalidDicomError
from support.machine.dicom_programs import wait_until

NOT_A_DICOM_FILE = "1.2.40.0.13.1.15.110.3.165.2"
BLOCK = 1 << 18


@dataclass(frozen=True)
class Answer:
    """Store the first `store` usable parts (None: all), wait, then say this instead of the truth.

    `body=None` gives the true store response with this status.
    """

    status: int
    body: bytes | None = b""
    content_type: str = "text/plain"
    headers: dict[str, str] = field(default_factory=dict)
    store: int | None = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Cut:
    """Reset the connection after so many bytes of the body, or (None) when all is stored but not yet said."""

    after_bytes: int | None = None
    store: int | None = None  # of the parts complete by then; None: all of them


@dataclass(frozen=True)
class Hang:
    """Read and store everything, then say nothing until `archive.release` is set or the archive closes."""

    store: int | None = None


@dataclass(frozen=True)
class Stall:
    """Stop reading after so many bytes of the body until `archive.release` is set or the archive closes."""

    after_bytes: int = 0


@dataclass(frozen=True)
class Pause:
    """Stop reading for so long after so many bytes of the body, then go on as if nothing had been."""

    seconds: float
    after_bytes: int = 0


@dataclass(frozen=True)
class Trickle:
    """Store, then answer a byte a second and never to the end: in the headers, or in the body after them."""

    part: Literal["headers", "body"]
    store: int | None = None
    seconds: float = 1.0


Fault = Answer | Cut | Hang | Stall | Pause | Trickle

STACK_TRACE = Answer(
    500,
    b"java.io.EOFException\n\tat org.dcm4che3.mime.MultipartParser.readAll(MultipartParser.java:1)\n" * 40,
    store=1,
)
LOGIN_PAGE = Answer(
    302, headers={"Location": "https://login.example.org/realms/dcm4che/auth?state=secret&patient=1"}
)
STORED_NOTHING = Answer(200, b'{"00081190":{"vr":"UR","Value":["http://x/studies/1"]}}', "application/dicom+json")


@dataclass
class Seen:
    """One request as it came in."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    status: int | None = None  # None: never answered
    uids: list[str] = field(default_factory=list)  # of the parts that could be read, in order
    bytes: int = 0


class _Interrupted(Exception):
    pass


class _Malformed(Exception):
    """The multipart parser's own exceptions: all end in a 500 with a stack trace."""


class FakeDcm4chee:
    """See the module's head. Everything set on it takes effect at once; it is safe to set from the test."""

    def __init__(
        self,
        *,
        ae_titles: tuple[str, ...] = ("DCM4CHEE",),
        keep: bool = True,
        certificate: tuple[Path, Path] | None = None,
        client_ca: Path | None = None,
    ) -> None:
        self.ae_titles = set(ae_titles)
        self.without_stow: set[str] = {"AS_RECEIVED"}
        self.keep = keep  # False: only SHA-256 is kept, for large sends
        self.stored: dict[str, bytes] = {}
        self.received: list[tuple[str, str]] = []  # SOP Instance UID and SHA-256 of every part, stored or not
        self.sha256: dict[str, str] = {}
        self.keys: set[tuple[str, str, str]] = set()
        self.sendings: dict[str, tuple[float, ...]] = {}  # SOP Instance UID -> when each request with it began
        self.there_since: dict[str, float] = {}
        self.asked_at: dict[str, tuple[float, ...]] = {}  # study or instance -> each answer whether it is there
        self.institutions: dict[tuple[str, str], str] = {}  # (study, series) -> InstitutionName
        self.hidden: set[str] = set()  # stored, and never listed by QIDO-RS
        self.failing: dict[str, int] = {}  # SOP Instance UID -> FailureReason
        self.fail_times: dict[str, int] = {}  # ... only so often
        self.silent: set[str] = set()  # not stored and in neither sequence
        self.warning: dict[str, int] = {}  # SOP Instance UID -> WarningReason (dcm4chee never; others do)
        self.max_post_bytes: int | None = None
        self.too_large: int | None = 413  # None: reset
        self.max_results: int | None = None  # QIDO-RS: a short list and a Warning header
        self.page: int | None = None  # QIDO-RS of others: a page is never longer, and nothing says so
        self.largest_limit: int | None = None  # ... a larger limit is answered with limit_status
        self.limit_status = 400
        self.none: tuple[int, bytes] = (204, b"")  # ... what is answered where nothing matches
        self.offset = "known"  # ... or "ignored", or "refused" with 400
        self.wado_status = 200  # WADO-RS: 404 where it is not offered
        self.knows_any_syntax = True  # ... False: 406 to transfer-syntax=*
        self.lists = (
            "known"  # "unknown": nothing has a SOP Instance UID like that; "refused"; "ignored": all match
        )
        # ... a list of more characters is answered with this status and nothing else, as a server
        # that takes no longer URL answers any.
        self.longest_list: tuple[int, int] | None = None
        self.unlisted: set[str] = set()  # ... in no list, though found when asked for by its SOP Instance UID
        self.numbers_as_text = False
        self.reply_media_type = "application/dicom+json"
        self.next_stores: deque[Fault | None] = deque()
        self.every_store: Fault | None = None
        self.next_queries: deque[Fault | None] = deque()
        self.every_query: Fault | None = None
        self.basic: tuple[str, str] | None = None
        self.bearer: str | None = None
        self.oauth2: tuple[str, str] | None = None  # client id, secret
        self.token_seconds = 300
        self.tokens: list[str] = []
        self.token_faults: deque[Answer | Trickle] = deque()
        self.requests: list[Seen] = []
        self.errors: list[str] = []
        self.release = threading.Event()
        self.at_once = 0
        self.at_once_most = 0
        self.lock = threading.RLock()
        # Open connections -> since when a request is there that has no answer yet, None: there is none.
        self._connections: dict[socket.socket, float | None] = {}
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.archive = self
        self._scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            if client_ca:
                context.load_verify_locations(client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
            self._server.context = context
            self._scheme = "https"
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        assert not self.errors, self.errors

    def stop(self) -> None:
        """Die at once, as a killed archive does: open connections are reset."""
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        with self.lock:
            sockets = list(self._connections)
        for connection in sockets:
            reset(connection)
        self._thread.join()

    @property
    def base(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}/dcm4chee-arc"

    @property
    def url(self) -> str:
        return self.url_of("DCM4CHEE")

    def url_of(self, ae_title: str) -> str:
        return f"{self.base}/aets/{ae_title}/rs/studies"

    @property
    def token_url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}/realms/dcm4che/protocol/openid-connect/token"

    @property
    def stores(self) -> list[Seen]:
        return [seen for seen in self.requests if seen.method == "POST" and seen.path.endswith("/studies")]

    @property
    def queries(self) -> list[Seen]:
        return [seen for seen in self.requests if seen.method == "GET"]

    @property
    def duplicates(self) -> list[str]:
        """SOP Instance UIDs of what was sent again without an answer, since it was last sent, that it is missing.

        An answer that it is there forbids another sending for ever. A list of the whole study does not: who wanted
        to know of other instances has not looked whether this one is in it.
        """
        with self.lock:
            return [
                uid
                for uid, began in self.sendings.items()
                for before, again in pairwise(sorted(began))
                if not self._was_missing(uid, before, again)
            ]

    def _was_missing(self, uid: str, before: float, again: float) -> bool:
        """Say whether an answer between two sendings said that it is missing, and none that it is there."""
        there = self.there_since[uid]
        studies = [key[0] for key in self.keys if key[2] == uid]
        by_uid = self.asked_at.get(uid, ())
        answers = [*by_uid, *(at for study in studies for at in self.asked_at.get(study, ()))]
        return any(before < at < min(again, there) for at in answers) and not any(
            there <= at < again for at in by_uid
        )

    def _note_what_has_come(self) -> None:
        """Note which requests no thread has begun to read yet: who asks now may have sent them before."""
        wait_until(lambda: not _is_readable(self._server.socket), what="connections to be accepted")
        with self.lock:
            for connection, since in self._connections.items():
                if since is None and _is_readable(connection):
                    self._connections[connection] = time.monotonic()

    def add(self, study: str, series: str, sop: str, content: bytes = b"", institution: str = "") -> None:
        """Hold an instance that somebody else has sent."""
        with self.lock:
            self.keys.add((study, series, sop))
            self.stored[sop] = content
            self.sendings[sop], self.there_since[sop] = (0.0,), 0.0
            if institution:
                self.institutions[study, series] = institution

    def revoke(self) -> None:
        """Forget every token, as an identity provider that was restarted does."""
        self.tokens.clear()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    archive: FakeDcm4chee
    context: ssl.SSLContext | None = None

    def get_request(self) -> tuple[socket.socket, Any]:
        with self.archive.lock:
            connection, address = super().get_request()
            self.archive._connections[connection] = None
        return connection, address

    def finish_request(self, request: Any, client_address: Any) -> None:
        open_ones = self.archive._connections
        try:
            if self.context:
                request.settimeout(20)
                plain, request = request, self.context.wrap_socket(request, server_side=True)
                with self.archive.lock:
                    open_ones[request] = open_ones.pop(plain)
            self.RequestHandlerClass(request, client_address, self)
        finally:
            with self.archive.lock:
                open_ones.pop(request, None)
            if self.context:
                request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        trace = traceback.format_exc()
        if not any(
            word in trace for word in ("ConnectionResetError", "BrokenPipeError", "ssl.SSL", "_Interrupted")
        ):
            self.archive.errors.append(trace)


def reset(connection: socket.socket) -> None:
    """Close with RST, so that the peer sees a reset and not an end."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    connection.close()


def _is_readable(connection: socket.socket) -> bool:
    """Say whether there is something to read, to accept, or an end, in this moment."""
    if connection.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    @property
    def archive(self) -> FakeDcm4chee:
        return self.server.archive

    def handle_one_request(self) -> None:
        select.select([self.connection], [], [])  # nothing is read of it before it is noted
        open_ones = self.archive._connections
        with self.archive.lock:
            self.began = open_ones[self.connection] = open_ones[self.connection] or time.monotonic()
        super().handle_one_request()

    def _begin(self) -> None:
        parts = urlsplit(self.path)
        self.where = parts.path
        self.seen = Seen(self.command, parts.path, parse_qs(parts.query), dict(self.headers.items()))
        with self.archive.lock:
            self.archive.requests.append(self.seen)

    def say(
        self, status: int, body: bytes = b"", content_type: str = "", headers: dict[str, str] | None = None
    ) -> None:
        self.seen.status = status
        with self.archive.lock:
            self.archive._connections[self.connection] = None
        self.send_response(status)
        if content_type:
            self.send_header("Content-Type", content_type)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if body and self.command != "HEAD":
            self.wfile.write(body)

    def say_error(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        """JSON-looking text, sent as text/plain, as the archive does."""
        text = json.dumps({"errorMessage": message}, separators=(",", ":")).encode()
        self.say(status, text, "text/plain", headers)

    # --- who may -------------------------------------------------------------------------------------------

    def _refuses_caller(self) -> bool:
        archive, given = self.archive, self.headers.get("Authorization", "")
        if archive.basic:
            wanted = "Basic " + base64.b64encode(":".join(archive.basic).encode()).decode()
            allowed, challenge = given == wanted, "Basic realm=x"
        elif archive.bearer:
            allowed, challenge = given == f"Bearer {archive.bearer}", "Bearer"
        elif archive.oauth2:
            allowed, challenge = given in {f"Bearer {token}" for token in archive.tokens}, "Bearer"
        else:
            return False
        if allowed:
            return False
        self._drain()
        self.say(401, headers={"WWW-Authenticate": challenge})
        return True

    def _drain(self) -> None:
        for _ in self._blocks():
            pass

    def _ae_title(self) -> tuple[str, str] | None:
        match = re.fullmatch(r"/dcm4chee-arc/aets/([^/]+)/rs(/studies.*)", self.where)
        return (unquote(match[1]), match[2]) if match else None

    # --- QIDO-RS -------------------------------------------------------------------------------------------

    def do_GET(self) -> None:
        self._begin()
        if self._refuses_caller():
            return
        with self.archive.lock:
            queued = self.archive.next_queries
            fault = queued.popleft() if queued else self.archive.every_query
        if fault is not None and self._misbehave(fault):
            return
        found = self._ae_title()
        if not found:
            self.say(404, b"RESTEASY003210: Could not find resource", "text/plain")
            return
        ae_title, rest = found
        if ae_title not in self.archive.ae_titles:
            self.say_error(404, f"No such Application Entity: {ae_title}")
            return
        accept = self.headers.get("Accept", "*/*")
        if not any(word in accept for word in ("dicom+json", "*/*", "application/json", "multipart/related")):
            self.say(406)
            return
        if rest == "/studies":
            self._list([{"0020000D": _ui(s)} for s in sorted({key[0] for key in self._listed()})])
        elif match := re.fullmatch(r"/studies/([^/]+)/series/([^/]+)/instances/([^/]+)", rest):
            self._give_back(unquote(match[3]))
        elif match := re.fullmatch(r"/studies/([^/]+)/series", rest):
            self._list(self._series(unquote(match[1])))
        elif match := re.fullmatch(r"/studies/([^/]+)(?:/series/([^/]+))?/instances", rest):
            self._list(self._instances(unquote(match[1]), unquote(match[2]) if match[2] else None))
        else:
            self.say(404, b"RESTEASY003210: Could not find resource", "text/plain")

    def _give_back(self, sop: str) -> None:
        """WADO-RS: what is stored, in one part."""
        archive = self.archive
        if archive.wado_status != 200:
            self.say(archive.wado_status)
        elif "transfer-syntax=*" in self.headers.get("Accept", "") and not archive.knows_any_syntax:
            self.say(406)
        else:
            body = b"\r\n".join(
                [b"--x", b"Content-Type: application/dicom", b"", archive.stored[sop], b"--x--", b""]
            )
            self.say(200, body, 'multipart/related; type="application/dicom"; boundary=x')

    def _listed(self) -> list[tuple[str, str, str]]:
        with self.archive.lock:
            return sorted(key for key in self.archive.keys if key[2] not in self.archive.hidden)

    def _series(self, study: str) -> list[dict[str, Any]]:
        wanted = "00080080" in ",".join(self.seen.query.get("includefield", []))
        rows: list[dict[str, Any]] = []
        for series in sorted({key[1] for key in self._listed() if key[0] == study}):
            row = {"0020000D": _ui(study), "0020000E": _ui(series)}
            institution = self.archive.institutions.get((study, series), "")
            if wanted:
                row["00080080"] = {"vr": "LO", "Value": [institution]} if institution else {"vr": "LO"}
            rows.append(row)
        return rows

    def _instances(self, study: str, series: str | None) -> list[dict[str, Any]]:
        asked = self.seen.query.get("SOPInstanceUID", [""])[0]
        only = set(filter(None, [asked] if self.archive.lists == "unknown" else asked.split(",")))
        if self.archive.lists == "ignored" and len(only) > 1:
            only = set()
        archive = self.archive
        archive._note_what_has_come()
        with archive.lock:
            for uid in only or {study}:
                archive.asked_at[uid] = (*archive.asked_at.get(uid, ()), time.monotonic())
            listed = self._listed()
        return [
            {"00080016": _ui("1.2.3"), "00080018": _ui(u), "0020000D": _ui(s), "0020000E": _ui(e)}
            for s, e, u in listed
            if s == study and series in (None, e) and (u in only if only else u not in self.archive.unlisted)
        ]

    def _list(self, rows: list[dict[str, Any]]) -> None:
        archive = self.archive
        if archive.longest_list and len(self.seen.query.get("SOPInstanceUID", [""])[0]) > archive.longest_list[0]:
            self.say(archive.longest_list[1])
            return
        if archive.lists == "refused" and "," in self.seen.query.get("SOPInstanceUID", [""])[0]:
            self.say_error(400, "a UID has no comma")
            return
        offset = int(self.seen.query.get("offset", ["0"])[0])
        limit = int(self.seen.query.get("limit", ["0"])[0]) or len(rows)
        if offset and archive.offset == "refused":
            self.say_error(400, "no such parameter: offset")
            return
        if archive.largest_limit is not None and limit > archive.largest_limit:
            self.say_error(archive.limit_status, f"limit must be 1 to {archive.largest_limit}")
            return
        offset = 0 if archive.offset == "ignored" else offset
        most, headers = archive.max_results, {}
        page = rows[offset : offset + min(limit, archive.page or limit)]
        if most is not None and len(page) > most:
            page = page[:most]
            left = len(rows) - offset - most
            headers["Warning"] = f'299 127.0.0.1 "There are {left} additional results that can be requested"'
        if page:
            self.say(200, json.dumps(page).encode(), "application/dicom+json", headers)
        else:
            status, body = archive.none
            self.say(status, body, "application/dicom+json" if body else "")

    # --- token endpoint ------------------------------------------------------------------------------------

    def _give_token(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode())
        archive = self.archive
        if archive.token_faults:
            fault = archive.token_faults.popleft()
            if isinstance(fault, Trickle):
                self._trickle(fault)
                return
            self.say(fault.status, fault.body or b"", fault.content_type, fault.headers)
            return
        who = (form.get("client_id", [""])[0], form.get("client_secret", [""])[0])
        if form.get("grant_type") != ["client_credentials"] or who != archive.oauth2:
            self.say(401, b'{"error":"unauthorized_client"}', "application/json")
            return
        token = f"token-{uuid.uuid4()}"
        archive.tokens.append(token)
        reply = {"access_token": token, "expires_in": archive.token_seconds, "token_type": "Bearer"}
        self.say(200, json.dumps(reply).encode(), "application/json")

    # --- STOW-RS -------------------------------------------------------------------------------------------

    def do_POST(self) -> None:
        self._begin()
        if self.where == urlsplit(self.archive.token_url).path:
            self._give_token()
            return
        with self.archive.lock:
            self.archive.at_once += 1
            self.archive.at_once_most = max(self.archive.at_once_most, self.archive.at_once)
        try:
            self._store()
        except _Interrupted:
            self.close_connection = True
        finally:
            with self.archive.lock:
                self.archive.at_once -= 1

    def _store(self) -> None:
        if self._refuses_caller():
            return
        found = self._ae_title()
        if not found or not re.fullmatch(r"/studies(/[^/]+)?", found[1]):
            self._drain()
            self.say(404, b"RESTEASY003210: Could not find resource", "text/plain")
            return
        ae_title = found[0]
        if ae_title not in self.archive.ae_titles:
            self._drain()
            known = ae_title in self.archive.without_stow
            self.say_error(
                404,
                f"No Web Application with STOW_RS service class found for Application Entity: {ae_title}"
                if known
                else f"No such Application Entity: {ae_title}",
            )
            return
        if refusal := self._refused_by_headers():
            self._drain()
            self.say_error(*refusal)
            return
        length = int(self.headers.get("Content-Length", "0"))
        if self.archive.max_post_bytes is not None and length > self.archive.max_post_bytes:
            if self.archive.too_large is None:
                reset(self.connection)
                raise _Interrupted
            self.close_connection = True
            self._drain()
            self.say(self.archive.too_large, b"java.io.IOException: UT000020", "text/plain")
            return
        with self.archive.lock:
            queued = self.archive.next_stores
            fault = queued.popleft() if queued else self.archive.every_store
        self._receive(fault)

    def _refused_by_headers(self) -> tuple[int, str] | None:
        content_type = self.headers.get("Content-Type", "")
        if not re.match(r'multipart/related;\s*type="?application/dicom"?\s*(;|$)', content_type):
            return 415, "Unsupported Media Type"
        if not re.search(r"boundary=", content_type):
            return 400, "Missing Boundary Parameter"
        if not any(word in self.headers.get("Accept", "*/*") for word in ("dicom+json", "dicom+xml", "*/*")):
            return 406, "Not Acceptable"
        if self.headers.get("Content-Encoding"):
            return 409, "not decoded"
        return None

    def _blocks(self) -> Iterator[bytes]:
        """Yield the body as it comes, Content-Length or chunked; a short body ends the connection."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length", "0"))
        while left:
            block = self.rfile.read1(min(BLOCK, left))
            if not block:
                raise _Interrupted
            left -= len(block)
            yield block

    def _watched(self, fault: Fault | None) -> Iterator[bytes]:
        paused = False
        for block in self._blocks():
            self.seen.bytes += len(block)
            if isinstance(fault, Pause) and not paused and self.seen.bytes >= fault.after_bytes:
                paused = True
                time.sleep(fault.seconds)
            limit = fault.after_bytes if isinstance(fault, Cut | Stall) else None
            if limit is not None and self.seen.bytes >= limit:
                if isinstance(fault, Stall):
                    self.archive.release.wait(60)
                yield block
                reset(self.connection)
                raise _Interrupted
            yield block

    def _receive(self, fault: Fault | None) -> None:
        boundary = re.search(r'boundary="?([^";]+)"?', self.headers["Content-Type"])
        assert boundary
        result = _Result()
        most = fault.store if isinstance(fault, Answer | Cut | Hang | Trickle) else None
        blocks = self._watched(fault)
        try:
            for kind, content in _parts(blocks, boundary[1].encode()):
                if kind != "application/dicom":
                    continue  # silently ignored
                if most is None or result.usable < most:
                    self._keep(content, result)
                result.usable += 1
        except _Malformed as error:
            for _ in blocks:
                pass
            self.say(500, f"java.io.IOException: {error}\n\tat org.dcm4che3...".encode(), "text/plain")
            return
        if fault is None or isinstance(fault, Pause) or not self._misbehave(fault, result):
            self._reply(result.status, result)

    def _keep(self, content: bytes, result: "_Result") -> None:
        try:
            header = pydicom.dcmread(BytesIO(content), stop_before_pixels=True)
            sop_class, sop = str(header.SOPClassUID), str(header.SOPInstanceUID)
            key = (str(header.StudyInstanceUID), str(header.SeriesInstanceUID), sop)
        except (InvalidDicomError, AttributeError, EOFError, ValueError):
            result.failed.append((NOT_A_DICOM_FILE, f"2.25.{uuid.uuid4().int}", 0xC499))
            result.warning = "org.dcm4che3.io.DicomStreamException: Not a DICOM Stream"
            return
        self.seen.uids.append(sop)
        archive = self.archive
        with archive.lock:
            archive.received.append((sop, hashlib.sha256(content).hexdigest()))
            if sop in archive.silent:
                return
            if sop in archive.failing and archive.fail_times.get(sop, 1) > 0:
                if sop in archive.fail_times:
                    archive.fail_times[sop] -= 1
                result.failed.append((sop_class, sop, archive.failing[sop]))
                result.warning = f"PatientID {header.get('PatientID', '')} is known otherwise"
                return
            archive.sendings[sop] = (*archive.sendings.get(sop, ()), self.began)
            if sop not in archive.stored:  # else listed as stored, and ignored: overwrite policy NEVER
                archive.there_since[sop] = time.monotonic()
                archive.stored[sop] = content if archive.keep else b""
                archive.sha256[sop] = hashlib.sha256(content).hexdigest()
                archive.keys.add(key)
                if institution := str(header.get("InstitutionName", "")):
                    archive.institutions[key[0], key[1]] = institution
            result.referenced.append((sop_class, sop, archive.warning.get(sop), key))

    def _reply(self, status: int, result: "_Result") -> None:
        headers = {"Warning": f'299 dcm4chee-arc "{result.warning}"'} if result.warning else {}
        if "dicom+xml" in self.headers.get("Accept", "") and "json" not in self.headers.get("Accept", ""):
            self.say(status, _xml(result), "application/dicom+xml", headers)
            return
        body = json.dumps(
            _json(result, "http://archive.example/rs/studies", self.archive.numbers_as_text),
            separators=(",", ":"),
        )
        self.say(status, body.encode(), self.archive.reply_media_type, headers)

    def _misbehave(self, fault: Fault, result: "_Result | None" = None) -> bool:
        """Do what the fault says; False: go on as if nothing had been said."""
        if isinstance(fault, Hang):
            self.archive.release.wait(60)
            reset(self.connection)
            self.close_connection = True
        elif isinstance(fault, Cut | Stall):
            reset(self.connection)
            self.close_connection = True
        elif isinstance(fault, Trickle):
            self._trickle(fault)
        else:
            time.sleep(fault.seconds)
            if fault.body is None:
                if result is None:
                    return False
                self._reply(fault.status, result)
            else:
                self.say(fault.status, fault.body, fault.content_type, fault.headers)
        return True

    def _trickle(self, fault: Trickle) -> None:
        """Say what is well-formed as far as it goes, until the peer has had enough of it."""
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\n"
        more = b"Content-Length: 1000000\r\n\r\n["
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.write(head + (more if fault.part == "body" else b"X-Padding: "))
            while not self.archive.release.wait(fault.seconds):
                self.wfile.write(b" ")


@dataclass
class _Result:
    usable: int = 0
    warning: str = ""
    referenced: list[tuple[str, str, int | None, tuple[str, str, str]]] = field(default_factory=list)
    failed: list[tuple[str, str, int]] = field(default_factory=list)

    @property
    def status(self) -> int:
        if not self.referenced:
            return 409
        return 202 if self.failed else 200


def _ui(uid: str) -> dict[str, Any]:
    return {"vr": "UI", "Value": [uid]}


def _json(result: _Result, url: str, numbers_as_text: bool) -> dict[str, Any]:
    reply: dict[str, Any] = {"00081190": {"vr": "UR"}}
    studies = {key[0] for *_, key in result.referenced}
    if len(studies) == 1:
        reply["00081190"]["Value"] = [f"{url}/{studies.pop()}"]
    if result.failed:
        reply["00081198"] = {
            "vr": "SQ",
            "Value": [
                {
                    "00081150": _ui(sop_class),
                    "00081155": _ui(sop),
                    "00081197": {"vr": "US", "Value": [str(code) if numbers_as_text else code]},
                }
                for sop_class, sop, code in result.failed
            ],
        }
    items = []
    for sop_class, sop, warning, (study, series, _) in result.referenced:
        item = {"00081150": _ui(sop_class), "00081155": _ui(sop)}
        item["00081190"] = {"vr": "UR", "Value": [f"{url}/{study}/series/{series}/instances/{sop}"]}
        if warning is not None:
            item["00081196"] = {"vr": "US", "Value": [warning]}
        items.append(item)
    if items:
        reply["00081199"] = {"vr": "SQ", "Value": items}
    return reply


def _xml(result: _Result) -> bytes:
    def attribute(tag: str, vr: str, value: str) -> str:
        return f'<DicomAttribute tag="{tag}" vr="{vr}"><Value number="1">{value}</Value></DicomAttribute>'

    def sequence(tag: str, items: list[str]) -> str:
        inner = "".join(f'<Item number="{n}">{item}</Item>' for n, item in enumerate(items, 1))
        return f'<DicomAttribute tag="{tag}" vr="SQ">{inner}</DicomAttribute>' if items else ""

    failed = [
        attribute("00081150", "UI", c) + attribute("00081155", "UI", u) + attribute("00081197", "US", str(reason))
        for c, u, reason in result.failed
    ]
    stored = [attribute("00081150", "UI", c) + attribute("00081155", "UI", u) for c, u, *_ in result.referenced]
    return (
        '<?xml version="1.0" encoding="UTF-8"?><NativeDicomModel xml:space="preserve" '
        'xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">'
        + sequence("00081198", failed)
        + sequence("00081199", stored)
        + "</NativeDicomModel>"
    ).encode()


def _parts(blocks: Iterator[bytes], boundary: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield (Content-Type, content) part by part, as strictly as dcm4che's MultipartParser.

    A delimiter line must end in CRLF at once; without a closing delimiter the parts before are given out
    first and then the parser fails.
    """
    buffer = bytearray(b"\r\n")  # a delimiter may stand at the very beginning
    delimiter = b"\r\n--" + boundary

    def more() -> bool:
        block = next(blocks, None)
        if block is None:
            return False
        buffer.extend(block)
        return True

    def upto(mark: bytes) -> bytes:
        start = 0
        while (at := buffer.find(mark, start)) < 0:
            start = max(0, len(buffer) - len(mark))
            if not more():
                raise _Malformed("EOFException")
        found = bytes(buffer[:at])
        del buffer[: at + len(mark)]
        return found

    upto(delimiter)
    while True:
        while len(buffer) < 2:
            if not more():
                raise _Malformed("EOFException")
        ending = bytes(buffer[:2])
        del buffer[:2]
        if ending == b"--":
            for _ in blocks:
                pass
            return
        if ending != b"\r\n":
            raise _Malformed("missing CR/LF after boundary")
        head = upto(b"\r\n\r\n")
        kind = re.search(rb"(?im)^content-type:\s*([^;\r\n]+)", head)
        if not kind:
            raise _Malformed("NullPointerException at MediaType.valueOf")
        yield kind[1].decode().strip(), upto(delimiter)
