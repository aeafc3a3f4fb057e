"""The one HTTP client: it sends every request, and every failure is classified here.

The client follows no redirects (a login page would turn the POST into a GET and answer 200), uses no compression,
and reads nothing from the environment: proxies and .netrc must not change the destination or our identity.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.message import Message
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Self
from urllib.parse import urlsplit

import requests
from requests.structures import CaseInsensitiveDict

from pipeline import __version__
from pipeline.crash_points import around, door
from pipeline.dicomweb.auth import Auth
from pipeline.dicomweb.multipart import Body
from pipeline.dicomweb.send_timeout import AnswerLimit, SlowReaderAdapter
from pipeline.dicomweb.transport_errors import NoReply, classified
from pipeline.errors import Configuration, PeerUnavailable

DICOM_JSON = "application/dicom+json"
_MOST_BYTES = 16 << 20  # Bytes of a reply that are read into memory; one reply lists a thousand instances.
_HEADERS = {
    "Accept": DICOM_JSON,
    "Accept-Encoding": "identity",
    "Connection": "keep-alive",
    "User-Agent": f"storestow/{__version__}",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP reply. `is_too_large` says that `body` is empty because it was longer than the limit."""

    status: int
    media_type: str
    body: bytes
    location_host: str = ""  # Host of a redirect; the rest of the address may hold secrets.
    retry_after: str = ""
    is_too_large: bool = False
    charset: str = ""  # As Content-Type declares it, "" if it does not.


@dataclass(frozen=True, slots=True)
class HttpTimeouts:
    """Time-outs in seconds: to connect, to wait for the first byte, to wait for the whole answer."""

    connect_seconds: float
    read_seconds: float
    answer_seconds: float


class HttpClient:
    """A few connections to one destination; use it as a context manager, or close it.

    Every method raises PeerUnavailable if nothing was sent, NoReply if something may have been sent, and
    Configuration if TLS or our credentials need a person's correction.
    """

    def __init__(
        self,
        auth: Auth,
        waits: HttpTimeouts,
        *,
        ca_bundle: Path | None = None,
        headers: Mapping[str, str] | None = None,  # Headers of every request; they replace ours of the same name.
    ) -> None:
        if ca_bundle and not ca_bundle.is_file():
            raise Configuration(f"ca_bundle: {ca_bundle} does not exist")
        self._auth = auth
        self._waits = waits
        self._ca_bundle = ca_bundle
        # A name in other letters is the same name.
        self._headers = dict(CaseInsensitiveDict({**_HEADERS, **(headers or {})}))
        self._of_thread = threading.local()  # requests does not promise that an adapter is thread-safe.
        self._adapters: list[SlowReaderAdapter] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for adapter in self._adapters:
            adapter.close()

    @door
    def get(self, url: str, parameters: Mapping[str, str | int]) -> Reply:
        """Send a GET to `url` and return the reply."""

        def send(header: str | None) -> Reply:
            return self._send("GET", url, header, params=dict(parameters))

        with around("request"):
            return self._asked(send)

    @door
    def fetch(self, url: str, accept: str, file: BinaryIO, most_bytes: int) -> Reply:
        """Write the body of a 200 reply to `file`, and return the reply without body.

        `is_too_large` says that the body was longer than `most_bytes` and is not complete in `file`.
        """

        def read(response: requests.Response) -> Reply:
            pieces = response.iter_content(1 << 18) if response.status_code == HTTPStatus.OK else ()
            left = most_bytes
            for piece in pieces:
                left -= len(piece)
                if left < 0:
                    break
                file.write(piece)
            return replace(_head(response), is_too_large=left < 0)

        def send(header: str | None) -> Reply:
            file.seek(0)
            file.truncate()
            return self._send("GET", url, header, read=read, headers={"Accept": accept})

        with around("request"):
            return self._asked(send)

    @door
    def post(self, url: str, body: Body, *, more_seconds: float) -> Reply:
        """Send `body` by POST, wait `more_seconds` longer than usual for the reply, and return it."""
        headers = {"Content-Type": body.content_type}
        with around("request"):
            return self._authorized(
                lambda header: self._send("POST", url, header, more_seconds, data=body, headers=headers)
            )

    def post_json(self, url: str, text: bytes) -> Reply:
        """Send JSON by POST and return the reply."""
        headers = {"Content-Type": "application/json"}
        return self._authorized(lambda header: self._send("POST", url, header, data=text, headers=headers))

    def _post_form(self, url: str, form: Mapping[str, str]) -> tuple[int, bytes]:
        headers = {"Accept": "application/json"}
        try:
            reply = self._send("POST", url, None, data=dict(form), headers=headers)
        except NoReply as error:
            raise PeerUnavailable(str(error)) from error
        return reply.status, reply.body

    def _asked(self, send: Callable[[str | None], Reply]) -> Reply:
        """Send a GET; once more if the connection broke, because the archive may have closed an idle one."""
        try:
            return self._authorized(send)
        except NoReply as error:
            if error.timed_out:
                raise
            return self._authorized(send)

    def _authorized(self, send: Callable[[str | None], Reply]) -> Reply:
        header = self._auth.authorization(self._post_form)
        reply = send(header)
        if reply.status == 401 and (other := self._auth.renewed(header, self._post_form)):
            return send(other)
        return reply

    def _send(
        self, method: str, url: str, authorization: str | None, more_seconds: float = 0.0, **what: Any
    ) -> Reply:
        headers = what.pop("headers", {})
        read = what.pop("read", _reply)
        if authorization:
            headers = headers | {"Authorization": authorization}
        try:
            adapter = self._adapter()
            self._of_thread.limit.seconds = self._waits.answer_seconds + more_seconds
            request = requests.PreparedRequest()
            request.prepare(method, url, self._headers | headers, **what)
            # A Session would take as long again to merge settings, cookies and redirects that there are none of.
            response = adapter.send(
                request,
                stream=True,
                timeout=(self._waits.connect_seconds, self._waits.read_seconds + more_seconds),
                verify=str(self._ca_bundle) if self._ca_bundle else True,
                cert=self._of_thread.certificate,
            )
            with response:
                taken: Reply = read(response)
                return taken
        except requests.RequestException as error:
            raise classified(error, url) from error

    def _adapter(self) -> SlowReaderAdapter:
        adapter: SlowReaderAdapter | None = getattr(self._of_thread, "adapter", None)
        if adapter is None:
            limit = self._of_thread.limit = AnswerLimit(self._waits.answer_seconds)
            self._of_thread.certificate = self._auth.certificate()
            adapter = self._of_thread.adapter = SlowReaderAdapter(limit, pool_connections=2, pool_maxsize=1)
            self._adapters.append(adapter)
        return adapter


def _reply(response: requests.Response) -> Reply:
    body = _body(response)
    return replace(_head(response), body=body or b"", is_too_large=body is None)


def _head(response: requests.Response) -> Reply:
    headers = response.headers
    return Reply(
        response.status_code,
        headers.get("Content-Type", "").partition(";")[0].strip().lower(),
        b"",
        (urlsplit(headers.get("Location", "")).netloc.rpartition("@")[2]),
        headers.get("Retry-After", ""),
        charset=_charset(headers.get("Content-Type", "")),
    )


def _charset(content_type: str) -> str:
    message = Message()
    message["Content-Type"] = content_type
    return message.get_content_charset("")


def _body(response: requests.Response) -> bytes | None:
    """Return the body, None if it is longer than the limit."""
    pieces, size = [], 0
    for piece in response.iter_content(1 << 16):
        size += len(piece)
        if size > _MOST_BYTES:
            return None
        pieces.append(piece)
    return b"".join(pieces)
