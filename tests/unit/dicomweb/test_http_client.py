"""What the HTTP client sends, as a server receives it."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from pipeline.dicomweb.auth import NoAuth
from pipeline.dicomweb.http_client import HttpClient, HttpTimeouts

WAITS = HttpTimeouts(5.0, 5.0, 5.0)


class _Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    received: ClassVar[list[tuple[int, str, list[tuple[str, str]]]]] = []

    def do_GET(self) -> None:
        self.received.append((self.client_address[1], self.path, self.headers.items()))
        self.send_response(302)
        for name, value in (("Location", "/elsewhere"), ("Set-Cookie", "a=b"), ("Content-Length", "2")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server():
    _Server.received.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join(10)


def test_a_request_keeps_its_connection_and_takes_no_redirect_cookie_proxy_or_password(
    server, monkeypatch, tmp_path
):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login l password p\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with HttpClient(NoAuth(kind="none"), WAITS) as client:
        replies = [client.get(f"{server}/studies", {"limit": 1}) for _ in range(2)]
    assert [(reply.status, reply.body) for reply in replies] == [(302, b"[]")] * 2
    (port, path, headers), (same_port, same_path, same_headers) = _Server.received
    assert (port, path, headers) == (same_port, same_path, same_headers)
    assert path == "/studies?limit=1"
    names = sorted(name for name, _ in headers)
    assert names == ["Accept", "Accept-Encoding", "Connection", "Host", "User-Agent"]


def test_a_configured_header_replaces_ours_of_the_same_name_in_whatever_letters(server):
    with HttpClient(NoAuth(kind="none"), WAITS, headers={"accept": "text/x", "X-Site": "s"}) as client:
        client.get(f"{server}/", {})
    ((_, _, headers),) = _Server.received
    assert [value for name, value in headers if name.lower() == "accept"] == ["text/x"]
    assert ("X-Site", "s") in headers
