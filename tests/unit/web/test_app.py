"""Every address there is, without the key, with a wrong one and with the right one: none can be forgotten."""

import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.routing import Route
from support.hostile.hostile_http import _request, _stage, http
from support.sites.shim_site import BROWSER, FOUND, KEY, below_orders, running_shim

from pipeline.model import OrderState
from pipeline.web import health, patient_names
from pipeline.web.app import routes
from pipeline.web.page_forms import token_of

OPEN = {"/api/health", "/api/openapi.json", "/api/docs", "/orders/assets/{name}"}
WRONG = [
    {},
    {"X-API-Key": ""},
    {"X-API-Key": "wrong"},
    {"X-API-Key": KEY[:-1]},
    {"X-API-Key": KEY.upper()},
    {"X-API-Key": f"{KEY},{KEY}"},
    {"Authorization": "Bearer"},
    {"Authorization": f"Bearer {KEY}x"},
    {"Authorization": f"Basic {KEY}"},
    {"Cookie": f"X-API-Key={KEY}"},
]
LINK = "GET /mkiso.php?accession_number=A1"
RIGHT = [{"X-API-Key": KEY}, {"Authorization": f"Bearer {KEY}"}]
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "get")
ROUTES = routes()


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch, running_shim(tmp_path_factory.mktemp("shim"), patch) as running:
        patch.setattr(patient_names.PatientNames, "name_of", lambda *_: "DOE^JANE")
        patch.setattr(health, "look_at", lambda _: [("pacs", False, True, "PACS at 10.0.0.1")])
        running.orders.plan = {"state": OrderState.DONE, "found": FOUND, "result": running.file(b"secret image")}
        running.page_of_one = running.page("/mkiso.php?accession_number=A1").url.removeprefix(running.url)
        yield running


def address(shim, route):
    """Return an address of this route that would be answered, if it may be."""
    path = route.path.replace("/orders/{reference}", below_orders(shim.page_of_one)).replace("{name}", "page.css")
    assert "{" not in path, f"say here how {route.path} is called"
    return f"{path}?accession_number=A1"


def test_every_route_is_a_plain_one_that_the_guard_knows():
    assert all(type(route) is Route for route in ROUTES)  # a mounted application would be others' routes
    assert {route.path for route in ROUTES} > OPEN


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_no_address_says_or_orders_anything_without_the_key(shim, route):
    before = len(shim.orders.asked)
    for method, headers, browser in itertools.product(METHODS, WRONG, ({}, BROWSER)):
        given = {**headers, **browser}
        answer = shim.request(method, address(shim, route), key=None, headers=given)
        if route.path in OPEN:
            assert answer.status_code in {200, 405, 503}, (method, given)
        else:
            assert answer.status_code == 401, (method, given)
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert_tells_nothing(shim, answer)
    assert len(shim.orders.asked) == before


@pytest.mark.parametrize("more", ["", "&file=1"])
def test_no_page_under_the_path_of_a_link_says_or_orders_anything_without_the_key(shim, more):
    before = len(shim.orders.asked)
    for method, headers, browser in itertools.product(METHODS, WRONG, ({}, BROWSER)):
        answer = shim.request(method, shim.page_of_one + more, key=None, headers={**headers, **browser})
        assert answer.status_code == 401, (method, headers)
        assert_tells_nothing(shim, answer)
    assert len(shim.orders.asked) == before


def assert_tells_nothing(shim, answer):
    for secret in ("A1", "DOE", "secret", "10.0.0.1", str(shim.folder)):
        assert secret not in answer.text


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_every_address_is_open_to_the_key(shim, route):
    for headers in RIGHT:
        method = "GET" if "GET" in (route.methods or ()) else "POST"
        token = token_of(shim.settings.site.spool, 1) if method == "POST" else None
        answer = shim.request(method, address(shim, route), key=None, headers=headers, data={"token": token})
        expected = {
            "/patient/by-accession": 501,
            "/api/health": 503,
            "/api/status": 404,
            "/orders/{reference}/again": 303,
        }
        otherwise = 404 if route.path.startswith("/operator") else 200  # it has a key of its own
        assert answer.status_code == expected.get(route.path, otherwise)


