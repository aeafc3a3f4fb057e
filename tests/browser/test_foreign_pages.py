"""What a page of another site makes a real browser ask for, with and without Sec-Fetch-Dest: it orders nothing."""

import contextlib
import http.server
import threading

import pytest
from support.machine.chromium import chromium
from support.machine.dicom_programs import wait_until
from support.sites.shim_site import FOUND, running_shim

from pipeline.model import OrderState

pytestmark = pytest.mark.programs

DONE = {"state": OrderState.DONE, "found": FOUND, "expected": 812, "received": 812, "sent": 812}
LINK = "/send_rimage_multiple.php?accession_number=A1"
ATTACKS = {  # %s is the link; each page ends with a title that says that the browser has done it
    "image": "<img src='%s' onerror='done()' onload='done()'>",
    "style": "<link rel=stylesheet href='%s' onerror='done()' onload='done()'>",
    "script": "<script src='%s' onerror='done()' onload='done()'></script>",
    "script that may be read": "<script crossorigin src='%s' onerror='done()' onload='done()'></script>",
    "video": "<video src='%s' onerror='done()' onloadedmetadata='done()' autoplay muted></video>",
    "object": "<object data='%s' onerror='done()' onload='done()'></object>",
    "fetch": "<script>fetch('%s').finally(done)</script>",
    "fetch that reads nothing": "<script>fetch('%s', {mode: 'no-cors'}).finally(done)</script>",
    "fetch like a person": "<script>fetch('%s', {headers: {Accept: 'text/html'}}).finally(done)</script>",
    "prefetch": "<link rel=prefetch href='%s' onerror='done()' onload='done()'>",
    "beacon": "<script>navigator.sendBeacon('%s'); setTimeout(done, 500)</script>",
    "form": "<form method=post action='%s'></form><script>document.forms[0].submit()</script>",
}
# Over plain HTTP Chromium says of these no more than programs do (*/*), and of an object what it says of a frame.
UNKNOWN_OVER_HTTP = {"script", "video", "fetch that reads nothing", "object"}


class Evil(http.server.BaseHTTPRequestHandler):
    """A page of somebody else's, as the test has written it."""

    page = ""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        script = "<script>function done() { document.title = 'done' }</script>"
        self.wfile.write(f"<!doctype html>{script}<body>{self.page}".encode())

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Evil) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://evil.example:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stage")
    with (
        pytest.MonkeyPatch.context() as patch,
        running_shim(folder, patch, shim={"api_key": "", "hosts": ["127.0.0.1", "his.example"]}) as shim,
        chromium(folder / "chromium") as browser,
        serving() as evil,
    ):
        yield shim, browser, evil


@pytest.fixture
def shim(stage):
    stage[0].orders.forget()
    stage[0].orders.plan = DONE
    return stage[0]


@pytest.fixture
def browser(stage):
    yield stage[1]
    stage[1].close_tabs()


def attack(shim, browser, evil, what, host):
    """Have the browser show the page of an attack, and wait until it has done what the page says."""
    link = f"http://{host}:{shim.url.rpartition(':')[2]}{LINK}"
    Evil.page = ATTACKS[what] % link
    tab = browser.tab()
    tab.say("Emulation.setUserAgentOverride", userAgent="Mozilla/5.0 (X11) AppleWebKit/537.36 Chrome/130.0.0.0")
    tab.say("Page.navigate", url=evil)
    is_left = f"location.href.startsWith('http://{host}')"
    wait_until(lambda: tab.run(f"document.title === 'done' || {is_left}"), what=what)


@pytest.mark.parametrize("what", ATTACKS)
def test_a_page_of_another_site_orders_nothing(stage, shim, browser, what):
    attack(shim, browser, stage[2], what, "127.0.0.1")
    assert not shim.orders.asked


@pytest.mark.parametrize("what", sorted(ATTACKS.keys() - UNKNOWN_OVER_HTTP))
def test_it_orders_nothing_over_plain_http_either(stage, shim, browser, what):
    attack(shim, browser, stage[2], what, "his.example")
    assert not shim.orders.asked


def test_a_link_that_a_person_follows_from_another_site_orders(stage, shim, browser):
    Evil.page = f"<a href='{shim.url}{LINK}'>the study</a>"
    tab = browser.tab()
    tab.open(stage[2])
    tab.run("document.querySelector('a').click()")
    tab.wait_for("Sent to the CD publisher")
    assert len(shim.orders.asked) == 1


def test_a_button_of_a_copied_page_orders_nothing(stage, shim, browser):
    tab = browser.tab()
    tab.open(shim.url + LINK)
    tab.wait_for("Print once more")
    page = tab.run("location.href")
    Evil.page = f"<form method=post action='{page}'><input name=again value=1><button>go</button></form>"
    tab.open(stage[2])
    tab.run("document.querySelector('button').click()")
    tab.wait_for("This cannot be ordered from here")
    assert len(shim.orders.asked) == 1


def test_a_name_of_another_site_that_points_here_reads_nothing(shim, browser):
    tab = browser.tab()
    tab.open(f"http://evil.example:{shim.url.rpartition(':')[2]}{LINK}")
    tab.wait_for("This address is not ours")
    assert not shim.orders.asked
