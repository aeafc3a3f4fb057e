"""What pages of other sites may make a browser ask for, and under which names: it orders nothing."""

import socket

import pytest
from pydantic import ValidationError
from starlette.datastructures import Headers
from support.sites.shim_site import BROWSER, FOUND, KEY, running_shim, settings_of

from pipeline.model import OrderState
from pipeline.web.negotiation import is_embedded
from pipeline.web.our_hosts import is_ours
from pipeline.web.site_checks import looked_at

PRINT = "/send_rimage_multiple.php?accession_number=A1"
DONE = {"state": OrderState.DONE, "found": FOUND, "expected": 812, "received": 812, "sent": 812}
HIS = "https://his.example.org"
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
EXPLORER_8 = "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1; Trident/4.0)"


@pytest.fixture(scope="module")
def module_shim(tmp_path_factory):
    shim = {"allowed_origins": [HIS], "hosts": ["His.example.org", "[::1]:8090", "gateway:8090", "10.0.0.5"]}
    with (
        pytest.MonkeyPatch.context() as patch,
        running_shim(tmp_path_factory.mktemp("shim"), patch, shim=shim) as running,
    ):
        yield running


@pytest.fixture
def shim(module_shim):
    module_shim.orders.forget()
    module_shim.orders.plan = DONE
    return module_shim


def ask(shim, path=PRINT, host="his.example.org", **options):
    headers = {"Host": host, **options.pop("headers", {})}
    return shim.request(options.pop("method", "GET"), path, headers=headers, **options)


# --- embedded requests ------------------------------------------------------------------------------------

EMBEDDED = [
    *(
        {"Sec-Fetch-Dest": one}
        for one in ("image", "style", "script", "audio", "video", "font", "embed", "object")
    ),
    *(
        {"Sec-Fetch-Dest": one}
        for one in ("worker", "track", "report", "fencedframe", "of-tomorrow", "", "Document")
    ),
    {"Sec-Fetch-Dest": "empty"},
    {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example.org"},
    {"Sec-Fetch-Dest": "image", "Sec-Fetch-Site": "same-origin", **BROWSER},
    {"User-Agent": AGENT, "Accept": "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"},
    {"User-Agent": AGENT, "Accept": "text/css,*/*;q=0.1"},
    {"User-Agent": AGENT, "Accept": "audio/webm,audio/ogg,audio/*;q=0.9,application/ogg;q=0.7,*/*;q=0.5"},
    {"User-Agent": AGENT, "Accept": "video/webm,video/*;q=0.9,application/ogg;q=0.7,*/*;q=0.5"},
    {
        "User-Agent": EXPLORER_8.replace("8.0", "9.0"),
        "Accept": "image/png, image/svg+xml, image/*;q=0.8, */*;q=0.5",
    },
    {"User-Agent": AGENT, "Accept": "*/*", "Origin": "http://evil.example.org"},
    {"User-Agent": AGENT, "Accept": "*/*", "Origin": "null"},
    {"User-Agent": AGENT, "Accept": "*/*", "Origin": "http://his.example.org.evil.example"},
]
FOLLOWED = [
    {"Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "cross-site", **BROWSER},
    {"Sec-Fetch-Dest": "iframe", **BROWSER},
    {"Sec-Fetch-Dest": "frame", **BROWSER},
    {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "cross-site", "Origin": HIS},
    {"User-Agent": AGENT, "Accept": "*/*", "Origin": HIS},
    {"User-Agent": AGENT, "Accept": "*/*", "Origin": "http://his.example.org"},
    {"User-Agent": AGENT, "Accept": "*/*", "Origin": "http://his.example.org:8080"},
    {"User-Agent": AGENT, **BROWSER},
    {"User-Agent": "Java/1.8.0_292", "Accept": "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"},
    {"User-Agent": "Mozilla/3.0 (compatible; Indy Library)", "Accept": "text/html, */*"},
    {"User-Agent": "Mozilla/5.0 (Windows NT; en-US) WindowsPowerShell/5.1.19041.1", "Accept": "*/*"},
    {"User-Agent": EXPLORER_8, "Accept": "image/gif, image/x-xbitmap, image/jpeg, application/msword, */*"},
    {"User-Agent": "a-viewer/1.0", "Accept": "image/png"},
    {"User-Agent": "curl/7.88.1", "Accept": "*/*"},
]


@pytest.mark.parametrize("headers", EMBEDDED, ids=str)
def test_what_a_page_asks_for_by_itself_orders_nothing(shim, headers):
    for path in (PRINT, "/mkiso.php?accession_number=A1", PRINT + "&again=1&format=json"):
        answer = ask(shim, path, headers={"Accept": "*/*", **headers})
        assert answer.status_code == 403
        assert "not from a page" in answer.text
    assert not shim.orders.asked


@pytest.mark.parametrize("headers", FOLLOWED, ids=str)
def test_what_a_person_or_a_program_follows_orders(shim, headers):
    assert ask(shim, headers=headers).status_code in {200, 303}
    assert len(shim.orders.asked) == 1


def test_every_origin_may_be_allowed():
    headers = Headers({"sec-fetch-dest": "empty", "origin": "https://anywhere.example"})
    assert not is_embedded(headers, ("*",))
    assert is_embedded(Headers({"sec-fetch-dest": "empty"}), ("*",))


def test_no_answer_may_be_shown_in_a_page_of_another_site(shim):
    for path in (PRINT, "/nowhere", "/api/health"):
        assert ask(shim, path).headers["Cross-Origin-Resource-Policy"] == "same-origin"


# --- once more --------------------------------------------------------------------------------------------


def test_again_in_the_link_of_a_browser_is_a_button_and_of_a_program_an_order(shim):
    for expected in (1, 1):
        page = ask(shim, PRINT + "&again=1", headers=BROWSER)
        assert page.status_code == 303
        assert len(shim.orders.views) == expected
    text = ask(shim, PRINT.partition("?")[0] + page.headers["Location"], headers=BROWSER).text
    assert "not sent again" in text
    assert "Print once more" in text
    for headers in (BROWSER, {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}):
        assert ask(shim, PRINT + "&again=1&format=json", headers=headers).json()["already_sent"] is True
    assert len(shim.orders.views) == 1
    assert ask(shim, PRINT + "&again=1").json()["already_sent"] is False
    assert len(shim.orders.views) == 2


# --- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "his.example.org",
        "HIS.example.org",
        "his.example.org:8080",
        "his.example.org.",
        "[::1]:8090",
        "10.0.0.5:80",
    ],
)
def test_who_asks_for_a_name_of_ours_is_answered(shim, host):
    assert ask(shim, host=host).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example",
            "his.example.org.evil.example",
            "xhis.example.org",
            "example.org",
            "his.example.org@evil",
        ),
        *("gateway", "gateway:80", "[::1]", "[::1]:80", "10.0.0.50", "127.0.0.1", "his.example.org:8090:1", "a b"),
    ],
)
def test_who_asks_for_another_name_gets_and_orders_nothing(shim, host):
    for path in (PRINT, "/", "/orders/1-0123456789abcdef", "/mkiso.php?asset=page.css", "/patient/by-accession"):
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            answer = ask(shim, path, host, method=method)
            assert answer.status_code == 421
            assert method == "HEAD" or answer.json()["error"] == "not our host"
    assert not shim.orders.asked