def test_where_there_is_no_key_the_tables_of_the_his_stay_closed_and_the_pages_of_orders_do_not(
    tmp_path, monkeypatch
):
    sql = {"kind": "sql", "query": [{"url": "sqlite://", "select": "SELECT :accession_number"}]}
    with running_shim(tmp_path, monkeypatch, shim={"api_key": ""}, patients=sql) as shim:
        for headers in (*WRONG, *RIGHT):
            answer = shim.get("/patient/by-accession?accession_number=A1", key=None, headers=headers)
            assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
        assert shim.request("GET", "/", key=None, headers=BROWSER).status_code == 200


# --- tricks -----------------------------------------------------------------------------------------------

PATHS = [
    *("//", "//mkiso.php", "/./", "/../mkiso.php", "/%2e%2e/mkiso.php", "/..%2fmkiso.php", "/mkiso.php/"),
    *("/mkiso.php%00", "/%00", "/mkiso.php;x=1", "/MKISO.PHP", "/mkiso%2Ephp%20", "/mkiso.php%0d%0aX-Evil:%201"),
    *("/orders/assets/../1-x/file", "/orders/assets/%2e%2e/app.py", "/orders/assets/..%2f..%2fapp.py"),
    *("/orders/assets//etc/passwd", "/orders//", "/orders/assets/", "/orders/assets", "/\\mkiso.php", "/%ff%fe"),
    *(
        "http://[/",
        "http://a@h/mkiso.php",
        "http:///mkiso.php",
        "ftp://h/mkiso.php",
        "//h/mkiso.php",
        "*",
        "/" + "a/" * 3000,
        "/%",
    ),
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:40])
@pytest.mark.parametrize("browser", ["", "Accept: text/html"])
def test_no_trick_with_a_path_reaches_another_address(path, browser):
    query = "?accession_number=A1"
    for key in (False, True):
        for method in ("GET", "POST", "HEAD"):
            more = [browser] if browser else []
            http(_request(f"{method} {path}{query}", *more, key=key), None)
            statuses = {answer["status"] for _, answer in _stage().seen}
            assert statuses <= ({404, 405} if key else {401}), (method, statuses)
            assert not _stage().orders.asked


@pytest.mark.parametrize(
    ("request_text", "statuses"),
    [
        (_request("GET /mkiso.php?accession_number=A1") * 3, [200, 200, 200]),  # pipelined
        (_request("GET /mkiso.php?accession_number=A1", key=False) + _request("GET /"), [401, 200]),
        (_request("GET /mkiso.php?accession_number=A1", "X-API-Key: wrong", key=False), [401]),
        (_request("GET /mkiso.php?accession_number=A1&accession_number=A2"), [400]),
        (_request("GET /mkiso.php?accession_number=A1&accession_numbers=A1"), [400]),
        (_request("GET /mkiso.php?accession_number=A1&container=zip&container=iso"), [400]),
        (_request("GET /mkiso.php?accession_number=A1%0d%0aSet-Cookie:%20x=1"), [400]),
        (_request("GET /mkiso.php?accession_number=A%00"), [400]),
        (_request("GET /mkiso.php?accession_number=A1", "Host: other"), []),  # RFC 9112, 3.2: two of them
        (_request("GET /mkiso.php?accession_number=A1", "Content-Length: 5", body="hello"), [200]),
        (_request("GET /mkiso.php?accession_number=A1", "Range: bytes=0-1", "Range: bytes=5-6"), [206]),
        (_request("GET /mkiso.php?accession_number=A1", "X-Request-ID: a\tb"), [200]),
        (_request("GET /mkiso.php?accession_number=A1").replace(b"HTTP/1.1", b"HTTP/1.0"), [200]),
        (
            _request("GET /mkiso.php?accession_number=A1").replace(b"HTTP/1.1", b"HTTP/2.0"),
            [200],
        ),  # answered as 1.1
        (_request("GET /mkiso.php?accession_number=A1").replace(b"\r\nHost: h", b""), []),
        (_request("GET /mkiso.php?accession_number=A1", "X-Evil: a\r\n folded"), [200]),
        (_request("GET /mkiso.php?accession_number=A1", "X-Evil : a"), []),
        (_request("GET /mkiso.php?accession_number=A1", "X-Evil: a\0b"), []),
        (_request("CONNECT h:443"), [404]),
        # the target in full (RFC 9112, 3.2.2)
        (_request("GET http://h/mkiso.php?accession_number=A1"), [200]),
        (_request("GET HTTPS://[::1]:80/mkiso.php?accession_number=A1"), [200]),
        (_request("GET http://h/mkiso.php?accession_number=A1", key=False), [401]),
        (_request("GET http://h?asset=page.css"), [200]),
        (_request("GET http://h/orders/http://h/mkiso.php?accession_number=A1"), [404]),
        # bytes above 127 as they stand: of Internet Explorer, and of programs that do not encode
        (_request(LINK).replace(b" HTTP", b"&nama=JOS\xc9 HTTP"), [200]),
        (_request(LINK).replace(b" HTTP", "&nama=JOSÉ HTTP".encode()), [200]),
        (b"\r\n" + _request(LINK).replace(b" HTTP", b"&nama=JOS\xc9 HTTP"), [200]),
        (_request(LINK, "X-Name: JOS\xc9"), [200]),
        (_request("GET /mkiso.php?accession_number=A").replace(b" HTTP", b"\xc9 HTTP"), [400]),
        (_request("GET /mk\xc9iso.php?accession_number=A1"), [404]),
    ],
)
def test_what_is_sent_oddly_is_answered_once_each_or_refused_at_the_door(request_text, statuses):
    http(request_text, None)
    assert [answer["status"] for _, answer in _stage().seen] == statuses


def test_a_line_that_comes_byte_by_byte_is_the_same_line():
    stage, whole = _stage(), _request(LINK, "X-Name: JOS\xc9").replace(b"A1 ", b"A1&nama=JOS\xc9 ")
    for begin in (b"", b"\r\n"):
        stage.begin()
        with stage.played():
            stage.loop.run_until_complete(stage.exchange(begin + whole, size=1))
        assert [answer["status"] for _, answer in stage.seen] == [200]
        scope = stage.seen[0][0]
        assert scope["query_string"] == b"accession_number=A1&nama=JOS%C9"
        assert dict(scope["headers"])[b"x-name"] == "JOS\xc9".encode()  # a header stays as it was said


def test_the_host_of_a_target_in_full_is_the_one_that_is_asked():
    http(_request("GET http://other:81/mkiso.php?accession_number=A1"), None)
    ((scope, _),) = _stage().seen
    assert [value for name, value in scope["headers"] if name == b"host"] == [b"other:81"]
    assert (scope["path"], scope["raw_path"]) == ("/mkiso.php", b"/mkiso.php")


def test_what_is_no_http_is_refused_in_the_words_of_the_interface(shim):
    stage = _stage()
    for content, status, words in (
        (b"\x16\x03\x01\x02\0\x01\0\r\n\r\n", b"400", "invalid parameter"),
        (b"GET /" + b"a" * 20000, b"413", "request too long"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 20000, b"413", "request too long"),
    ):
        head, _, body = stage.loop.run_until_complete(stage.exchange(content)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 " + status)
        told = json.loads(body)
        assert told["error"] == words
        assert f"X-Request-ID: {told['request_id']}".encode() in head


def test_a_slow_look_at_the_peers_takes_one_thread_however_many_ask(tmp_path, monkeypatch):
    goes_on, looks = threading.Event(), []
    monkeypatch.setattr(health, "look_at", lambda _: looks.append(goes_on.wait(20)) or [])
    with running_shim(tmp_path, monkeypatch) as shim, ThreadPoolExecutor(60) as crowd:
        try:
            asking = [crowd.submit(shim.get, "/api/health", key=None) for _ in range(60)]
            shim.orders.plan = {"state": OrderState.DONE, "result": shim.file(b"image")}
            answer = shim.get("/mkiso.php?accession_number=A1")
            assert (answer.status_code, looks) == (200, [])
        finally:
            goes_on.set()
        assert {one.result().status_code for one in asking} == {200}
    assert len(looks) == 1