@pytest.mark.parametrize("host", ["evil.example", ""])
def test_health_is_told_under_every_name_and_who_names_none_is_answered(shim, host):
    assert ask(shim, "/api/health", host).json().keys() == ({"status"} if host else {"status", "parts"})
    assert host or ask(shim, host=host).status_code == 200


@pytest.mark.parametrize(("name", "status"), [("evil.example", 421), ("his.example.org", 200)])
def test_the_host_of_a_target_in_full_counts(shim, name, status):
    request = f"GET http://{name}{PRINT} HTTP/1.1\r\nHost: his.example.org\r\nX-API-Key: {KEY}\r\n\r\n"
    host, _, port = shim.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(request.encode())
        assert connection.recv(100).startswith(f"HTTP/1.1 {status} ".encode())


def test_where_no_names_are_set_every_name_is_answered(tmp_path, monkeypatch):
    with running_shim(tmp_path, monkeypatch) as shim:
        shim.orders.plan = DONE
        assert ask(shim, host="evil.example").status_code == 200


def test_the_port_of_the_scheme_need_not_be_said():
    assert is_ours("his", ("his:80",))
    assert is_ours("his", ("his:443",))
    assert not is_ours("his", ("his:8090",))


@pytest.mark.parametrize(
    "host", ["https://his.example.org", "his.example.org/", "::1", "", "his example", "*.org"]
)
def test_a_name_that_cannot_be_one_is_a_mistake_in_the_configuration(tmp_path, host):
    with pytest.raises(ValidationError, match="as it stands in an address"):
        settings_of(tmp_path, shim={"hosts": [host]})


def test_check_proposes_the_line(tmp_path):
    notes = [text for level, text in looked_at(settings_of(tmp_path)) if level == "note"]
    (line,) = [text for text in notes if "hosts" in text]
    assert 'hosts = ["' in line
    assert '"127.0.0.1"' in line
    hosts = [name.strip(' "') for name in line.partition("hosts = [")[2].rstrip("]").split(",")]
    settings = settings_of(tmp_path, shim={"hosts": hosts})
    assert not [text for _, text in looked_at(settings) if "hosts" in text]
